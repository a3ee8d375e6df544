"""The page in a real browser: every block is drawn, nothing runs that should not, everybody can use it.

Needs Debian's Chromium (or ``CHROMIUM=/path``) and the extra ``browser`` (playwright, axe); skipped without.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded_run import record_run, training_row

from grpo_project.cli import main
from grpo_project.record.journal import Journal
from grpo_project.record.run_directory import Run
from grpo_project.reports.live import LiveData, ReportServer

pytestmark = [
    # playwright 1.65 on Python 3.11 leaves an event loop's socket to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`: pip install '.[browser]'")
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
SWITCHES = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
HOSTILE = """</script><script>window.owned = 1</script><img src=x onerror="window.owned = 1"> ' " &"""
FLAGS = ["--use_cpu", "--verifier_workers", "1", "--max_eval_samples", "10"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH (Debian: apt-get install chromium), nor in CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens a page and sees to it that nothing went wrong in it: no error, no refused script, no request."""
    faults: list[str] = []
    contexts: list[Any] = []

    def open_page(address: str | Path, width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("console", lambda line: faults.append(line.text) if line.type in ("error", "warning") else None)
        page.on("request", lambda request: faults.append(request.url) if request.url.startswith("https:") else None)
        page.goto(address if isinstance(address, str) else address.as_uri())
        page.wait_for_selector("html[data-drawn=true]", state="attached", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def train(folder: Path, *flags: str, kill_at: int | None = None) -> None:
    """A real training of the embedded model; killed once it has come to ``kill_at``."""
    command = [sys.executable, "-m", "grpo_project.cli", "train", "--output_dir", str(folder), *FLAGS, *flags]
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        if kill_at is not None:
            while process.poll() is None and (Run(folder).last_step or 0) < kill_at:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=600) == (0 if kill_at is None else -signal.SIGKILL)


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run that was killed twice."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    flags = ("--max_steps", "12", "--save_steps", "3", "--eval_every_n_steps", "4")
    train(folder, *flags, kill_at=4)
    train(folder, *flags, kill_at=8)
    train(folder, *flags)
    return folder


def report(*folders: Path, flags: tuple[str, ...] = ()) -> Path:
    target = folders[0] / "report.html"
    assert main(["report", *map(str, folders), *flags]) == 0
    return target


def drawn(page: Any, figure: str) -> bool:
    """Whether a figure has a chart with something in it."""
    chart = page.locator(f"[id='{figure}'] .chart")
    return chart.locator("svg path").count() > 3 or chart.locator("canvas").count() > 0


@pytest.mark.slow
def test_every_block_is_drawn_from_a_real_run_with_kills(killed_run: Path, visit: Any) -> None:
    page = visit(report(killed_run))
    for figure in (
        "learning",
        "levels",
        "attempts",
        "time",
        "tokens",
        "outcomes-of-groups",
        "outcomes",
        "problem-grid",
    ):
        assert drawn(page, figure), figure
    for metric in ("entropy", "grad_norm", "completions/max_length", "frac_reward_zero_std", "loss"):
        assert drawn(page, f"signal-{metric}"), metric
    text = page.inner_text("main")
    assert "2 interruptions" in text and "0 steps lost" in text
    assert page.locator("#attempts table").count() == 0, "a table is built when it is asked for"
    page.click("#attempts summary")
    starts = [row.split("\t") for row in page.inner_text("#attempts table").splitlines()[1:]]
    assert [row[4] for row in starts] == ["killed", "killed", "finished"]
    assert page.locator("#groups .matrix table").count() == 1
    assert page.locator("#groups .completion").count() == 4
    assert page.locator("#failures table").count() >= 1 and page.locator("#record table").count() >= 3
    page.click("#rest summary")
    page.wait_for_selector("[id='metric-curriculum/stage'] svg")


@pytest.mark.slow
def test_a_click_on_a_cell_opens_its_problem(killed_run: Path, visit: Any) -> None:
    page = visit(report(killed_run))
    grid = page.locator("#problem-grid .chart")
    grid.scroll_into_view_if_needed()
    box = grid.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#problem .completion")
    assert page.input_value("#problem-choice") != ""
    page.select_option("#problem-choice", index=1)
    assert page.inner_text("#problem h3") in page.inner_text("#problem-choice option:checked")


@pytest.mark.slow
def test_a_keyboard_reaches_what_a_mouse_does(killed_run: Path, visit: Any) -> None:
    page = visit(report(killed_run))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    legend = page.locator("#learning .key button").first
    before = page.locator("#learning svg path").count()
    legend.focus()
    page.keyboard.press("Enter")
    assert legend.get_attribute("aria-pressed") == "false"
    assert page.locator("#learning svg path").count() < before
    page.locator("header button").focus()
    page.keyboard.press("Space")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert drawn(page, "learning")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_an_accessibility_checker_has_nothing_to_say(killed_run: Path, visit: Any, scheme: str, width: int) -> None:
    page = visit(report(killed_run), width, color_scheme=scheme, bypass_csp=True)  # the checker is a script of its own
    page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing to scroll sideways"
    found = axe_api.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.slow
def test_it_can_be_printed(killed_run: Path, visit: Any, tmp_path: Path) -> None:
    page = visit(report(killed_run), color_scheme="dark")
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 50_000
    assert page.evaluate("document.documentElement.dataset.theme") == "dark", "as it was before"


@pytest.mark.slow
def test_a_run_of_one_step_and_a_lora_run_and_one_without_evaluations(tmp_path: Path, visit: Any) -> None:
    train(tmp_path / "one", "--max_steps", "1", "--use_peft", "--eval_every_n_steps", "1")
    train(tmp_path / "none", "--max_steps", "2", "--eval_every_n_steps", "0")
    one, none = (visit(report(tmp_path / name)) for name in ("one", "none"))
    assert drawn(one, "learning") and drawn(one, "problem-grid") and "in 1 step;" in one.inner_text("main")
    assert drawn(none, "learning") and none.locator("#problems").count() == 0
    assert "No evaluation was made" in none.inner_text("main")
    both = visit(report(tmp_path / "one", tmp_path / "none"))
    assert "use_peft" in both.inner_text("#flags")


def test_what_a_model_wrote_is_text(tmp_path: Path, visit: Any) -> None:
    folder = record_run(tmp_path / "a 'b' & <i>c", code=HOSTILE, prompt=HOSTILE)
    page = visit(report(folder))
    assert page.locator("#groups pre").first.inner_text() == HOSTILE
    page.click("#groups details summary")
    page.select_option("#problem-choice", index=1)
    page.hover("#learning svg")
    page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    assert page.evaluate("window.owned") is None
    assert page.locator("img").count() == 0
    assert page.inner_text("h1") == "a 'b' & <i>c"


def test_a_suspect_leads_to_its_group(tmp_path: Path, visit: Any) -> None:
    folder = record_run(tmp_path / "run", expected=("17", "39", "58"), code="def f(x):\n    return {1: 17, 2: 39}[x]")
    page = visit(report(folder))
    page.locator("#failures button", has_text="Show its group").first.click()
    assert (
        page.locator("#groups .signs")
        .first.inner_text()
        .startswith("Suspect: holds what 2 of its tests expect: 17, 39")
    )
    assert page.evaluate("document.activeElement.id") == "group-choice"


def test_several_runs_and_their_mean(tmp_path: Path, visit: Any) -> None:
    runs = [record_run(tmp_path / f"seed{i}", skill=-0.1 * i, config={"seed": i}) for i in range(3)]
    page = visit(report(*runs, flags=("--average",)))
    assert drawn(page, "compare-learning") and drawn(page, "compare-reward") and drawn(page, "compare-levels")
    assert "mean of 3 seeds" in page.inner_text("#learning-section")
    assert page.locator("#paired tbody tr").count() == 2
    assert "grpo.seed" in page.inner_text("#flags")


def test_a_picture_shows_one_figure_alone(tmp_path: Path, visit: Any) -> None:
    target = report(record_run(tmp_path / "run"))
    page = visit(f"{target.as_uri()}#picture=learning")
    assert page.locator("figure").count() == 1 and drawn(page, "learning")


@pytest.mark.slow
def test_a_hundred_thousand_rows_make_a_small_page(tmp_path: Path, visit: Any) -> None:
    folder = record_run(tmp_path / "long", ((0, 20),), samples=False)
    with Journal(folder, 1) as journal:
        journal.event("resumed", step=20)
        for step in range(21, 100_001):
            row = training_row(step, 1)
            journal.metrics(step, "train", row | {"spike": 50.0 if step == 54_321 else step % 7 / 7})
    target = report(folder)
    assert target.stat().st_size < 3_000_000
    page = visit(target)
    page.click("#rest summary")
    page.click("#metric-spike summary")
    assert any(row.split("\t") == ["54,321", "50"] for row in page.inner_text("#metric-spike table").splitlines())


def test_the_served_page_follows_the_run(tmp_path: Path, visit: Any) -> None:
    folder = record_run(tmp_path / "run")
    server = ReportServer("run", LiveData([folder]))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        page = visit(server.url)
        assert "in 20 steps" in page.inner_text(".sentence")
        page.select_option("#group-choice", index=2)
        chosen = page.input_value("#group-choice")
        with Journal(folder, 1) as journal:
            journal.event("resumed", step=20)
            journal.metrics(21, "train", training_row(21, 1))
        page.wait_for_selector(".sentence:has-text('in 21 steps')", timeout=60_000)
        assert page.input_value("#group-choice") == chosen, "what was looked at stays"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

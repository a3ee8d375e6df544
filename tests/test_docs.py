"""The documentation says what is true: links lead somewhere, schemas are the written ones, symptoms are printed texts,
and the Chinese pages are in step with the English ones."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import trl

from grpo_project.record import evaluations, samples

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
EVERY_PAGE = [*DOCS.glob("*.md"), *DOCS.glob("zh/*.md"), ROOT / "README.md", ROOT / "README.zh-CN.md"]
sys.path.insert(0, str(ROOT / "tools"))

import cli_reference  # noqa: E402
import messages  # noqa: E402

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


def prose(path: Path) -> str:
    """The page without its code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def headings(path: Path) -> list[tuple[str, str]]:
    return re.findall(r"^(#+) (.+)$", prose(path), re.M)


def anchor(heading: str) -> str:
    """The address that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def code(path: Path) -> list[tuple[str, str]]:
    """Language and content of each block; comments and blanks at line ends are left out."""
    found = FENCE.findall(path.read_text(encoding="utf-8"))
    return [(language, re.sub(r"[ \t]*(?<!\S)#.*|[ \t]+$", "", text, flags=re.M)) for language, text in found]


@pytest.mark.parametrize("name", PAGES)
def test_the_chinese_page_is_in_step(name: str) -> None:
    english, chinese = DOCS / name, DOCS / "zh" / name
    assert chinese.is_file(), f"docs/zh/{name} is missing"
    assert [level for level, _ in headings(chinese)] == [level for level, _ in headings(english)]
    assert code(chinese) == code(english)
    rows = [len(re.findall(r"^\|", prose(path), re.M)) for path in (english, chinese)]
    assert rows[0] == rows[1], "the tables have other numbers of rows"


def test_there_is_no_chinese_page_without_an_english_one() -> None:
    assert {path.name for path in DOCS.glob("zh/*.md")} == set(PAGES)


@pytest.mark.parametrize("path", EVERY_PAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(path)):
        file, _, place = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if place:
            assert place in [anchor(text) for _, text in headings(target)], link


@pytest.mark.parametrize("folder", [DOCS, DOCS / "zh"], ids=["en", "zh"])
def test_the_index_names_every_page(folder: Path) -> None:
    linked = set(re.findall(r"\]\(([\w.-]+\.md)[)#]", (folder / "README.md").read_text(encoding="utf-8")))
    assert linked >= set(PAGES) - {"README.md"}


def schema_rows(name: str, title: str) -> dict[str, str]:
    """Column and type as the page's table under ``title`` has them."""
    text = (DOCS / name).read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", text, re.M))


def test_schemas_are_those_that_are_written() -> None:
    written = {field.name: str(field.type) for field in samples.SCHEMA}
    assert schema_rows("file-formats.md", "Training completions").items() >= written.items()
    own = {field.name: str(field.type) for field in evaluations.SCHEMA if field.name not in written}
    assert schema_rows("file-formats.md", "Evaluated completions") == own


def test_every_metric_of_trl_is_explained() -> None:
    source = (Path(trl.__file__).parent / "trainer" / "grpo_trainer.py").read_text(encoding="utf-8")
    names = set(re.findall(r'_metrics\[\w+\]\[f?"([^"]+)"\]', source))
    assert len(names) > 25
    explained = (DOCS / "metrics.md").read_text(encoding="utf-8")
    lacking = [name for name in names if f"`{re.sub('{.*}', 'NAME', name)}`" not in explained]
    assert not lacking


def written_events() -> set[str]:
    """The names of events that the source hands to the journal."""
    found: set[str] = set()
    for path in (ROOT / "grpo_project").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = messages.name_of(node.func) if isinstance(node, ast.Call) else ""
            if name in ("event", "_event", "append_event", "on_checkpoint"):
                constants = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                found |= {text for text in constants if isinstance(text, str)}
    return found


def test_every_event_is_described() -> None:
    assert len(written_events()) > 15
    described = (DOCS / "file-formats.md").read_text(encoding="utf-8")
    assert not [name for name in written_events() if f"`{name}`" not in described]


def as_pattern(text: str, hole: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, re.split(hole, text))), re.S)


def test_symptoms_are_texts_that_are_printed() -> None:
    """What stands in the first column, with ``...`` for values, is a message of the program or the beginning of one."""
    templates = [re.sub(r"\[/?[a-z ]*\]", "", text) for text in messages.templates()]  # without markup
    patterns = [as_pattern(text, r"\{\d+\}") for text in templates]
    symptoms = re.findall(r"^\| `([^`|]* [^`|]*)`", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.M)
    assert len(symptoms) > 20
    for symptom in symptoms:
        began = as_pattern(symptom, r"\.\.\.")
        printed = any(p.fullmatch(symptom) for p in patterns) or any(began.match(text) for text in templates)
        assert printed, symptom


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse words its help in another way in each version")
@pytest.mark.skipif(torch.accelerator.is_available(), reason="some defaults hang on the accelerator")
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_command_line_is_described_as_it_is(language: str) -> None:
    assert cli_reference.PAGES[language].read_text(encoding="utf-8") == cli_pages()[language], (
        "run `python tools/cli_reference.py`"
    )


@functools.cache
def cli_pages() -> dict[str, str]:
    return cli_reference.pages()


@pytest.mark.slow  # half a minute: nine commands, of which four load torch
def test_getting_started_can_be_followed(tmp_path: Path) -> None:
    """Every command of the page, sizes cut down, but for the last one, which needs a model from the hub."""
    text = (DOCS / "getting-started.md").read_text(encoding="utf-8")
    for name, content in re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", text, re.S):
        (tmp_path / name).write_text(content, encoding="utf-8")
    commands = [block for language, block in FENCE.findall(text) if language == "bash"][1:-1]
    assert len(commands) > 8
    for command in commands:
        small = command.replace("--max_steps 60", "--max_steps 2 --per_device_train_batch_size 8")
        small = small.replace("--step 60", "--step 2").replace(
            "--write graded.jsonl", "--write graded.jsonl --num_samples 1"
        )
        if "--step 2" in small:
            small = small.replace(" --status failed", "")
        done = subprocess.run(
            ["bash", "-c", small],
            cwd=tmp_path,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == (2 if "misspelt" in small else 0), f"{small}\n{done.stdout}{done.stderr}"

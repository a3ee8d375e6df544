"""What is told about a run: the closing table, the status."""

from __future__ import annotations

import io
import shlex
import shutil
from pathlib import Path

import pytest
from recorded_run import record_run
from rich.console import Console

from grpo_project.errors import ConfigError
from grpo_project.record.journal import Journal
from grpo_project.record.run_record import RunRecord
from grpo_project.reports import headline
from grpo_project.reports.status import run_status, status_lines
from grpo_project.reports.summary import run_summary

DECISION = {
    "action": "hold",
    "stage": "foundation",
    "next_stage": "foundation",
    "evidence": 0.5,
    "interval": [0.4, 0.6],
    "count": 20.0,
    "threshold": 0.7,
    "reason": "missing to advance: a lower bound above 0.70",
    "missing": "a lower bound above 0.70",
    "cause": "gate",
}


def evaluation(rate: float) -> dict[str, object]:
    main = "eval_avg_test_pass_rate"
    levels = {"foundation": rate, "expert": rate / 2}
    values: dict[str, object] = {f"eval/{level}/test_pass_rate": value for level, value in levels.items()}
    values |= {f"eval/{level}/problems": 5 for level in levels}
    return values | {
        main: rate,
        f"{main}_low": rate - 0.1,
        f"{main}_high": rate + 0.1,
        "eval/problems": 10,
        "eval/source": "builtin",
    }


def make_run(folder: Path, rates: dict[int, float]) -> Path:
    config = {"grpo": {"max_steps": 50, "num_train_epochs": 1}}
    record = RunRecord.create(folder, config, {"train": {}, "heldout": {}})
    with Journal(folder, 0) as journal:
        record.begin_attempt(0, None, 0, isolation="landlock")
        journal.event("started", step=0)
        for step, rate in rates.items():
            journal.metrics(step, "eval", evaluation(rate))
        journal.event("stage_decision", **{"step": 25, **DECISION})
        journal.event("checkpoint_failed", step=30, reason="no space left on device")
    return folder


def shown(renderable: object) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(renderable)
    return out.getvalue()


def test_summary_compares_the_first_and_the_last_evaluation(tmp_path: Path) -> None:
    text = shown(run_summary(make_run(tmp_path / "run", {0: 0.4, 25: 0.1, 50: 0.8})))
    cells = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if "│" in line]
    assert ["", "foundation", "5", "0.400", "0.800", "+0.400", ""] in cells
    assert ["", "expert", "5", "0.200", "0.400", "+0.200", ""] in cells
    assert ["", "all", "10", "0.400", "0.800", "+0.400", ""] in cells
    assert "built-in problems" in text
    assert "0.300 to 0.500 before, 0.700 to 0.900 after" in text
    assert "the final model" not in text, "there is none in this folder"


def test_status_of_a_killed_run_tells_why_it_stands_where_it_does(tmp_path: Path) -> None:
    status = run_status(make_run(tmp_path / "run", {0: 0.4, 25: 0.5}))
    assert status["status"] == "killed"
    assert status["step"] == 25
    text = " ".join(shown(status_lines(status)).split())
    for expected in (
        "25 of 50",
        "pass rate 0.500 [0.400, 0.600] on 10 held-out problems (builtin) at step 25",
        "a lower bound above 0.70",
        "trouble step 30: checkpoint_failed: no space left on device",
        f"started by grpo train --output_dir {tmp_path / 'run'}",
        f"to go on {headline.grpo()} resume {tmp_path / 'run'}",
    ):
        assert expected in text


def test_the_command_to_go_on_can_be_pasted(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "my run", {0: 0.4})
    record = RunRecord.read(folder)
    assert record is not None
    command = ["grpo", "train", "--overwrite_output_dir", "--dataset_path", "my data.json", "--hub_token", "a" * 20]
    record.attempts[-1]["command"] = command
    record.write()
    status = run_status(folder)
    assert status["command"] == f"{headline.grpo()} resume '{folder}' --hub_token ..."
    assert "--dataset_path 'my data.json'" in status["started_by"]
    assert shutil.which(shlex.split(status["command"])[0]) or "-m grpo_project.cli" in status["command"]
    record.attempts[-1]["command"] = ["torchrun", "--nproc_per_node=2", "-m", "grpo_project.cli", "train"]
    record.write()
    go_on = f"torchrun --nproc_per_node=2 -m grpo_project.cli resume '{folder}'"
    assert run_status(folder)["command"] == go_on


def test_what_went_wrong_long_ago_is_history(tmp_path: Path) -> None:
    folder = record_run(tmp_path / "run", ((0, 200),), every=20)
    with Journal(folder, 0) as journal:
        journal.event("alarm", step=17, kind="too_hard", cause="All fail.", remedy="Go back.")
        journal.event("alarm", step=190, kind="too_easy", cause="All pass.", remedy="Advance.")
        journal.event("checkpoint_failed", step=180, reason="no space left on device")
        journal.event("checkpoint", step=190)
        journal.event("evaluation_failed", step=200, reason="the sandbox is away")
    status = run_status(folder)
    assert [event["step"] for event in status["troubles"]] == [190], "all others are over"
    assert status["past_troubles"] == 3
    text = " ".join(shown(status_lines(status)).split())
    assert "All pass. Advance." in text and "All fail." not in text and "to go on" not in text
    assert "reward 1.000 (mean of the last steps)" in text
    assert "2.00 s a step, 500 tokens a second" in text
    assert "+0.875 [" in text and "since the first one" in text


def test_status_of_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run directory"):
        run_status(tmp_path)

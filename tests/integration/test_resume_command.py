"""Going on with a run of which nothing but its folder is named: ``grpo resume``, and the guide's own lines."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from grpo_project.cli import main
from grpo_project.record.run_directory import Run

PROBLEMS = [
    {"id": f"add-{i}", "prompt": f"Add {i} to x.", "entry_point": "f", "tests": [{"args": [1], "expected": 1 + i}]}
    for i in range(8)
]
FLAGS = [
    *("--dataset_path", "own data/train.json", "--eval_dataset_path", "own data/heldout.json", "--learning_rate=1e-2"),
    *("--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "1", "--num_generations", "4"),
    *("--max_completion_length", "8", "--eval_every_n_steps", "2", "--max_eval_samples", "2", "--save_steps", "1"),
    *("--verifier_workers", "1", "--use_cpu", "--no_verifier_cache", "--model_name", "model"),
]


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "own data").mkdir()
    (tmp_path / "own data" / "train.json").write_text(json.dumps(PROBLEMS[:6]))
    (tmp_path / "own data" / "heldout.json").write_text(json.dumps(PROBLEMS[6:]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stopped(folder: Path) -> Path:
    """A run of six steps that stands at two, as a kill leaves it."""
    assert main(["train", *FLAGS, "--output_dir", "out", "--max_steps", "2"]) == 0
    change(status="running", max_steps="6")
    return folder / "out"


def change(status: str, max_steps: str) -> None:
    path = Path("out/run.json")
    record: dict[str, Any] = json.loads(path.read_text())
    record["status"] = status
    record["config"]["grpo"]["max_steps"] = int(max_steps)
    command = record["attempts"][-1]["command"]
    command[command.index("--max_steps") + 1] = max_steps
    path.write_text(json.dumps(record))


def steps(folder: Path) -> list[int]:
    return [row["step"] for row in Run(folder).metrics("train")]


@pytest.mark.parametrize(
    "command",
    [
        ["resume", "out"],
        ["train", "--output_dir", "out"],
        ["train", "--resume_from_checkpoint", "out/checkpoint-2"],
        ["train", "--output_dir", "out", "--resume_from_checkpoint", "out/checkpoint-2"],
        ["resume", "out/checkpoint-1"],
    ],
    ids=" ".join,
)
def test_the_folder_is_enough(stopped: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert main(command) == 0
    assert steps(stopped) == [1, 2, 3, 4, 5, 6]
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "taken from out/run.json: --dataset_path own data/train.json" in printed
    again = json.loads((stopped / "run.json").read_text())["attempts"][-1]
    assert "own data/train.json" in again["command"] and "model" in again["command"]  # whole: it can be pasted
    assert {name.split(".")[1] for name in again["config_changes"]} <= {"output_dir", "resume_from_checkpoint"}
    assert main(["resume", "out"]) == 0
    assert "finished (step 6)" in capsys.readouterr().out


def test_from_another_folder(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = stopped.parent / "else where"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["resume", "../out"]) == 0
    assert steps(stopped) == [1, 2, 3, 4, 5, 6]


def test_flags_that_are_given_come_first(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", "out", "--max_steps", "4"]) == 0
    assert steps(stopped) == [1, 2, 3, 4]
    assert main(["resume", "out", "--learning_rate", "0.5"]) == 2
    assert "--learning_rate was 0.01, is 0.5" in capsys.readouterr().err


def test_a_time_limit_is_that_of_one_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing could unset it, and a run with a limit of seconds would never come to its end."""
    assert main(["train", *FLAGS, "--output_dir", "out", "--max_steps", "2", "--max_runtime", "1h"]) == 0
    change(status="running", max_steps="3")
    assert main(["resume", "out"]) == 0
    assert steps(folder / "out") == [1, 2, 3]
    assert "--max_runtime" not in capsys.readouterr().out
    assert "max_runtime" not in " ".join(json.loads(Path("out/run.json").read_text())["attempts"][-1]["command"])


def test_what_a_config_file_said_is_kept_without_the_file(folder: Path) -> None:
    Path("flags.yaml").write_text("max_steps: 2\nreward: mixed\n")
    assert main(["train", *FLAGS, "--output_dir", "out", "--config", "flags.yaml"]) == 0
    Path("flags.yaml").unlink()
    assert main(["resume", "out", "--max_steps", "3"]) == 0
    record = json.loads(Path("out/run.json").read_text())
    assert steps(Path("out")) == [1, 2, 3]
    assert record["config"]["run"]["reward"] in ("mixed", ["mixed"])
    assert main(["resume", "out", "--max_steps", "4"]) == 0  # and a second time


def test_secrets_are_asked_for_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*FLAGS, "--output_dir", "out", "--max_steps", "1", "--hub_token", "hf_abcdefghijklmnopqrst"]
    assert main(["train", *flags]) == 0
    assert main(["resume", "out", "--max_steps", "2"]) == 2
    assert capsys.readouterr().err == "grpo resume: run.json keeps no secrets; give --hub_token again\n"
    assert main(["resume", "out", "--max_steps", "2", "--hub_token", "hf_abcdefghijklmnopqrst"]) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "name the folder of the run"),
        (["nowhere"], "there is no such folder"),
        (["model"], "has no run.json"),
    ],
)
def test_nothing_to_go_on_with(folder: Path, capsys: pytest.CaptureFixture[str], argv: list[str], said: str) -> None:
    assert main(["resume", *argv]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_a_first_start_that_trained_nothing_may_change_its_flags(folder: Path) -> None:
    assert main(["train", *FLAGS, "--output_dir", "out", "--max_steps", "1", "--reward", "mixed"]) == 0
    change("failed", "1")
    Path("out/journal/metrics.jsonl").write_text("")
    shutil.rmtree("out/checkpoint-1")
    assert main(["train", *FLAGS, "--output_dir", "out", "--max_steps", "1"]) == 0
    assert json.loads(Path("out/run.json").read_text())["config"]["run"]["reward"] == ["pass_rate"]


def test_the_folder_that_the_run_was_started_in_is_recorded(stopped: Path) -> None:
    assert json.loads((stopped / "run.json").read_text())["attempts"][-1]["folder"] == os.getcwd()

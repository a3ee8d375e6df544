"""The command as a user meets it: exit codes, one-line errors, nothing written when something is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_project.cli import main

ROOT = Path(__file__).parents[1]
PROBLEM = {"id": "p1", "prompt": "Add one to x.", "entry_point": "f", "tests": [{"args": [1], "expected": 2}]}


def grpo(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "grpo_project.cli", *argv]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_help_names_the_commands(tmp_path: Path) -> None:
    done = grpo("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "train" in done.stdout


def test_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    done = grpo("tran", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def write(path: Path, *rows: dict) -> str:
    path.write_text(json.dumps(list(rows)))
    return str(path)


def case_unknown_flag(folder: Path) -> tuple[list[str], str]:
    return ["--learning_rte", "1"], "did you mean --learning_rate?"


def case_missing_dataset(folder: Path) -> tuple[list[str], str]:
    return ["--dataset_path", "absent.json"], "absent.json"


def case_empty_dataset(folder: Path) -> tuple[list[str], str]:
    (folder / "empty.json").write_text("[]")
    return ["--dataset_path", "empty.json"], "empty.json"


def case_unreadable_dataset(folder: Path) -> tuple[list[str], str]:
    (folder / "broken.json").write_text('[{"id": ')
    return ["--dataset_path", "broken.json"], "broken.json"


def case_model_without_weights(folder: Path) -> tuple[list[str], str]:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    return ["--model_name", "./model"], "no weights"


def case_missing_model(folder: Path) -> tuple[list[str], str]:
    return ["--model_name", "./absent"], "no such folder"


def case_missing_checkpoint(folder: Path) -> tuple[list[str], str]:
    return ["--resume_from_checkpoint", "out/checkpoint-7"], "no such folder"


def case_no_latest_checkpoint(folder: Path) -> tuple[list[str], str]:
    return ["--resume_from_checkpoint", "latest"], "no checkpoint in out"


def case_output_is_a_file(folder: Path) -> tuple[list[str], str]:
    (folder / "file").write_text("")
    return ["--output_dir", "file/run"], "is a file"


def case_output_not_writable(folder: Path) -> tuple[list[str], str]:
    return ["--output_dir", "/proc/run"], "can't write to /proc"


def case_group_does_not_divide(folder: Path) -> tuple[list[str], str]:
    return ["--num_generations", "7"], "divide"


def case_overlapping_sets(folder: Path) -> tuple[list[str], str]:
    train = write(folder / "train.json", PROBLEM)
    heldout = write(folder / "heldout.json", {**PROBLEM, "id": "other"})
    return ["--dataset_path", train, "--eval_dataset_path", heldout], "p1"


def case_broken_curriculum(folder: Path) -> tuple[list[str], str]:
    (folder / "curriculum.yaml").write_text("stages: 7\n")
    return ["--curriculum_config", "curriculum.yaml"], "stages"


def case_printing_a_broken_curriculum(folder: Path) -> tuple[list[str], str]:
    return [*case_broken_curriculum(folder)[0], "--print_curriculum"], "stages"


CASES = [function for name, function in list(globals().items()) if name.startswith("case_")]


def test_the_script_of_existing_users_is_the_same_program(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "improved_training_script.py"), "--learning_rte", "1"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr == "grpo train: unknown argument --learning_rte; did you mean --learning_rate?\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.removeprefix("case_"))
def test_bad_input_ends_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case
) -> None:
    flags, expected = case(tmp_path)
    if "--output_dir" not in flags:
        flags = [*flags, "--output_dir", "out"]
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", *flags]) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert len(printed.err.strip().splitlines()) == 1, printed.err
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before

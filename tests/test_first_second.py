"""Mistakes are told before torch is imported, in one line; help needs it neither."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_project.cli import main
from grpo_project.commands.train_help import SAID, SUBJECTS, train_help
from grpo_project.config import known_flags

ROOT = Path(__file__).parents[1]
WITHOUT_TORCH = """
import sys
from grpo_project.cli import main
code = main(sys.argv[1:])
heavy = sorted({"torch", "transformers", "trl", "wandb"} & sys.modules.keys())
print("heavy:", *heavy)
sys.exit(code)
"""
MISTAKES = {
    "unknown flag": ["train", "--learning_rte", "1"],
    "kind": ["train", "--max_steps", "many"],
    "truth": ["train", "--use_peft", "perhaps"],
    "choice": ["train", "--reward", "random"],
    "range of ours": ["train", "--max_eval_samples", "0"],
    "range of TRL's": ["train", "--learning_rate", "-1"],
    "a group of one": ["train", "--num_generations", "1"],
    "group": ["train", "--num_generations", "7"],
    "stray word": ["train", "problems.json"],
    "two models": ["train", "--model", "a/b", "--model_name_or_path", "c/d"],
    "data": ["train", "--dataset", "absent.json"],
    "broken data": ["train", "--dataset", "broken.json"],
    "model": ["train", "--model", "./absent"],
    "yaml": ["train", "--config", "broken.yaml"],
    "yaml key": ["train", "--config", "typo.yaml"],
    "curriculum": ["train", "--curriculum_config", "absent.yaml"],
    "checkpoint": ["train", "--resume_from_checkpoint", "absent/checkpoint-3"],
    "output folder": ["train", "--output_dir", "broken.yaml/run"],
    "runtime": ["train", "--max_runtime", "long"],
    "tracking": ["train", "--report_to", "nothing"],
    "resume in W&B": ["train", "--wandb_resume", "sometimes"],
    "push": ["train", "--push_to_hub"],
    "nothing to resume": ["resume", "absent"],
    "evaluated model": ["evaluate", "--model", "./absent"],
    "evaluated data": ["evaluate", "--dataset", "absent.json"],
    "graded data": ["difficulty", "absent.json"],
    "page": ["report", "absent"],
    "picture": ["report", ".", "--output", "x.png"],
    "page's folder": ["report", ".", "--output", "absent/x.html"],
    "verified data": ["verify", "absent.json"],
    "status": ["status", "absent"],
}


@pytest.mark.parametrize("argv", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_without_torch(tmp_path: Path, argv: list[str]) -> None:
    (tmp_path / "broken.json").write_text('[{"id": ')
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    (tmp_path / "typo.yaml").write_text("learning_rte: 1\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", WITHOUT_TORCH, *argv]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "heavy:\n"
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(f"grpo {argv[0]}: ")


def test_the_script_in_a_python_without_the_packages_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-E", str(ROOT / "improved_training_script.py"), "--max_steps", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "has no torch and no trl" in done.stderr and ".venv/bin/python" in done.stderr


def test_help_has_every_flag_once_and_ours_first() -> None:
    short, everything = train_help(["--help"], False), train_help(["--help-all"], True)
    known = known_flags()
    for text, expected in ((short, None), (everything, len(known))):
        heads = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
        assert len(heads) == len(set(heads))
        assert expected is None or len(heads) == expected
    ours = {name for name, flag in known.items() if flag.library == "ours"}
    assert ours <= {name for names in SUBJECTS.values() for name in names}, "give it a subject"
    assert SAID.keys() <= known.keys()
    assert all(len(line) <= 120 for line in everything.splitlines())
    assert short.index("Model and data:") < short.index("Training:") < short.index("Curriculum:")


def test_help_shows_the_defaults_of_the_run_that_is_described() -> None:
    def default(name: str, *argv: str) -> str:
        lines = train_help([*argv, "--help"], False).splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith(f"  --{name} "))
        return lines[start + 1].rpartition("[")[2].rstrip("]")

    assert default("learning_rate") == "0.001"
    assert default("learning_rate", "--model", "x/y-7b", "--use_peft") == "1e-05"
    assert default("learning_rate", "--model", "x/y-7b", "--learning_rate", "3e-6") == "3e-06"


def test_help_needs_no_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, "train", "--help"], capture_output=True, text=True)
    assert done.stdout.endswith("heavy:\n") and done.returncode == 0
    assert main(["train", "--help"]) == 0
    assert "--model VALUE" in capsys.readouterr().out

"""A real pretrained model, SmolLM2-135M-Instruct (``make test-real``): what a model of random weights can't show."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest

pytestmark = pytest.mark.slow

MODEL = os.environ.get("GRPO_REAL_MODEL", "")
if not MODEL:
    pytest.skip("GRPO_REAL_MODEL names no folder with SmolLM2 (make test-real makes one)", allow_module_level=True)

SMALL = {
    "model_name": MODEL,
    "dataset_path": "builtin:everyday",
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "num_generations": 4,
    "max_completion_length": 24,
    "max_steps": 4,
    "save_steps": 2,
    "eval_every_n_steps": 0,
    "learning_rate": 2e-5,
    "gradient_checkpointing": "false",
    "dtype": "float32",
    "enable_curriculum": "false",
}
LORA = {"use_peft": "true", "lora_r": 8, "lora_target_modules": "q_proj", "learning_rate": 1e-4}


def command(name: str, *argv: str, **flags: Any) -> list[str]:
    given = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    return [sys.executable, "-m", "grpo_project.cli", name, *argv, *given]


def run(name: str, *argv: str, **flags: Any) -> str:
    done = subprocess.run(command(name, *argv, **flags), capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "journal" / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]


def newest(folder: Path) -> list[dict[str, Any]]:
    """The newest attempt's row for each step, without times."""
    by_step = {row["step"]: row for row in rows(folder)}

    def compared(name: str) -> bool:
        return name not in ("attempt", "step_time") and not name.startswith(("time", "memory/"))

    return [{key: value for key, value in by_step[step].items() if compared(key)} for step in sorted(by_step)]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("kind", "weights"), [({}, "model.safetensors"), (LORA, "adapter_model.safetensors")])
def test_killed_and_gone_on_is_the_run_that_was_never_killed(tmp_path: Path, kind: dict, weights: str) -> None:
    flags = SMALL | kind
    run("train", output_dir=tmp_path / "whole", **flags)
    process = subprocess.Popen(
        command("train", output_dir=tmp_path / "killed", **flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 1200
    while not (tmp_path / "killed" / "checkpoint-2").is_dir() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run("train", output_dir=tmp_path / "killed", **flags)
    assert digest(tmp_path / "killed" / weights) == digest(tmp_path / "whole" / weights)
    assert newest(tmp_path / "killed") == newest(tmp_path / "whole")
    assert len(newest(tmp_path / "whole")) == 4


def test_answers_come_in_fences_through_the_chat_template_and_may_be_cut_off(tmp_path: Path) -> None:
    run("train", output_dir=tmp_path, **SMALL | {"max_steps": 1, "max_completion_length": 48})
    samples = pyarrow.dataset.dataset(tmp_path / "samples", format="parquet").to_table().to_pylist()
    assert len(samples) == 8
    assert any("```python" in row["completion"] for row in samples)
    assert not any("<|im_" in row["completion"] for row in samples)  # the template's own tokens are no text
    row = rows(tmp_path)[0]
    assert 0 < row["completions/clipped_ratio"] <= 1
    assert row["entropy"] > 0.1


def test_it_solves_some_problems_before_any_training_and_difficulty_sorts_them(tmp_path: Path) -> None:
    sizes = {"max_new_tokens": 64, "batch_size": 24}
    said = run(
        "evaluate", model=MODEL, dataset="builtin:everyday", max_problems=24, output=tmp_path / "evaluation", **sizes
    )
    assert "builtin:everyday" in said
    results = [json.loads(path.read_text()) for path in (tmp_path / "evaluation").rglob("*.json")]
    assert results
    few = tmp_path / "few.jsonl"
    tests = [{"args": [value], "expected": value + 1} for value in range(4)]
    few.write_text(json.dumps({"id": "a", "prompt": "Return x plus 1.", "entry_point": "f", "tests": tests}) + "\n")
    measured = tmp_path / "measured.jsonl"
    run("difficulty", str(few), "--write", str(measured), model=MODEL, num_samples=4, output=tmp_path / "d", **sizes)
    assert json.loads(measured.read_text().splitlines()[0])["complexity"] is not None

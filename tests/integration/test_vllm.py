"""vLLM on the CPU, in the trainer's process (``make test-vllm``, an environment of its own)."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from grpo_project.record.samples import read_samples

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed (make test-vllm has an environment with it)", allow_module_level=True)

GRPO = Path(__file__).parent.parent / "support" / "vllm_on_cpu.py"
FLAGS = [
    *("--use_vllm", "true", "--vllm_mode", "colocate", "--max_steps", "3", "--save_steps", "1"),
    *("--per_device_train_batch_size", "8", "--num_generations", "4", "--max_completion_length", "32"),
    *("--eval_every_n_steps", "0", "--verifier_workers", "1"),
]


def command(folder: Path, *flags: str) -> list[str]:
    return [sys.executable, str(GRPO), "train", "--output_dir", str(folder), *FLAGS, *flags]


def train(folder: Path, *flags: str) -> Path:
    done = subprocess.run(command(folder, *flags), capture_output=True, text=True, timeout=1700)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def completions(folder: Path) -> list[tuple[Any, ...]]:
    rows = read_samples(folder, columns=["step", "problem_id", "completion"]).to_pylist()
    return sorted((row["step"], row["problem_id"], row["completion"]) for row in rows)


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def wait_and_send(folder: Path, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    deadline = time.monotonic() + 900
    while not (folder / "checkpoint-1").is_dir():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)


def test_killed_and_gone_on_draws_what_the_whole_run_drew(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    process = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_and_send(tmp_path / "killed", process, signal.SIGKILL)
    process.wait()
    killed = train(tmp_path / "killed")
    assert completions(killed) == completions(whole)
    assert weights(killed) == weights(whole)
    assert completions(train(tmp_path / "other", "--seed", "7", "--max_steps", "1")) != [
        row for row in completions(whole) if row[0] == 1
    ]


def test_a_stop_within_generation_saves_the_beginning_of_the_step(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path / "run", "--max_steps", "500"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_and_send(tmp_path / "run", process, signal.SIGTERM)
    assert process.wait(timeout=300) == 75
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_lora_in_bfloat16(tmp_path: Path) -> None:
    flags = ["--use_peft", "true", "--lora_r", "4", "--lora_target_modules", "q_proj", "--dtype", "bfloat16"]
    folder = train(tmp_path / "run", *flags)
    rows = [json.loads(line) for line in (folder / "journal" / "metrics.jsonl").read_text().splitlines()]
    ratios = [row["sampling/sampling_logp_difference/mean"] for row in rows if row["kind"] == "train"]
    assert len(ratios) == 3
    assert max(ratios) < 0.05  # vLLM samples from the very model that is trained
    assert os.path.getsize(folder / "adapter_model.safetensors") > 0

"""A Verilog run from end to end: the guide's manifest, trained, killed, resumed, looked at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from verilog_problems import ADDER_BENCH, XOR

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed"),
]
ROOT = Path(__file__).resolve().parents[2]


def write_manifest(folder: Path, name: str, count: int) -> Path:
    rows = []
    for i in range(count):
        module = f"{name}{i}"
        (folder / f"{module}.v").write_text(XOR.replace("TopModule", module))
        (folder / f"{module}_tb.v").write_text(ADDER_BENCH.replace("TopModule", module))
        rows.append(
            {
                "prompt": f"Write xor number {i} of {name}. The module MUST be named `{module}`.",
                "testbench_path": f"{module}_tb.v",
                "reference_verilog_path": f"{module}.v",
                "expected_total_tests": 4,
                "level": "basic",
                "task_id": module,
            }
        )
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def grpo(*arguments: str, **options) -> subprocess.Popen:
    environment = os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "grpo_project.cli", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "journal" / "metrics.jsonl").read_text().splitlines()]


def test_the_guide_s_manifest_is_trained_on_killed_and_resumed(tmp_path):
    train, heldout, run = write_manifest(tmp_path, "t", 4), write_manifest(tmp_path, "h", 2), tmp_path / "run"
    flags = ["train", "--dataset_path", str(train), "--eval_dataset_path", str(heldout), "--output_dir", str(run)]
    flags += [
        "--model_name",
        "builtin:verilog",
        "--recipe",
        "trl",
        "--per_device_train_batch_size",
        "8",
        "--num_generations",
        "4",
    ]
    flags += ["--max_completion_length", "16", "--max_steps", "6", "--save_steps", "2", "--reward", "stepwise"]
    flags += ["--eval_every_n_steps", "3", "--bf16", "false"]
    process = grpo(*flags)
    deadline = time.monotonic() + 200
    while not (run / "checkpoint-2").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()[0].decode()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = grpo(*flags)
    output = again.communicate(timeout=250)[0].decode()
    assert again.returncode == 0, output
    newest = {row["step"]: row["attempt"] for row in rows_of(run) if row["kind"] == "train"}
    assert sorted(newest) == [1, 2, 3, 4, 5, 6]
    versions = json.loads((run / "run.json").read_text())["versions"]
    assert versions["iverilog"].split(".")[0].isdecimal()
    samples = grpo("samples", str(run)).communicate(timeout=60)[0].decode()
    assert "t0" in samples or "t1" in samples or "t2" in samples or "t3" in samples

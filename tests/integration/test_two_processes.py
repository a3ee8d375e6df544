"""Two ranks (gloo, CPU): the killed and resumed run ends as the one that was left alone, bit for bit, on both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from chaos import differences

from grpo_project.record.run_directory import Run
from grpo_project.record.samples import read_samples

FLAGS = [
    *("--per_device_train_batch_size", "4", "--num_generations", "4", "--max_completion_length", "12"),
    *("--steps_per_generation", "2", "--max_steps", "5", "--save_steps", "3", "--eval_every_n_steps", "2"),
    *("--max_eval_samples", "5", "--verifier_workers", "1", "--max_resample", "1", "--use_cpu"),
]


def launch(output_dir: str, cwd: Path, ranks: str = "2", more: Sequence[str] = ()) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", ranks]
    command = [*launcher, "-m", "grpo_project.cli", "train", *FLAGS, *more, "--output_dir", output_dir]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_with_workers(launcher: int) -> None:
    """torchrun gives its workers sessions of their own, and they outlive it."""
    workers = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for pid in [launcher, *map(int, workers)]:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_two_ranks_sample_what_one_does(tmp_path: Path) -> None:
    """The same problems, and of each the same completions: which rank samples them changes nothing."""
    sizes = {"one": ("1", "8"), "two": ("2", "4")}
    found = {}
    for name, (ranks, size) in sizes.items():
        more = ["--per_device_train_batch_size", size, "--max_steps", "1", "--max_resample", "0"]
        run = launch(name, tmp_path, ranks, more)
        output, _ = run.communicate(timeout=200)
        assert run.returncode == 0, output
        columns = ["problem_id", "completion", "reward"]
        rows = read_samples(tmp_path / name, columns=columns).to_pylist()
        found[name] = sorted(tuple(row[column] for column in columns) for row in rows)
    assert len(found["one"]) == 16
    assert len({completion for _, completion, _ in found["one"]}) > 4
    assert found["one"] == found["two"]


@pytest.mark.timeout(280)
def test_two_ranks_resume_exactly(tmp_path: Path) -> None:
    alone = launch("alone", tmp_path)
    output, _ = alone.communicate(timeout=200)
    assert alone.returncode == 0, output

    killed = launch("fire", tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "fire" / "checkpoint-3").exists():
        assert killed.poll() is None and time.monotonic() < deadline, killed.communicate()
        time.sleep(0.02)
    kill_with_workers(killed.pid)
    killed.communicate()
    again = launch("fire", tmp_path)
    output, _ = again.communicate(timeout=200)
    assert again.returncode == 0, output
    assert "Resuming from fire/checkpoint-3" in output
    assert differences(tmp_path / "alone", tmp_path / "fire") == []
    assert [row["step"] for row in Run.open(tmp_path / "fire").metrics("train")] == [1, 2, 3, 4, 5]

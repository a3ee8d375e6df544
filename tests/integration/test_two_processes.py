"""Two ranks (gloo, CPU): the killed and resumed run ends as the one that was left alone, bit for bit, on both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from run_differences import differences

from grpo_project.record.run_directory import Run
from grpo_project.record.samples import read_samples

FLAGS = [
    *("--per_device_train_batch_size", "4", "--num_generations", "4", "--max_completion_length", "12"),
    *("--steps_per_generation", "2", "--max_steps", "5", "--save_steps", "3", "--eval_every_n_steps", "2"),
    *("--max_eval_samples", "5", "--verifier_workers", "1", "--max_resample", "1", "--use_cpu"),
]


def launch(output_dir: str, cwd: Path, *more: str, processes: int = 2) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    program = [*(launcher if processes > 1 else []), "-m", "grpo_project.cli"]
    command = [sys.executable, *program, "train", *FLAGS, *more, "--output_dir", output_dir]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_with_workers(launcher: int) -> None:
    """torchrun gives its workers sessions of their own, and they outlive it."""
    workers = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for pid in [launcher, *map(int, workers)]:
        os.kill(pid, signal.SIGKILL)


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_two_ranks_sample_what_one_does(tmp_path: Path) -> None:
    """The same problems, and of each the same completions: which rank samples them changes nothing."""
    sizes = {"one": (1, "8"), "two": (2, "4")}
    found = {}
    for name, (ranks, size) in sizes.items():
        more = ["--per_device_train_batch_size", size, "--max_steps", "1", "--max_resample", "0"]
        finish(launch(name, tmp_path, *more, processes=ranks))
        columns = ["problem_id", "completion", "reward"]
        rows = read_samples(tmp_path / name, columns=columns).to_pylist()
        found[name] = sorted(tuple(row[column] for column in columns) for row in rows)
    assert len(found["one"]) == 16
    assert len({completion for _, completion, _ in found["one"]}) > 4
    assert found["one"] == found["two"]


@pytest.mark.timeout(900)
def test_two_ranks_resume_exactly(tmp_path: Path) -> None:
    finish(launch("alone", tmp_path))
    killed = launch("fire", tmp_path)
    wait_for(killed, (tmp_path / "fire" / "checkpoint-3").exists)
    kill_with_workers(killed.pid)
    killed.communicate()
    assert "Resuming from fire/checkpoint-3" in finish(launch("fire", tmp_path))
    assert differences(tmp_path / "alone", tmp_path / "fire") == []
    assert [row["step"] for row in Run.open(tmp_path / "fire").metrics("train")] == [1, 2, 3, 4, 5]

    # A stop within a step, on both: the state at its beginning is saved.
    stopped = launch("soft", tmp_path)
    metrics = tmp_path / "soft" / "journal" / "metrics.jsonl"
    wait_for(stopped, lambda: metrics.exists() and b'"step":1,' in metrics.read_bytes())
    stopped.send_signal(signal.SIGTERM)  # torchrun hands it on to its workers
    output, _ = stopped.communicate(timeout=200)
    assert json.loads((tmp_path / "soft" / "run.json").read_text())["status"] == "interrupted", output
    finish(launch("soft", tmp_path))
    assert differences(tmp_path / "alone", tmp_path / "soft") == []


@pytest.mark.timeout(900)
def test_one_process_then_two_then_one(tmp_path: Path) -> None:
    """The same problems, completions and steps as on one; the weights up to rounding."""
    small = ("--per_device_train_batch_size", "8", "--save_steps", "1", "--max_resample", "0")
    finish(launch("alone", tmp_path, *small, processes=1))
    one = launch("many", tmp_path, *small, processes=1)
    wait_for(one, (tmp_path / "many" / "checkpoint-1").exists)
    one.kill()
    one.communicate()
    two = launch("many", tmp_path, *small)
    wait_for(two, (tmp_path / "many" / "checkpoint-3").exists)
    kill_with_workers(two.pid)
    output, _ = two.communicate()
    assert "2 processes instead of 1: 4 completions on each at once, 1 times a step" in output
    output = finish(launch("many", tmp_path, *small, processes=1))
    assert "1 processes instead of 2: 8 completions on each at once" in output
    assert "this resume is not bit-exact: 1 processes instead of 2" in output

    rows = [read_samples(tmp_path / name).select(["step", "problem_id", "completion"]) for name in ("alone", "many")]
    assert rows[0].equals(rows[1])
    steps = [[(row["step"], row["kind"]) for row in Run.open(tmp_path / n).metrics()] for n in ("alone", "many")]
    assert steps[0] == steps[1]
    assert {row["attempt"] for row in Run.open(tmp_path / "many").metrics("train")} == {0, 1, 2}
    # Adam makes a whole step of a gradient near 0, whichever sign rounding gave it: the gradients are compared, up to
    # what comes of that, and not the weights.
    norms = [[row["grad_norm"] for row in Run.open(tmp_path / n).metrics("train")] for n in ("alone", "many")]
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


@pytest.mark.timeout(300)
def test_processes_that_can_not_share_the_batch_are_one_line(tmp_path: Path) -> None:
    finish(launch("out", tmp_path, "--max_steps", "1", processes=1))
    output, _ = launch("out", tmp_path, "--max_steps", "2", processes=3).communicate(timeout=250)
    assert "which 3 processes can't share evenly" in output
    assert 'Traceback (most recent call last):\n  File "<frozen' not in output.split("grpo train:")[0]

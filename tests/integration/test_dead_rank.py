"""Two ranks without torchrun: when one dies, stops or loses the other, the one that is left ends and says why."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grpo_project.training.peers import SILENT_S

FLAGS = [
    *("--output_dir", "run", "--use_cpu", "true", "--max_steps", "500", "--eval_every_n_steps", "0"),
    *("--per_device_train_batch_size", "4", "--num_generations", "4", "--max_completion_length", "16"),
    *("--save_steps", "1", "--verifier_workers", "1"),
]


class Ranks:
    """Two processes of ``grpo train``, by rank."""

    def __init__(self, folder: Path, *flags: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder = folder
        self.processes = []
        for rank in range(2):
            group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
            environment = os.environ | group | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            command = [sys.executable, "-m", "grpo_project.cli", "train", *FLAGS, *flags]
            with (folder / f"rank{rank}.log").open("w") as log:
                self.processes.append(
                    subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
                )

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 240
        while not condition():
            assert time.monotonic() < deadline
            assert self.processes[0].poll() is None, self.said(0)
            time.sleep(0.05)

    def train(self) -> None:
        self.wait_for((self.folder / "run" / "checkpoint-2").is_dir)

    def said(self, rank: int) -> str:
        return (self.folder / f"rank{rank}.log").read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Ranks]]:
    started: list[Ranks] = []

    def begin(*flags: str) -> Ranks:
        started.append(Ranks(tmp_path, *flags))
        return started[-1]

    yield begin
    for ranks in started:
        for process in ranks.processes:
            process.kill()
            process.wait()


@pytest.mark.timeout(400)
def test_the_death_of_a_rank_is_told_in_one_line(start: Callable[..., Ranks]) -> None:
    ranks = start()
    ranks.train()
    dead = ranks.processes[1]
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    assert ranks.processes[0].wait(timeout=60) == 75
    said = ranks.said(0)
    assert f"rank 1 (process {dead.pid} on {socket.gethostname()}) is gone; this rank ends too" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_death_of_the_rank_that_holds_the_store(start: Callable[..., Ranks]) -> None:
    ranks = start()
    ranks.train()
    ranks.processes[0].send_signal(signal.SIGKILL)
    assert ranks.processes[1].wait(timeout=60) == 75
    said = ranks.said(1)
    assert "rank 0 (process" in said or "common store is gone" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_rank_that_stands_still_for_good_counts_as_gone(start: Callable[..., Ranks]) -> None:
    ranks = start()
    ranks.train()
    ranks.processes[1].send_signal(signal.SIGSTOP)
    assert ranks.processes[0].wait(timeout=SILENT_S + 20) == 75
    assert "rank 1 (process" in ranks.said(0)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hang_in_a_collective_is_seen_by_the_watchdog(start: Callable[..., Ranks]) -> None:
    ranks = start("--stall_after_s", "6", "--on_hang", "exit", "--preemption_grace_s", "3")
    ranks.train()
    ranks.processes[1].send_signal(signal.SIGSTOP)
    assert ranks.processes[0].wait(timeout=40) == 75
    assert "no progress for" in ranks.said(0)
    events = [json.loads(line) for line in (ranks.folder / "run" / "journal" / "events.jsonl").read_text().splitlines()]
    hang = next(event for event in events if event["event"] == "hang")
    assert any("all_reduce" in line or "gather" in line for lines in hang["stacks"].values() for line in lines)

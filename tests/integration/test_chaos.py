"""A small share of `make chaos` and `make faults`: killed runs end as the run that was left alone, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def harness(name: str, *arguments: str, timeout_s: float) -> str:
    # In a process of its own: it forks, and pytest's workers have threads.
    command = [sys.executable, str(HERE / name), *arguments]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(280)
@pytest.mark.parametrize("name", ["stage changes", "mid-buffer checkpoint", "stall, stop"])
def test_killed_runs_end_as_the_one_that_was_left_alone(name: str) -> None:
    printed = harness("chaos.py", "--only", name, "--kills", "4", timeout_s=270)
    assert "4 ends (2 SIGKILL, 1 SIGTERM, 1 max_runtime): model, rows, decisions" in printed


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills_over_every_configuration() -> None:
    harness("chaos.py", "--kills", "100", "--seed", "1", timeout_s=3500)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_fault_leaves_a_run_that_goes_on() -> None:
    assert "all as they should be" in harness("faults.py", timeout_s=1700)

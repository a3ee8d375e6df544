"""A small share of `make chaos`: killed runs end as the run that was left alone, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("chaos.py")
ROOT = HARNESS.parents[2]


def chaos(*arguments: str, timeout_s: float) -> str:
    # In a process of its own: it forks, and pytest's workers have threads.
    command = [sys.executable, str(HARNESS), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(280)
@pytest.mark.parametrize("name", ["stage changes", "mid-buffer checkpoint"])
def test_killed_runs_end_as_the_one_that_was_left_alone(name: str) -> None:
    assert "3 SIGKILLs" in chaos("--only", name, "--kills", "3", timeout_s=270)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills_over_every_configuration() -> None:
    chaos("--kills", "100", "--seed", "1", timeout_s=3500)

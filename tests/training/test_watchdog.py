"""A run that stands still says where, and ends if it is to: a hang in verification, generation and save."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from grpo_project.training.phases import Phases
from grpo_project.training.stop_request import StopRequest
from grpo_project.training.watchdog import Watchdog

HANGING = Path(__file__).parent.parent / "support" / "hanging_run.py"


def hang(
    place: str, folder: Path, kind: str, model: Path
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """A run of six steps that hangs at ``place`` in its third."""
    done = subprocess.run(
        [sys.executable, str(HANGING), place, str(folder), kind, str(model)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done, [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("place", ["verification", pytest.param("generation", marks=pytest.mark.slow)])
def test_a_hang_within_a_step_is_left_and_the_steps_beginning_is_saved(
    tmp_path: Path, tiny_model: Path, place: str
) -> None:
    done, events = hang(place, tmp_path, "python", tiny_model)
    assert done.returncode == 75, done.stderr
    assert [event["event"] for event in events] == ["hang"]
    assert events[0]["phase"] == place
    stacks = "\n".join(line for lines in events[0]["stacks"].values() for line in lines)
    assert "stand_still" in stacks
    assert f"in {place}; the run ends" in done.stderr
    assert (tmp_path / "checkpoint-2").is_dir()
    assert "left at step 2: hang" in done.stdout


@pytest.mark.slow
def test_a_hang_that_no_signal_interrupts_ends_with_the_process(tmp_path: Path, tiny_model: Path) -> None:
    """As native code or a collective that waits for ever."""
    done, events = hang("verification", tmp_path, "native", tiny_model)
    assert done.returncode == 75, done.stderr
    assert events[0]["phase"] == "verification"
    assert "could not be interrupted" in done.stderr
    assert (tmp_path / "checkpoint-2").is_dir()


@pytest.mark.slow
def test_a_hang_in_a_save_leaves_the_checkpoint_before(tmp_path: Path, tiny_model: Path) -> None:
    done, events = hang("save", tmp_path, "python", tiny_model)
    assert done.returncode == 75, done.stderr
    assert events[0]["phase"] == "save"
    assert (tmp_path / "checkpoint-2").is_dir()
    assert not (tmp_path / "checkpoint-3").exists()


def test_a_standstill_is_told_once_and_may_end_by_itself() -> None:
    told: list[dict[str, Any]] = []
    phases = Phases()

    def tell(event: str, **fields: Any) -> None:
        told.append({"event": event, **fields})

    with Watchdog(phases, StopRequest(), stall_after_s=0.2, tell=tell, every_s=0.02), phases.timed("generation"):
        wait_until(lambda: len(told) == 1)
        time.sleep(0.3)
        assert len(told) == 1
        phases.moved()
        wait_until(lambda: len(told) == 2)
    assert {event["phase"] for event in told} == {"generation"}
    assert any(thread.startswith("MainThread") for thread in told[0]["stacks"])


def test_writing_the_event_down_may_hang_as_well(capfd: pytest.CaptureFixture[str]) -> None:
    hung, phases = threading.Event(), Phases()

    def tell(*_: Any, **__: Any) -> None:
        hung.set()
        threading.Event().wait()

    with Watchdog(phases, StopRequest(), stall_after_s=0.1, tell=tell, every_s=0.02):
        assert hung.wait(30)
    assert "no progress for" in capfd.readouterr().err


def test_how_long_is_too_long() -> None:
    phases = Phases()
    assert Watchdog(phases, StopRequest()).limit_s() == 300
    assert Watchdog(phases, StopRequest(), stall_after_s=7).limit_s() == 7
    for _ in range(3):
        with phases.timed("save"):
            pass
    phases._durations["save"].extend([60.0] * 9)
    with phases.timed("save"):
        assert Watchdog(phases, StopRequest()).limit_s() == 600


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

"""Seconds by phase: an inner phase's time is not the outer one's, and nothing is counted twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from short_runs import build

from grpo_project.training.phases import Phases


def test_the_inner_phase_is_not_part_of_the_outer(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 4.0, 10.0, 20.0, 21.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    phases = Phases()
    with phases.timed("loss"), phases.timed("generation"):
        pass
    with phases.timed("save"):
        pass
    assert phases.take() == {"time/generation": 3.0, "time/loss": 7.0, "time/save": 1.0}
    assert phases.take() == {}


def test_a_row_says_where_its_steps_time_went(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(tiny_model, tmp_path, max_steps=2)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    for row in rows:
        parts = {name for name in row if name.startswith("time/")}
        assert parts >= {"time/generation", "time/verification", "time/loss", "time/scoring"}
        assert all(row[name] >= 0 for name in parts)

"""A run that stops and goes on has the same weights, metrics and prompts as the run that did not, bit for bit.

TRL's own trainer fails most of these (docs/resume.md). Killed processes are tested in tests/integration.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import build, history

from grpo_project.training.checkpoints import newest_whole

CONFIGURATIONS = {
    "defaults": {},
    "num_iterations=2, odd checkpoint": {"num_iterations": 2},
    "checkpoint in mid-buffer": {"steps_per_generation": 8, "save_steps": 3},
    "checkpoint in a later epoch": {"max_steps": 8, "save_steps": 5},
    "checkpoint on an epoch's end": {"max_steps": 6, "save_steps": 3},
    "LoRA with dropout": {"lora": True},
    "logged every second step": {"logging_steps": 2},
    "groups drawn anew, checkpoint in mid-buffer": {"max_resample": 2, "steps_per_generation": 8},
    "synced reference model": {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 2},
}


@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_resumed_run_equals_uninterrupted_run(tiny_model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = build(tiny_model, tmp_path / "run", **changes)
    whole.train()
    step = changes.get("save_steps", 3)

    resumed = build(tiny_model, tmp_path / "run", **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))

    assert whole.state.global_step == resumed.state.global_step == changes.get("max_steps", 6)
    assert history(whole) == history(resumed)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    assert resumed.problem_source.drawn == whole.problem_source.drawn[-len(resumed.problem_source.drawn) :]
    assert any(row["grad_norm"] > 0 for row in history(whole)), "the run must have learned something to compare"


def test_finished_run_stays_finished(tiny_model: Path, tmp_path: Path) -> None:
    """transformers trains one more step each time a finished run is resumed in mid-epoch."""
    first = build(tiny_model, tmp_path / "run", max_steps=4, save_steps=4)
    first.train()
    again = build(tiny_model, tmp_path / "run", max_steps=4, save_steps=4)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert again.state.global_step == 4
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name


class StopAtQuestion:
    """Wants to stop from the n-th time that it is asked."""

    def __init__(self, n: int) -> None:
        self.questions_left = n

    @property
    def pending(self) -> bool:
        self.questions_left -= 1
        return self.questions_left <= 0

    def saving(self) -> nullcontext[None]:
        return nullcontext()


@pytest.mark.parametrize("questions", [1, 3, 7, 11, 16, 25, 33])
def test_stop_in_mid_step_resumes_exactly(tiny_model: Path, tmp_path: Path, questions: int) -> None:
    """During generation, between verdicts, between micro-batches: the state at the step's beginning is saved."""
    settings = {"max_steps": 3, "save_steps": 50}
    whole = build(tiny_model, tmp_path / "whole", **settings)
    whole.train()

    stopped = build(tiny_model, tmp_path / "run", stop_request=StopAtQuestion(questions), **settings)
    stopped.train()
    assert stopped.interrupted
    selection = newest_whole(tmp_path / "run")
    assert selection.step == stopped.state.global_step < 3  # before the first step there is nothing to save

    resumed = build(tiny_model, tmp_path / "run", **settings)
    resumed.train(resume_from_checkpoint=str(selection.path) if selection.path else None)
    assert history(resumed) == history(whole)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    drawn = stopped.problem_source.drawn[: 2 * selection.step] + resumed.problem_source.drawn
    assert drawn == whole.problem_source.drawn

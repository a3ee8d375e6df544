"""A stop amid an evaluation puts the end of its step off: the resumed run is the one that nobody stopped."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import HashJudge, RandomSource, build, history

from grpo_project.evaluation.callback import EnhancedInferenceCallback
from grpo_project.problems.problem import CallTest, Problem
from grpo_project.training.checkpoints import newest_whole
from grpo_project.training.trainer import CodeTrainer

HELDOUT = [Problem(f"h{i}", f"Take {i} from x.", (CallTest((1,), 1 - i),) * 8, entry_point="f") for i in range(6)]
STEPS = 6
BEST = {"metric_for_best_model": "eval_avg_test_pass_rate", "greater_is_better": True}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "best model": {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, **BEST},
    "rate that follows evaluations": {
        **{"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5}},
        **{"eval_strategy": "steps", "eval_steps": 1, **BEST},
    },
    "evaluated by epochs": {"eval_strategy": "epoch", "lr_scheduler_type": "reduce_lr_on_plateau", **BEST},
    "rows of several steps": {"logging_steps": 2},
}


class StopInEvaluation:
    """Wants to stop as soon as an evaluation of ``step`` asks."""

    def __init__(self, step: int | None) -> None:
        self.step = step
        self.trainer: CodeTrainer | None = None
        self.pending = False

    def asked_by_evaluation(self) -> bool:
        self.pending = self.pending or (self.trainer is not None and self.trainer.state.global_step == self.step)
        return self.pending

    def saving(self) -> nullcontext[None]:
        return nullcontext()


class Learner(RandomSource):
    """A source whose metrics and draws follow the newest evaluation, as a curriculum's do."""

    def __init__(self) -> None:
        super().__init__()
        self.latest = -1.0

    def heard(self, result: Any) -> None:
        self.latest = result.pass_rate
        self.random.seed(result.pass_rate)

    def metrics(self) -> dict[str, float]:
        return {"curriculum/latest_performance": self.latest}

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"latest": self.latest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.latest = state["latest"]


def run(
    model: Path, folder: Path, changes: dict[str, Any], stop_at: int | None = None
) -> tuple[CodeTrainer, list[int]]:
    """Train, from the newest checkpoint if there is one. Returns the trainer and the steps that were evaluated."""
    source, stop, evaluated = Learner(), StopInEvaluation(stop_at), []

    def heard(result: Any) -> None:
        evaluated.append(result.step)
        source.heard(result)

    evaluation = EnhancedInferenceCallback(
        2, 4, problems=HELDOUT, verifier=HashJudge(), on_result=heard, stop_requested=stop.asked_by_evaluation
    )
    trainer = build(
        model,
        folder,
        stop_request=stop,
        callbacks=[evaluation],
        problem_source=source,
        components={"evaluation": evaluation},
        extra_metrics=source.metrics,
        **({"max_steps": STEPS, "save_steps": 4, "num_train_epochs": 1} | changes),
    )
    evaluation.bind(trainer)
    trainer.step_end_incomplete = lambda: evaluation.abandoned == trainer.state.global_step
    stop.trainer = trainer
    checkpoint = newest_whole(folder).path
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer, evaluated


@pytest.mark.parametrize("stop_at", [2, 3, 4, STEPS])
@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_the_resumed_run_is_the_one_that_nobody_stopped(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], stop_at: int
) -> None:
    whole, evaluated = run(tiny_model, tmp_path / "whole", changes)
    assert not whole.interrupted
    if stop_at not in evaluated:
        pytest.skip(f"nothing is evaluated at step {stop_at} here")
    stopped, before = run(tiny_model, tmp_path / "run", changes, stop_at)
    assert stopped.interrupted and stop_at not in before
    assert newest_whole(tmp_path / "run").step == stop_at
    if changes.get("eval_strategy") != "epoch":
        assert all(row["step"] < stop_at for row in stopped.state.log_history if "loss" in row)

    again, after = run(tiny_model, tmp_path / "run", changes, stop_at)  # a second stop at the same place
    assert again.interrupted and after == []
    resumed, after = run(tiny_model, tmp_path / "run", changes)
    assert not resumed.interrupted
    assert before + after == evaluated
    assert history(resumed) == history(whole)
    assert resumed.state.best_metric == whole.state.best_metric
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name

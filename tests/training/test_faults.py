"""Faults of our own amid training: a completion that can't be judged, a verifier that keeps failing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import HashJudge, build, history

from grpo_project.errors import SandboxError
from grpo_project.rewards import pass_rate
from grpo_project.training.checkpoints import newest_whole
from grpo_project.training.rollout import FaultCounter, RolloutBatch, Summary, group_results
from grpo_project.training.trainer import CodeTrainer
from grpo_project.verifier.verdict import Job, Status, Verdict


class FaultyJudge(HashJudge):
    """Can't judge completions whose hash says so; ``share`` of 16 of them."""

    def __init__(self, share: int) -> None:
        self.share = share

    def verdict(self, job: Job) -> Verdict:
        if int(job.id[:2], 16) % 16 < self.share:
            return Verdict(job.id, job.problem.id, Status.INFRASTRUCTURE, 0, 8)
        return super().verdict(job)


def train(model: Path, folder: Path, judge: Any, **changes: Any) -> CodeTrainer:
    trainer = build(model, folder, max_steps=4, save_steps=2, max_infrastructure_rate=1.0, **changes)
    trainer.judge = judge
    trainer.train()
    return trainer


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_completion_without_a_verdict_has_no_part_in_anything(tiny_model: Path, tmp_path: Path, beta: float) -> None:
    trainer = build(tiny_model, tmp_path, beta=beta, max_infrastructure_rate=1.0)
    trainer.judge = FaultyJudge(4)
    trainer.model.train()
    batch = trainer._generate_and_score_completions([{}] * 8)
    masked = batch["completion_mask"].sum(dim=1) == 0
    assert 0 < masked.sum() < 8
    assert (batch["advantages"][masked] == 0).all()
    assert batch["num_items_in_batch"] == batch["completion_mask"].sum()
    assert trainer._metrics["train"]["verifier/infrastructure_rate"] == [masked.float().mean().item()]

    # The gradient of the batch with these rows taken out: the same.
    trainer.current_gradient_accumulation_steps = 1
    kept = {n: v[~masked] if isinstance(v, torch.Tensor) and v.dim() else v for n, v in batch.items()}
    gradients = []
    for rows in (batch, kept):
        trainer.model.zero_grad()
        trainer._compute_loss(trainer.model, rows).backward()
        gradients.append([p.grad.clone() for p in trainer.model.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_the_mean_of_a_group_is_that_of_those_that_were_judged() -> None:
    def summary(reward: float | None) -> Summary:
        status = Status.INFRASTRUCTURE if reward is None else Status.FAILED
        return Summary("p", reward, (reward,), status, reward or 0.0, False)

    results = group_results([summary(r) for r in (1.0, None, 0.0, None, None, None)], size=3)
    assert results[1] is None and results[0] is not None
    assert (results[0].rewards, results[0].pass_rate, results[0].varied) == ([1.0, 0.0], 0.5, True)


def test_some_faults_do_not_end_a_run_and_are_on_record(tiny_model: Path, tmp_path: Path) -> None:
    trainer = train(tiny_model, tmp_path, FaultyJudge(2))
    assert trainer.state.global_step == 4
    rates = [row["verifier/infrastructure_rate"] for row in history(trainer)]
    assert 0 < sum(rates) < 4
    rewards = [row["reward"] for row in history(trainer)]
    assert all(0 < reward < 1 for reward in rewards)


def test_a_verifier_that_keeps_failing_ends_the_run_saved(tiny_model: Path, tmp_path: Path) -> None:
    class FailsLater(HashJudge):
        judged = 0

        def stream(self, jobs: Sequence[Job]) -> Iterator[Verdict]:
            self.judged += len(jobs)
            return FaultyJudge(16 if self.judged > 24 else 0).stream(jobs)

    class NeverStops:
        pending = False

        def saving(self) -> Any:
            from contextlib import nullcontext

            return nullcontext()

    trainer = build(tiny_model, tmp_path, stop_request=NeverStops(), max_steps=6, save_steps=50)
    trainer.judge = FailsLater()
    with pytest.raises(SandboxError, match="none of the 8 completions of a batch could be judged"):
        trainer.train()
    saved = newest_whole(tmp_path)
    assert saved.step == trainer.state.global_step == 3
    state = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())
    assert state["global_step"] == 3
    whole = build(tiny_model, tmp_path / "whole", max_steps=6, save_steps=50)
    whole.train()
    resumed = build(tiny_model, tmp_path, max_steps=6, save_steps=50)
    resumed.train(resume_from_checkpoint=str(saved.path))
    assert history(resumed) == history(whole)


def test_too_many_of_the_newest_thousand_end_a_run() -> None:
    def batch(faults: int, size: int = 100) -> list[Summary]:
        kinds = [Status.INFRASTRUCTURE] * faults + [Status.FAILED] * (size - faults)
        return [Summary("p", 0.0, (0.0,), status, 0.0, False) for status in kinds]

    counter = FaultCounter(0.02)
    assert counter.count(batch(20)) == 0.2
    for _ in range(9):
        assert counter.count(batch(0)) == 0.0
    counter.count(batch(20))  # the first twenty are no longer among the newest thousand
    with pytest.raises(SandboxError, match="21 of the newest 1000 completions"):
        counter.count(batch(1))


def test_rollout_batches_ask_once_for_equal_completions() -> None:
    from short_runs import PROBLEMS

    asked: list[str] = []

    class Counting(HashJudge):
        def verdict(self, job: Job) -> Verdict:
            asked.append(job.id)
            return super().verdict(job)

    batch = RolloutBatch([(PROBLEMS[0], "p")] * 4, Counting(), {"pass_rate": 1.0}, 4)
    batch.begin(0, "a")
    batch.begin(1, "a")
    batch.judge(["a", "a", "b", "a"], [False] * 4)
    rewards = batch.take("pass_rate", pass_rate(completions=[""] * 4, **batch.columns()))
    assert len(asked) == 2 and rewards == batch.rewards and rewards[0] == rewards[1] == rewards[3]
    assert [rollout.completion for rollout in batch.rollouts([0.0] * 4)] == ["a", "a", "b", "a"]

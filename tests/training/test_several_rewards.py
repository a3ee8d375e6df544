"""Several rewards in one run: each by its name in metrics and samples, their weighted sum in the advantages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainer import GROUP, LengthJudge, build

from grpo_project.errors import InfrastructureError
from grpo_project.rewards import pass_rate
from grpo_project.verifier.verdict import Job, Status, Verdict


def odd(completions: list[str], problem: list[Any], verdict: list[Verdict], **_: Any) -> list[float | None]:
    assert [p.id for p in problem] == [v.problem_id for v in verdict]
    return [float(len(text) % 2) if text else None for text in completions]


async def constant(completions: list[str], **_: Any) -> list[float]:
    return [3.0] * len(completions)


class FaultyJudge(LengthJudge):
    """Can't judge the third completion of each batch."""

    def stream(self, jobs: Sequence[Job]) -> Iterator[Verdict]:
        for place, verdict in enumerate(super().stream(jobs)):
            failed = Verdict(verdict.job_id, verdict.problem_id, Status.INFRASTRUCTURE, 0, 8)
            yield failed if place == 2 else verdict


def test_each_reward_reaches_trl_metrics_and_rollouts(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(tiny_model, tmp_path, set(), rewards=[pass_rate, odd, constant], reward_weights=[1.0, 0.5, 2.0])
    trainer.judge = FaultyJudge(set())
    trainer.max_infrastructure_rate = 1.0
    trainer.train()
    (row,) = [row for row in trainer.state.log_history if "loss" in row]
    rollouts = [rollout for groups in trainer.judged for group in groups for rollout in group]
    known = [rollout for rollout in rollouts if rollout.reward is not None]
    assert len(known) < len(rollouts)
    for name in ("pass_rate", "odd", "constant"):
        values = [r.rewards[name] for r in known if r.rewards[name] is not None]
        assert row[f"rewards/{name}/mean"] == pytest.approx(sum(values) / len(values), abs=1e-6)
    for rollout in known:
        pieces = [rollout.rewards["pass_rate"], 0.5 * (rollout.rewards["odd"] or 0.0), 2.0 * 3.0]
        assert rollout.reward == pytest.approx(sum(pieces))
        assert rollout.to_row()["rewards"] == rollout.rewards
    for rollout in rollouts:
        if rollout.reward is None:  # no verdict: no reward of any function, also of one that looks at the text alone
            assert set(rollout.rewards.values()) == {None} and rollout.advantage == 0.0
    for group in (rollouts[i : i + GROUP] for i in range(0, len(rollouts), GROUP)):
        rewards = torch.tensor([r.reward for r in group if r.reward is not None])
        found = torch.tensor([r.advantage for r in group if r.reward is not None])
        wanted = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        torch.testing.assert_close(found, wanted if len(set(rewards.tolist())) > 1 else 0 * found, rtol=1e-3, atol=1e-3)


def test_a_group_that_differs_in_one_reward_alone_counts_where_each_is_normalised(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Two rewards that cancel in the weighted sum and not once each is normalised (GDPO)."""

    def up(completions: list[str], **_: Any) -> list[float]:
        return [float(i % 2) for i in range(len(completions))]

    def down(completions: list[str], **_: Any) -> list[float]:
        return [-2.0 * (i % 2) for i in range(len(completions))]

    for aggregation, live in (("sum_then_normalize", False), ("normalize_then_sum", True)):
        settings = {"multi_objective_aggregation": aggregation, "rewards": [up, down], "reward_weights": [1.0, 0.5]}
        trainer = build(tiny_model, tmp_path, set(), **settings)
        trainer.model.train()
        advantages = trainer._generate_and_score_completions([{}] * 16)["advantages"]
        assert bool(advantages.any()) is live


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda completions, **_: [1.0], "gave 1 values for 16 completions"),
        (lambda completions, **_: [float("nan")] * len(completions), "gave nan"),
        (lambda completions, **_: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_reward_that_fails_ends_the_run_by_its_name(
    tiny_model: Path, tmp_path: Path, function: Any, text: str
) -> None:
    function.__name__ = "mine"
    with pytest.raises(InfrastructureError, match=f"the reward mine .*{text}"):
        build(tiny_model, tmp_path, set(), rewards=[function]).train()

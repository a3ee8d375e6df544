"""A bandit over the stages: draws from the one whose groups teach most at present (SEC, arXiv 2505.14970)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

from grpo_project.curriculum.sampler import Draw, Outcome, pick
from grpo_project.problems.problem import Problem


class BanditSampler:
    """Each stage is an arm, its reward the mean absolute advantage of its groups, tracked by an exponential average.

    An arm is drawn by the softmax of the averages, mixed with a floor shared equally by all arms; a problem uniformly
    from its stage, so that every draw is a probe. The batch shares that the stages ask for only say which arms are
    open: a stage whose share is 0 because it is empty or because its turn has not come (the mixed one) is not.
    """

    def __init__(
        self,
        pools: Sequence[Sequence[int]],
        problems: Sequence[Problem],
        learning_rate: float = 0.2,
        temperature: float = 0.3,
        floor: float = 0.2,
    ) -> None:
        self.learning_rate = learning_rate
        self.temperature = temperature
        self.floor = floor
        self._pools = pools
        self._values = [1.0] * len(pools)  # an unknown arm is worth a try

    def draw(self, shares: Sequence[float], rng: Random) -> Draw:
        stage = pick(self.probabilities(shares), rng)
        return Draw(rng.choice(self._pools[stage]), stage, True)

    def probabilities(self, shares: Sequence[float]) -> list[float]:
        """The chance of each arm."""
        weights = [
            math.exp(value / self.temperature) if share > 0.0 else 0.0
            for value, share in zip(self._values, shares, strict=True)
        ]
        arms, total = sum(1 for weight in weights if weight), sum(weights)
        return [self.floor / arms + (1.0 - self.floor) * weight / total if weight else 0.0 for weight in weights]

    def observe(self, draw: Draw, outcome: Outcome) -> None:
        if not draw.probe:  # drawn by somebody else, for no arm
            return
        self._values[draw.stage] += self.learning_rate * (outcome.mean_abs_advantage - self._values[draw.stage])

    def metrics(self, current: int) -> dict[str, float]:
        """``curriculum/entropy``: of the arms, as a share of the uniform distribution's."""
        open_arms = [1.0 if pool else 0.0 for pool in self._pools]
        chances = [chance for chance in self.probabilities(open_arms) if chance]
        if len(chances) < 2:
            return {"curriculum/entropy": 1.0}
        return {"curriculum/entropy": -sum(q * math.log(q) for q in chances) / math.log(len(chances))}

    def state_dict(self) -> dict[str, Any]:
        return {"values": list(self._values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._values = list(state["values"])

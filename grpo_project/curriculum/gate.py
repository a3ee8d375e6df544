"""The gate: whether the evidence on a stage is enough to leave it.

Evidence on a stage comes from rollouts (probes only: groups of problems that were drawn uniformly from the stage, see
``sampler``) and from the evaluations' problems of that stage, also before the stage is the current one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from grpo_project.curriculum.confidence import Bet, confidence_bounds, refutes, so_few_by_chance
from grpo_project.curriculum.stages import Stage

MAX_BETS = 64
"""The newest bets of a stage that are kept. Giving one up never makes an error more likely."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is known of a stage's pass rate (0 to 1). ``None`` where there is no evidence yet."""

    rate: float | None = None
    interval: tuple[float, float] | None = None
    """Lower and upper confidence bound."""
    count: float = 0
    """Groups and evaluated problems behind the rate."""


@dataclass
class _Evidence:
    """What is known of one stage."""

    values: list[float] = field(default_factory=list)
    """Mean pass rates of groups, oldest first."""
    bets: list[Bet] = field(default_factory=list)
    evaluations: int = 0
    held_out: tuple[float, float] = (0.0, 0.0)
    """Solved and failed problems of the newest evaluation that had any."""

    def start_bet(self, ordinal: int, held_out: tuple[float, float] = (0.0, 0.0)) -> None:
        """Bet on what comes from here on, and on the outcomes of held-out problems as they are now.

        A bet that nothing has come for yet has spent none of its share of alpha, so it starts here instead.
        """
        if self.bets and self.bets[-1] == Bet(len(self.values), self.bets[-1].ordinal):
            ordinal = self.bets.pop().ordinal
        self.bets.append(Bet(len(self.values), ordinal, *held_out))
        del self.bets[:-MAX_BETS]

    def drop_oldest(self, size: int) -> None:
        """Keep the newest ``size`` values. A bet that lost its first values is over."""
        surplus = len(self.values) - size
        if surplus > 0:
            del self.values[:surplus]
            self.bets = [replace(b, position=b.position - surplus) for b in self.bets if b.position >= surplus]


class Gate:
    """Collects evidence on every stage, by the stage's index, and judges one.

    It lets training go on when the lower confidence bound of the pooled evidence is above the threshold.

    A stage whose pass rate never exceeds its threshold, on uniformly drawn training problems and on the problems that
    the held-out ones were chosen from, is left with probability ``alpha`` at most over the whole run, however long it
    lasts and however often one looks (``confidence``). Bad luck doesn't block either, since a new bet starts at every
    evaluation. If the newest evaluation's problems alone refute the threshold (exact binomial test at ``alpha``), they
    have the last word: the rollouts then show memory.
    """

    def __init__(self, n_stages: int, alpha: float = 0.05, memory: int = 512, default_min_evaluations: int = 1) -> None:
        self.alpha = alpha
        self.default_min_evaluations = default_min_evaluations
        self.memory = memory
        self._ordinal = 1  # of the newest bet
        self._evidence = [_Evidence(bets=[Bet(0, 1)]) for _ in range(n_stages)]

    def add_rollout(self, index: int, pass_rate: float) -> None:
        """The mean pass rate of one group whose problem was drawn uniformly from the stage."""
        evidence = self._evidence[index]
        evidence.values.append(pass_rate)
        newest = evidence.bets[-1].position if evidence.bets else 0
        if len(evidence.values) - newest >= self.memory // 2:  # no evaluation came for long
            evidence.start_bet(self._next_ordinal())
        evidence.drop_oldest(self.memory)

    def add_evaluation(self, by_stage: Mapping[int, tuple[float, int]]) -> None:
        """One evaluation: the mean pass rate and number of the held-out problems of each stage that has some."""
        ordinal = self._next_ordinal()
        for index, evidence in enumerate(self._evidence):
            if index in by_stage:
                rate, n = by_stage[index]
                evidence.evaluations += 1
                evidence.held_out = (rate * n, (1.0 - rate) * n)
                evidence.start_bet(ordinal, evidence.held_out)
            else:
                evidence.start_bet(ordinal)

    def add_foreign_evaluation(self) -> None:
        """An evaluation that says nothing about the pass rate of any stage; the rollouts decide."""
        self.add_evaluation({})
        for evidence in self._evidence:
            evidence.evaluations += 1

    def _next_ordinal(self) -> int:
        self._ordinal += 1
        return self._ordinal

    def missing(self, index: int, stage: Stage, threshold: float) -> str:
        """What is missing to leave the stage, in words; empty if nothing is. Cheap enough for every step."""
        evidence = self._evidence[index]
        needed = self.default_min_evaluations if stage.min_evaluations is None else stage.min_evaluations
        if evidence.evaluations < needed:
            return f"{needed - evidence.evaluations} more evaluation(s) of the stage's problems (at least {needed})"
        if not refutes(np.array(evidence.values), evidence.bets, self.alpha, threshold):
            return f"a lower confidence bound above {threshold:.2f}"
        if so_few_by_chance(*evidence.held_out, threshold) <= self.alpha:
            return f"agreement of the held-out problems: they alone are surely below {threshold:.2f}, so this is memory"
        return ""

    def measure(self, index: int) -> Measure:
        evidence = self._evidence[index]
        bounds = confidence_bounds(np.array(evidence.values), evidence.bets, self.alpha)
        return Measure(bounds.mean, (bounds.lower, bounds.upper), bounds.count) if bounds else Measure()

    def state_dict(self) -> dict[str, Any]:
        stages = [
            {
                "values": list(e.values),
                "bets": [[bet.position, bet.ordinal, bet.solved, bet.failed] for bet in e.bets],
                "evaluations": e.evaluations,
                "held_out": list(e.held_out),
            }
            for e in self._evidence
        ]
        return {"ordinal": self._ordinal, "stages": stages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._ordinal = state["ordinal"]
        self._evidence = []
        for stage in state["stages"]:
            s = _of_version_2(stage) if "weights" in stage else stage
            bets = [Bet(*bet) for bet in s["bets"]]
            solved, failed = s["held_out"]
            self._evidence.append(_Evidence(list(s["values"]), bets, s["evaluations"], (solved, failed)))


def _of_version_2(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage's state from before bets counted held-out problems once: groups stay evidence, evaluations do not."""
    flags = stage["held_out"]
    return {
        "values": [value for value, flag in zip(stage["values"], flags, strict=True) if not flag],
        "bets": [[position - sum(flags[:position]), ordinal] for position, ordinal in stage["starts"]],
        "evaluations": stage["evaluations"],
        "held_out": [0.0, 0.0],
    }

"""Gates: whether the evidence on a stage is enough to leave it.

Evidence on a stage comes from rollouts (probes only: groups of problems that were drawn uniformly from the stage, see
``sampler``) and from the evaluations' problems of that stage, also before the stage is the current one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from grpo_project.curriculum.confidence import confidence_bounds, refuting_start
from grpo_project.curriculum.stages import Stage


@dataclass(frozen=True, slots=True)
class Measure:
    """What is known of a stage's pass rate (0 to 1). ``None`` where there is no evidence yet."""

    rate: float | None = None
    interval: tuple[float, float] | None = None
    """Lower and upper confidence bound; ``None`` from a gate that has none."""
    count: float = 0
    """Groups and evaluated problems behind the rate (threshold gate: evaluations)."""


class Gate(Protocol):
    """Collects evidence on every stage, by the stage's index, and judges one."""

    uses_rollouts: bool
    """Whether a stage can be left between evaluations, on rollouts."""

    def add_rollout(self, index: int, pass_rate: float) -> None:
        """The mean pass rate of one group whose problem was drawn uniformly from the stage."""

    def add_evaluation(self, index: int, pass_rate: float, n: int) -> None:
        """The mean pass rate of ``n`` held-out problems of the stage."""

    def add_unlabelled_evaluation(self, index: int, pass_rate: float, n: int) -> None:
        """The mean pass rate of ``n`` held-out problems of no stage, while stage ``index`` is trained."""

    def end_evaluation(self) -> None:
        """An evaluation is complete: its results on all stages have been added."""

    def missing(self, index: int, stage: Stage, threshold: float) -> str:
        """What is missing to leave the stage, in words; empty if nothing is. Cheap enough for every step."""

    def measure(self, index: int, stage: Stage) -> Measure: ...

    def has_fallen(self, index: int, stage: Stage, below: float) -> bool:
        """Whether the pass rate of a stage that was left is below ``below`` since, by the gate's measure of sure."""

    def moved(self, before: int, after: int) -> None:
        """Training has gone from one stage to another."""

    def metrics(self) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ThresholdGate:
    """The guide's gate: the mean of the stage's last W evaluations, after at least M of them since it was entered.

    It knows nothing of chance: with few evaluation problems it advances by luck.
    """

    default_min_evaluations = 3
    uses_rollouts = False

    def __init__(self, n_stages: int) -> None:
        self._evaluations: list[list[float]] = [[] for _ in range(n_stages)]

    def add_rollout(self, index: int, pass_rate: float) -> None:
        """Rollouts are no evidence here."""

    def add_evaluation(self, index: int, pass_rate: float, n: int) -> None:
        self._evaluations[index].append(pass_rate)

    def add_unlabelled_evaluation(self, index: int, pass_rate: float, n: int) -> None:
        self.add_evaluation(index, pass_rate, n)  # all there is to go by

    def end_evaluation(self) -> None:
        pass

    def missing(self, index: int, stage: Stage, threshold: float) -> str:
        needed = self.default_min_evaluations if stage.min_evaluations is None else stage.min_evaluations
        lacking = max(needed, 1) - len(self._evaluations[index])
        if lacking > 0:
            return f"{lacking} more evaluation(s) of the stage (at least {max(needed, 1)})"
        rate = self.measure(index, stage).rate
        if rate is None or rate < threshold:
            return f"a mean of {threshold:.2f} over the last {stage.window} evaluations"
        return ""

    def measure(self, index: int, stage: Stage) -> Measure:
        recent = self._evaluations[index][-stage.window :]
        return Measure(sum(recent) / len(recent), None, len(recent)) if recent else Measure()

    def has_fallen(self, index: int, stage: Stage, below: float) -> bool:
        recent = self._evaluations[index][-stage.window :]
        return len(recent) == stage.window and sum(recent) / len(recent) < below

    def moved(self, before: int, after: int) -> None:
        self._evaluations[after].clear()  # what counts is measured while the stage is trained

    def metrics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"evaluations": [list(seen) for seen in self._evaluations]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._evaluations = [list(seen) for seen in state["evaluations"]]


@dataclass
class _Evidence:
    """What is known of one stage, oldest first."""

    values: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    held_out: list[bool] = field(default_factory=list)
    starts: list[list[int]] = field(default_factory=list)
    """``[position, ordinal]`` of each bet's first value (see ``confidence``)."""
    evaluations: int = 0
    left_as: int = 0
    """The ordinal of the bet that began when the stage was left."""

    def add(self, value: float, weight: float, held_out: bool) -> None:
        self.values.append(value)
        self.weights.append(weight)
        self.held_out.append(held_out)

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[int, int]]]:
        """Values, weights and starts, as ``confidence`` takes them."""
        starts = [(position, ordinal) for position, ordinal in self.starts]
        return np.array(self.values, dtype=np.float64), np.array(self.weights, dtype=np.float64), starts

    def drop_oldest(self, size: int) -> None:
        """Keep the newest ``size`` values. A bet that lost its first values is over."""
        surplus = len(self.values) - size
        if surplus > 0:
            del self.values[:surplus], self.weights[:surplus], self.held_out[:surplus]
            self.starts = [[position - surplus, j] for position, j in self.starts if position >= surplus]


class ConfidentGate:
    """Advances when the lower confidence bound of the pooled evidence is above the threshold.

    A stage whose pass rate never exceeds its threshold, on uniformly drawn training problems and on the held-out ones,
    is left with probability ``alpha`` at most over the whole run, however long it lasts and however often one looks
    (``confidence``). Bad luck doesn't block either, since a new bet starts at every evaluation. If the held-out
    problems alone refute the threshold, they have the last word: the rollouts then show memory.
    """

    uses_rollouts = True

    def __init__(self, n_stages: int, alpha: float = 0.05, memory: int = 512, default_min_evaluations: int = 1) -> None:
        self.alpha = alpha
        self.default_min_evaluations = default_min_evaluations
        self.memory = memory
        self._ordinal = 1  # of the newest bet
        self._evidence = [_Evidence(starts=[[0, 1]]) for _ in range(n_stages)]

    def add_rollout(self, index: int, pass_rate: float) -> None:
        evidence = self._evidence[index]
        evidence.add(pass_rate, 1.0, held_out=False)
        if len(evidence.values) - evidence.starts[-1][0] >= self.memory // 2:  # no evaluation came for long
            evidence.starts.append([len(evidence.values), self._next_ordinal()])
        evidence.drop_oldest(self.memory)

    def add_evaluation(self, index: int, pass_rate: float, n: int) -> None:
        evidence = self._evidence[index]
        evidence.evaluations += 1
        for value, weight in ((1.0, pass_rate * n), (0.0, (1.0 - pass_rate) * n)):
            if weight > 0.0:
                evidence.add(value, weight, held_out=True)
        evidence.drop_oldest(self.memory)

    def add_unlabelled_evaluation(self, index: int, pass_rate: float, n: int) -> None:
        """It says nothing about the pass rate of any stage; the rollouts decide."""
        for evidence in self._evidence:
            evidence.evaluations += 1

    def end_evaluation(self) -> None:
        ordinal = self._next_ordinal()
        for evidence in self._evidence:
            evidence.starts.append([len(evidence.values), ordinal])

    def _next_ordinal(self) -> int:
        self._ordinal += 1
        return self._ordinal

    def missing(self, index: int, stage: Stage, threshold: float) -> str:
        evidence = self._evidence[index]
        needed = self.default_min_evaluations if stage.min_evaluations is None else stage.min_evaluations
        if evidence.evaluations < needed:
            return f"{needed - evidence.evaluations} more evaluation(s) of the stage's problems (at least {needed})"
        start = refuting_start(*evidence.arrays(), self.alpha, threshold)
        if start is None:
            return f"a lower confidence bound above {threshold:.2f}"
        if self._held_out_refutes(evidence, start, threshold):
            return f"agreement of the held-out problems: they alone are surely below {threshold:.2f}, so this is memory"
        return ""

    def measure(self, index: int, stage: Stage) -> Measure:
        bounds = confidence_bounds(*self._evidence[index].arrays(), self.alpha)
        return Measure(bounds.mean, (bounds.lower, bounds.upper), bounds.count) if bounds else Measure()

    def _held_out_refutes(self, evidence: _Evidence, start: int, threshold: float) -> bool:
        """Whether the held-out results since ``start``, by themselves, refute that the rate reaches the threshold."""
        values, weights, _ = evidence.arrays()
        held_out = np.array(evidence.held_out, dtype=bool)
        held_out[:start] = False
        low = refuting_start(1.0 - values[held_out], weights[held_out], [(0, 1)], self.alpha, 1.0 - threshold)
        return low is not None

    def has_fallen(self, index: int, stage: Stage, below: float) -> bool:
        values, weights, starts = self._evidence[index].arrays()
        since = [(position, j) for position, j in starts if j >= self._evidence[index].left_as]
        return refuting_start(1.0 - values, weights, since, self.alpha, 1.0 - below) is not None

    def moved(self, before: int, after: int) -> None:
        ordinal = self._next_ordinal()
        if after < before:  # to be left again, it must be learnt again
            self._evidence[after] = _Evidence(starts=[[0, ordinal]])
        else:  # a fall is what happens from now on, not how weak it was at the beginning
            evidence = self._evidence[before]
            evidence.starts.append([len(evidence.values), ordinal])
            evidence.left_as = ordinal

    def metrics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        stages = [
            {
                "values": list(e.values),
                "weights": list(e.weights),
                "held_out": [int(flag) for flag in e.held_out],
                "starts": [list(start) for start in e.starts],
                "evaluations": e.evaluations,
                "left_as": e.left_as,
            }
            for e in self._evidence
        ]
        return {"ordinal": self._ordinal, "stages": stages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._ordinal = state["ordinal"]
        self._evidence = [
            _Evidence(
                list(s["values"]),
                list(s["weights"]),
                [bool(flag) for flag in s["held_out"]],
                [list(start) for start in s["starts"]],
                s["evaluations"],
                s["left_as"],
            )
            for s in state["stages"]
        ]

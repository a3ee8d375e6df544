"""Training's pass rate rises while the held-out one stays: the sign of a hacked reward or of learning by heart.

Looked for at each evaluation, against the one three before. What is trained on moves with the curriculum, so both
rates are taken by level and averaged over the levels that training and evaluation share: a change of the mixture alone
is no rise. Both have intervals: groups are the unit of training, problems, paired, that of the evaluation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from grpo_project.curriculum import Alarm, GroupResult
from grpo_project.evaluation.estimators import Estimate, interval_of_moments, mean_interval, paired_change
from grpo_project.evaluation.result import EvaluationResult

KIND = "reward_without_learning"
APART = 3
"""Evaluations between the two that are compared."""
MIN_GROUPS = 8
"""Groups of a level between two evaluations, and problems of it in them, from which the level counts."""
MIN_RISE = 0.03
"""A rise of training's pass rate that is certain, and yet smaller than this, is not worth a word."""
REMEDY = (
    "Look at the suspects of `grpo report`: programs that hold their tests' values, or far too short ones. "
    "Add tests to the problems, check that the held-out ones are of the same kind, raise --beta, or stop here."
)


@dataclass(slots=True)
class Window:
    """What happened between two evaluations, and what the second one found."""

    step: int
    moments: dict[str, list[float]] = field(default_factory=dict)
    """Level -> number of groups, sum and sum of squares of their pass rates."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Training completions by outcome."""
    rates: dict[str, float] = field(default_factory=dict)
    """Held-out pass rate by problem."""


class Divergence:
    """Finds it as the run goes; the same on every rank. Its state belongs into the checkpoint.

    Args:
        levels: the level of each training problem, by id.
    """

    def __init__(self, levels: Mapping[str, str]) -> None:
        self._levels = levels
        self._windows: list[Window] = []
        self._current = Window(0)
        self._active = False

    def observe_rollouts(self, results: Sequence[GroupResult]) -> None:
        """A generation batch was judged."""
        for result in results:
            moments = self._current.moments.setdefault(self._levels.get(result.problem_id, ""), [0, 0.0, 0.0])
            for place, value in enumerate((1, result.pass_rate, result.pass_rate**2)):
                moments[place] += value
            for status in result.statuses:
                self._current.statuses[status.value] = self._current.statuses.get(status.value, 0) + 1

    def observe_evaluation(self, result: EvaluationResult) -> Alarm | None:
        """Held-out problems were evaluated. Returns an alarm when the two rates have come apart since the last one."""
        self._current.step = result.step
        self._current.rates = result.rates
        self._windows = [*self._windows[-APART:], self._current]
        self._current = Window(result.step)
        if len(self._windows) <= APART:
            return None
        before, after = self._windows[0], self._windows[-1]
        found = compare(before, after, {score.problem_id: score.level for score in result.scores})
        was_active, self._active = self._active, found is not None and found.apart
        if found is None or not self._active or was_active:
            return None
        return Alarm(KIND, result.step, found.cause(before, after), REMEDY)

    def state_dict(self) -> dict[str, Any]:
        def plain(window: Window) -> list[Any]:
            moments = {level: list(values) for level, values in window.moments.items()}
            return [window.step, moments, dict(window.statuses), dict(window.rates)]

        windows = [plain(window) for window in self._windows]
        return {"windows": windows, "current": plain(self._current), "active": self._active}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        def restored(plain: list[Any]) -> Window:
            step, moments, statuses, rates = plain
            return Window(step, {level: list(values) for level, values in moments.items()}, dict(statuses), dict(rates))

        self._windows = [restored(plain) for plain in state["windows"]]
        self._current = restored(state["current"])
        self._active = state["active"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both rates at both ends, over the same levels, and their changes with 95% intervals."""

    levels: list[str]
    trained: tuple[Estimate, Estimate]
    rise: Estimate
    held_out: tuple[Estimate, Estimate]
    change: Estimate

    @property
    def apart(self) -> bool:
        """Training has surely risen, and is surely above; held out, surely not half of the rise was gained."""
        risen = self.rise.low > 0 and self.rise.mean >= MIN_RISE
        above = self.trained[1].low > self.held_out[1].high
        return risen and above and self.change.high < self.rise.mean / 2

    def cause(self, before: Window, after: Window) -> str:
        text = (
            f"From step {before.step} to {after.step} the pass rate in training rose from {self.trained[0]} to "
            f"{self.trained[1]}, the held-out one went from {self.held_out[0]} to {self.held_out[1]} "
            f"(change {self.change.mean:+.3f} [{self.change.low:+.3f}, {self.change.high:+.3f}] over {self.change.n} "
            f"problems of {', '.join(self.levels)})."
        )
        return text + changed_failures(before.statuses, after.statuses)


def compare(before: Window, after: Window, levels: Mapping[str, str]) -> Comparison | None:
    """``None`` where the two share no level with enough groups and problems. ``levels``: those of held-out problems."""
    common = Counter(levels[problem] for problem in before.rates.keys() & after.rates.keys() & levels.keys())
    shared = sorted(
        level
        for level, problems in common.items()
        if min(problems, *(window.moments.get(level, [0])[0] for window in (before, after))) >= MIN_GROUPS
    )
    if not shared:
        return None
    first, second = (trained(window, shared) for window in (before, after))
    half = math.hypot((first.high - first.low) / 2, (second.high - second.low) / 2)
    rise = second.mean - first.mean
    pairs = {
        level: [(before.rates[p], after.rates[p]) for p in before.rates if levels.get(p) == level and p in after.rates]
        for level in shared
    }
    change = average([paired_change([a for a, _ in found], [b for _, b in found]) for found in pairs.values()])
    held_out = tuple(
        average([mean_interval([pair[end] for pair in found]) for found in pairs.values()]) for end in (0, 1)
    )
    width = Estimate(rise, rise - half, rise + half, second.n)
    return Comparison(shared, (first, second), width, (held_out[0], held_out[1]), change)


def trained(window: Window, levels: Sequence[str]) -> Estimate:
    """The pass rate of training's groups, averaged over levels."""
    moments = [window.moments[level] for level in levels]
    return average([interval_of_moments(int(n), total, squares) for n, total, squares in moments])


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates: half widths add as the root of their squares."""
    mean = fmean(e.mean for e in estimates)
    half = math.hypot(*((e.high - e.low) / 2 for e in estimates)) / len(estimates)
    return Estimate(mean, mean - half, mean + half, sum(e.n for e in estimates))


def changed_failures(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """`` Outcomes in training: passed 60% to 80%, timeout 2% to 9%.``: those that changed by two points or more."""
    totals = [max(1, sum(counts.values())) for counts in (before, after)]
    parts = []
    for status in sorted(before.keys() | after.keys()):
        first, second = before.get(status, 0) / totals[0], after.get(status, 0) / totals[1]
        if abs(second - first) >= 0.02:
            parts.append(f"{status} {first:.0%} to {second:.0%}")
    return f" Outcomes in training: {', '.join(parts)}." if parts else ""

"""Why training teaches nothing: looks at groups and evaluations as they come and raises alarms with cause and remedy.

An alarm is raised once when its condition begins and again only after the condition has ended.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grpo_project.verifier.verdict import Status

BATCHES = 8
"""Generation batches that the shares below are taken over."""
MOSTLY = 0.9
"""Nearly all: the share from which an alarm is raised; it ends below ``CLEARED``."""
CLEARED = 0.75
EXHAUSTED = 0.5
"""Share of a batch's groups that are left without variance by redrawing from which an alarm is raised."""
SAME_REWARD = 1e-9  # rewards closer than this are alike: GRPO's advantage would be noise


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What became of one group: the completions of one drawn problem, in any order."""

    problem_id: str
    rewards: Sequence[float]
    statuses: Sequence[Status]
    pass_rates: Sequence[float] | None = None
    """Share of the tests that each completion passed. Without it, a completion counts 1 if it passed and else 0."""
    truncated: int = 0
    """How many completions ended at the length limit."""

    @property
    def pass_rate(self) -> float:
        """Mean share of tests passed, 0 to 1."""
        rates = self.pass_rates if self.pass_rates is not None else [s is Status.PASSED for s in self.statuses]
        return sum(rates) / len(rates)

    @property
    def solved(self) -> int:
        """How many completions passed every test."""
        return sum(status is Status.PASSED for status in self.statuses)

    @property
    def varied(self) -> bool:
        """Whether the rewards differ; without that the group has no gradient."""
        return max(self.rewards) - min(self.rewards) > SAME_REWARD


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that keeps training from getting on."""

    kind: str
    step: int
    cause: str
    remedy: str
    stage: str = ""

    def __str__(self) -> str:
        return f"{self.cause} {self.remedy}"


class Diagnosis:
    """Raises alarms from rollouts and evaluations. ``evaluation_interval`` is in optimizer steps; 0 expects none."""

    def __init__(self, evaluation_interval: int = 25) -> None:
        self.evaluation_interval = evaluation_interval
        self._batches: deque[dict[str, int]] = deque(maxlen=BATCHES)
        self._last_evaluation: int | None = None
        self._active: set[str] = set()
        self._new: list[Alarm] = []

    def observe_rollouts(self, step: int, stage: str, groups: Sequence[GroupResult]) -> None:
        """A generation batch has been judged."""
        if not groups:
            return
        self._batches.append(_count(groups))
        if self._last_evaluation is None:
            self._last_evaluation = step  # the clock for the first one starts with the first batch
        self._check_evaluations(step, stage)
        if len(self._batches) == BATCHES:
            self._check_formats(step, stage)
            self._check_variance(step, stage)

    def observe_evaluation(self, step: int, stage: str, missing: str) -> None:
        """An evaluation arrived. ``missing`` says what it lacks for the curriculum; empty if nothing."""
        self._last_evaluation = step
        self.clear("no_evaluation")
        cause = f"The evaluation at step {step} has no {missing}, so stage {stage} can't be judged by it."
        remedy = "Give evaluation problems of the stage (--eval_dataset_path), or raise --max_eval_samples."
        self.set_condition("metric_missing", bool(missing), step, cause, remedy, stage)

    def observe_resampling(self, step: int, stage: str, without_variance: int, groups: int, attempts: int) -> None:
        """Groups without variance were drawn anew ``attempts`` times; so many of ``groups`` are left."""
        share = without_variance / groups
        if share >= EXHAUSTED:
            cause = f"{without_variance} of {groups} groups have no variance after {attempts} attempts to redraw them."
            remedy = (
                "Training goes on with the others. The problems are too easy or too hard as a whole for this model."
            )
            self.raise_alarm("resample_exhausted", step, cause, remedy, stage)
        elif share < EXHAUSTED / 2:
            self.clear("resample_exhausted")

    def raise_alarm(self, kind: str, step: int, cause: str, remedy: str, stage: str = "") -> None:
        """Raise an alarm unless the same kind is active."""
        if kind not in self._active:
            self._active.add(kind)
            self._new.append(Alarm(kind, step, cause, remedy, stage))

    def clear(self, kind: str) -> None:
        """The condition of an alarm has ended."""
        self._active.discard(kind)

    def set_condition(self, kind: str, holds: bool, step: int, cause: str, remedy: str, stage: str = "") -> None:
        if holds:
            self.raise_alarm(kind, step, cause, remedy, stage)
        else:
            self.clear(kind)

    def take_new(self) -> list[Alarm]:
        """The alarms since the last call."""
        new, self._new = self._new, []
        return new

    @property
    def active(self) -> frozenset[str]:
        """Kinds of the alarms whose condition still holds."""
        return frozenset(self._active)

    @property
    def zero_variance_share(self) -> float | None:
        """Share of groups without variance over the last batches; None before the first."""
        return self._share("zero_variance", "groups") if self._batches else None

    def _check_evaluations(self, step: int, stage: str) -> None:
        if not self.evaluation_interval or self._last_evaluation is None:
            return
        silent = step - self._last_evaluation
        if silent > 3 * self.evaluation_interval:
            cause = f"No evaluation has arrived for {silent} steps; one was expected every {self.evaluation_interval}."
            remedy = "Check that the evaluation callback is attached and --eval_every_n_steps is above 0."
            self.raise_alarm("no_evaluation", step, cause, remedy, stage)

    def _check_formats(self, step: int, stage: str) -> None:
        remedy = "Look at samples/: is the chat template right for this model, and does it write code at all?"
        self._check_share("wrong_format", "completions", step, stage, "of the completions hold no usable code.", remedy)
        remedy = "Raise --max_completion_length, or check that the model knows the end token."
        self._check_share("truncated", "completions", step, stage, "of the completions hit the length limit.", remedy)

    def _check_variance(self, step: int, stage: str) -> None:
        share = self._share("zero_variance", "groups")
        if share < CLEARED:
            for kind in ("too_easy", "too_hard", "no_signal"):
                self.clear(kind)
        if share < MOSTLY:
            return
        solved, failed = (self._share(part, "zero_variance") for part in ("solved", "failed"))
        cause = f"{share:.0%} of the groups of the last {BATCHES} batches have no variance, so there is no gradient: "
        if solved >= MOSTLY:
            remedy = "Advance (a later stage, harder problems), or sample at a higher --temperature."
            self.raise_alarm("too_easy", step, f"{cause}all their completions pass.", remedy, stage)
        elif failed >= MOSTLY:
            remedy = "Go to easier problems, give credit for single tests, or raise --num_generations."
            self.raise_alarm("too_hard", step, f"{cause}all their completions fail.", remedy, stage)
        else:
            found = f"{solved:.0%} are solved every time, {failed:.0%} never, the rest always score alike."
            remedy = "Raise --temperature or --num_generations, or use the learnable sampler."
            self.raise_alarm("no_signal", step, cause + found, remedy, stage)

    def _check_share(self, kind: str, of: str, step: int, stage: str, cause: str, remedy: str) -> None:
        share = self._share(kind, of)
        if share >= MOSTLY:
            self.raise_alarm(kind, step, f"{share:.0%} {cause}", remedy, stage)
        elif share < CLEARED:
            self.clear(kind)

    def _share(self, part: str, whole: str) -> float:
        total = sum(batch[whole] for batch in self._batches)
        return sum(batch[part] for batch in self._batches) / total if total else 0.0

    def state_dict(self) -> dict[str, Any]:
        return {
            "batches": [dict(batch) for batch in self._batches],
            "last_evaluation": self._last_evaluation,
            "active": sorted(self._active),
            "new": [[a.kind, a.step, a.cause, a.remedy, a.stage] for a in self._new],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._batches = deque((dict(batch) for batch in state["batches"]), maxlen=BATCHES)
        self._last_evaluation = state["last_evaluation"]
        self._active = set(state["active"])
        self._new = [Alarm(*fields) for fields in state["new"]]


def _count(groups: Sequence[GroupResult]) -> dict[str, int]:
    counts = Counter(dict.fromkeys(("zero_variance", "solved", "failed"), 0))
    for group in groups:
        if not group.varied:
            counts["zero_variance"] += 1
            counts["solved"] += all(status is Status.PASSED for status in group.statuses)
            counts["failed"] += all(status is not Status.PASSED for status in group.statuses) and group.pass_rate < 0.5
    counts["groups"] = len(groups)
    counts["completions"] = sum(len(group.statuses) for group in groups)
    counts["wrong_format"] = sum(status is Status.WRONG_FORMAT for group in groups for status in group.statuses)
    counts["truncated"] = sum(group.truncated for group in groups)
    return dict(counts)

"""Stages of a curriculum: which problems belong to one, what it takes to leave it, and how a batch is shared out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpo_project.problems.problem import LEVELS, Problem


@dataclass(frozen=True, slots=True)
class Stage:
    """A selection of problems and the pass rate at which training moves on.

    A problem belongs to the stage if every selector that is set accepts it; a stage without selectors takes all.
    """

    name: str
    levels: tuple[str, ...] = ()
    complexity: tuple[float, float] | None = None
    """From the first inclusive to the second exclusive; a second of 10 includes 10."""
    tags: tuple[str, ...] = ()
    """At least one of them."""
    threshold: float | None = None
    """Pass rate (0 to 1) to be reached; ``None`` for a stage that is never left."""
    min_evaluations: int | None = None
    """Evaluations before it can be left; ``None``: one, where evaluations are to be expected."""
    max_steps: int | None = None
    """Optimizer steps after which it is left whatever the evidence."""
    rehearsal: float = 0.3
    """Share of a batch for earlier stages, against forgetting."""
    preview: float = 0.4
    """Share of a batch for later stages, so that they don't come as a surprise."""

    def selects(self, problem: Problem) -> bool:
        if self.levels and problem.level not in self.levels:
            return False
        return self._accepts_tags(problem) and (
            self.complexity is None or _is_between(problem.complexity, *self.complexity)
        )

    def could_select(self, problem: Problem) -> bool:
        """Whether it might select the problem once that has another level and complexity."""
        if not self.levels and self.complexity is None:
            return False
        return self._accepts_tags(problem) and (not self.levels or not {"unknown"}.issuperset(self.levels))

    @property
    def is_mixed(self) -> bool:
        """Whether it takes all problems and is never left."""
        return self.threshold is None and not self.levels and not self.tags and self.complexity is None

    def _accepts_tags(self, problem: Problem) -> bool:
        return not self.tags or not set(self.tags).isdisjoint(problem.tags)


DEFAULT_STAGES = tuple(
    Stage(level, levels=(level,), threshold=threshold)
    for level, threshold in zip(LEVELS, (0.70, 0.65, 0.60, 0.55, 0.50), strict=True)
)
"""One stage a level. Harder levels ask for less: waiting for 70% of the expert level would hold everything up."""

MIXED = Stage("mixed", rehearsal=0.8, preview=0.0)
"""The last stage: all problems, never left. Most of a batch goes to the other stages in equal parts."""


def batch_shares(stages: Sequence[Stage], sizes: Sequence[int], current: int) -> list[float]:
    """The share of each stage in a batch while ``current`` is trained. They add up to 1; empty stages get none.

    Earlier stages have the current one's ``rehearsal`` share in equal parts, later ones its ``preview`` share. Where
    one side has no problems, the other takes its share too. A stage without a threshold (the mixed one) has no problems
    of its own, so it takes no part before it is its turn. If neither ``current`` nor the others have any, all are 0.
    """
    stage = stages[current]
    others = [i for i, size in enumerate(sizes) if size and i != current and stages[i].threshold is not None]
    earlier = [i for i in others if i < current]
    later = [i for i in others if i > current]
    both = stage.rehearsal + stage.preview
    shares = [0.0] * len(stages)
    for side, share in ((earlier, stage.rehearsal if later else both), (later, stage.preview if earlier else both)):
        for i in side:
            shares[i] = share / len(side)
    if sizes[current]:
        shares[current] = 1.0 - sum(shares)
    elif total := sum(shares):
        shares = [share / total for share in shares]
    return shares


def rates_by_stage(
    stages: Sequence[Stage],
    pass_rate: float,
    n: int,
    by_level: Mapping[str, tuple[float, int]],
    by_problem: Sequence[tuple[Problem, float]] | None,
) -> dict[int, tuple[float, int]]:
    """``(pass rate, problems)`` of each stage, by index, that an evaluation says something about.

    From the rates of single problems where they are given; otherwise by level, which only stages that select by level
    alone can be judged by. A stage that takes all problems has the whole evaluation.
    """
    found = {}
    for index, stage in enumerate(stages):
        if by_problem is not None:
            rates = [(rate, 1) for problem, rate in by_problem if stage.selects(problem)]
        elif stage.complexity is not None or stage.tags:
            rates = []
        elif stage.levels:
            rates = [by_level[level] for level in stage.levels if level in by_level]
        else:
            rates = [(pass_rate, n)]
        count = sum(number for _, number in rates)
        if count:
            found[index] = (sum(rate * number for rate, number in rates) / count, count)
    return found


def _is_between(value: float | None, low: float, high: float) -> bool:
    return value is not None and (low <= value < high or value == high == 10.0)

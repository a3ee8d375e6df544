"""Which problems an evaluation uses: chosen once by the seed, balanced over the levels."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from grpo_project.errors import ConfigError
from grpo_project.problems.problem import LEVELS, Problem


def select_problems(
    problems: Iterable[Problem], count: int, seed: int, levels: Sequence[str] | None = None
) -> tuple[Problem, ...]:
    """Up to ``count`` problems, as evenly over the levels as they allow, easiest level first.

    The choice depends on the seed and on the problems of each level alone, so two runs with the same seed and data
    evaluate the same problems. A larger ``count`` keeps the ones that a smaller one chose.

    Raises:
        ConfigError: nothing to choose from, or ``levels`` names a level that no problem has.
    """
    by_level: dict[str, list[Problem]] = {}
    for problem in problems:
        by_level.setdefault(problem.level, []).append(problem)
    if levels is not None:
        missing = [level for level in levels if level not in by_level]
        if missing:
            raise ConfigError(f"levels: no evaluation problem has level {missing[0]!r}; there are {sorted(by_level)}")
        by_level = {level: by_level[level] for level in levels}
    if not by_level:
        raise ConfigError("no evaluation problems: the evaluation set is empty")
    queues = {}
    for level in sorted(by_level, key=_level_rank):
        queue = sorted(by_level[level], key=lambda problem: problem.id)
        random.Random(f"{seed}:{level}").shuffle(queue)
        queues[level] = queue
    return _deal(queues, count)


def _deal(queues: dict[str, list[Problem]], count: int) -> tuple[Problem, ...]:
    """Take one problem from each level in turn until ``count`` are dealt; return them level by level."""
    dealt: dict[str, list[Problem]] = {level: [] for level in queues}
    depth = 0
    while sum(map(len, dealt.values())) < count and any(depth < len(queue) for queue in queues.values()):
        for level, queue in queues.items():
            if depth < len(queue) and sum(map(len, dealt.values())) < count:
                dealt[level].append(queue[depth])
        depth += 1
    return tuple(problem for chosen in dealt.values() for problem in chosen)


def _level_rank(level: str) -> tuple[int, str]:
    return (LEVELS.index(level), level) if level in LEVELS else (len(LEVELS), level)

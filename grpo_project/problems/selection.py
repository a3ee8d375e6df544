"""Which problems are evaluated, and which are held out for that: chosen by the seed, balanced over the levels."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence

from grpo_project.errors import ConfigError
from grpo_project.problems.identity import normalised_prompt
from grpo_project.problems.problem import LEVELS, Problem

FEWEST_HELD_OUT = 16
"""Fewer problems tell too little: 8 of 16 is 0.50 [0.28, 0.72]."""
MOST_HELD_OUT = 512
LARGEST_PART = 4
"""At most one in so many problems of a level is held out to reach ``FEWEST_HELD_OUT``."""


def hold_out(
    problems: Sequence[Problem], share: float, seed: int
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]] | None:
    """Part a set in what is trained on, in its order, and what is held out: ``share`` of it, 16 to 512 problems.

    No level gives more than a quarter of its problems (or ``share``, if that is more), and no prompt is in both parts.
    The same set, share and seed give the same parts. None where the set is too small, or ``share`` is 0.
    """
    count = min(MOST_HELD_OUT, max(FEWEST_HELD_OUT, round(share * len(problems))))
    if share <= 0.0 or count > len(problems) * max(share, 1 / LARGEST_PART):
        return None
    prompts = [normalised_prompt(problem) for problem in problems]
    times, sizes = Counter(prompts), Counter(problem.level for problem in problems)
    unique = [problem for problem, prompt in zip(problems, prompts, strict=True) if times[prompt] == 1]
    candidates: list[Problem] = []
    for level, size in sizes.items():
        of_level = [problem for problem in unique if problem.level == level]
        if of_level and (most := int(size * max(share, 1 / LARGEST_PART))):
            candidates += select_problems(of_level, most, seed)
    if len(candidates) < FEWEST_HELD_OUT:
        return None
    heldout = select_problems(candidates, count, seed)
    ids = {problem.id for problem in heldout}
    return tuple(problem for problem in problems if problem.id not in ids), heldout


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

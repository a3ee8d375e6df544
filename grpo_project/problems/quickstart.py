"""The built-in problems: five levels of small Python functions, generated from a seed.

``solution`` is the body that continues ``starter_code``. The training and the held-out split share no program: a
program belongs to one of them by a hash of its operations and constants, whatever the seed, the wording or the names.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from grpo_project.problems.builtin.examples import Example, draw_examples
from grpo_project.problems.builtin.programs import ENTRY_POINT, Program, draw_program
from grpo_project.problems.problem import BUILTIN, LEVELS, CallTest, Problem

SIZES = {"train": 2000, "heldout": 500}
"""Problems in each split, a fifth of them in each level."""


def builtin_problems(split: str = "train", seed: int = 0, count: int | None = None) -> tuple[Problem, ...]:
    """The built-in problems of a split, levels in turn (the first five are one of each).

    ``count`` takes only so many from the front; by default the whole split. The same seed gives the same problems.
    """
    if split not in SIZES:
        raise ValueError(f"split must be one of {', '.join(SIZES)}, not {split!r}")
    size = SIZES[split] if count is None else count
    if not 0 < size <= SIZES[split]:
        raise ValueError(f"count must be from 1 to {SIZES[split]} for the {split} split, not {size}")
    return _problems(split, seed, size)


@lru_cache(maxsize=8)
def _problems(split: str, seed: int, size: int) -> tuple[Problem, ...]:
    levels = [_problems_of_level(split, seed, level) for level in range(len(LEVELS))]
    return tuple(islice((next(levels[i % len(levels)]) for i in range(size)), size))


def _problems_of_level(split: str, seed: int, level: int) -> Iterator[Problem]:
    rng = random.Random(f"{split}-{seed}-{LEVELS[level]}")
    seen: set[str] = set()
    while True:
        program = draw_program(rng, level)
        if program.is_heldout != (split == "heldout") or program.prompt in seen:
            continue
        examples = draw_examples(rng, program)
        if examples is not None:
            seen.add(program.prompt)
            yield _problem(program, examples)


def _problem(program: Program, examples: list[Example]) -> Problem:
    level = LEVELS[program.level]
    return Problem(
        id=f"builtin-{level}-{hashlib.sha256(program.prompt.encode()).hexdigest()[:10]}",
        prompt=program.prompt,
        tests=tuple(CallTest(args=(argument,), expected=expected) for argument, expected in examples),
        level=level,
        complexity=program.complexity,
        entry_point=ENTRY_POINT,
        starter_code=program.starter_code,
        solution=program.solution,
        tags=tuple(dict.fromkeys(part.step.takes for part in program.parts)),
        source=BUILTIN,
    )

"""A set in which most problems are hopeless or solved, for the curriculum's benchmark: not the default, never shipped.

Programs of the built-in vocabulary, one to six steps in a row. A model that gets single steps right some of the time
solves the long ones so rarely that a group shows nothing, and learns them through the short ones that they are made of.
Labels are as bad as real ones: half of the problems have none, a fifth of the others have a wrong one; one in twenty
has wrong tests. A problem has two to eight tests.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

from grpo_project.problems.builtin.examples import draw_examples
from grpo_project.problems.builtin.programs import ENTRY_POINT, draw_program
from grpo_project.problems.problem import LEVELS, CallTest, Problem

SHARES = {1: 0.10, 2: 0.16, 3: 0.20, 4: 0.24, 5: 0.18, 6: 0.12}
"""Of the problems, by how many steps they have."""
LEVEL_OF_LENGTH = {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4}
WITHOUT_LEVEL, MISLABELLED, BROKEN = 0.5, 0.2, 0.05


def wide_training(count: int, seed: int = 0) -> list[Problem]:
    """``count`` problems in random order."""
    rng = random.Random(f"wide-train-{seed}")
    problems = []
    for length, share in SHARES.items():
        problems += [_blur(rng, p) for p in _programs(rng, length, round(count * share), heldout=False)]
    rng.shuffle(problems)
    return problems


def warm_up_training(count: int = 3000) -> list[Problem]:
    """Programs of one and two steps, for the model that everything starts from."""
    rng = random.Random("wide-warm-up")
    return [p for length in (1, 2) for p in _programs(rng, length, count // 2, heldout=False)]


def wide_heldout(per_length: int, seed: int = 0) -> dict[int, list[Problem]]:
    """Problems by their number of steps, with all of their tests and right ones. None of them is a training program."""
    rng = random.Random(f"wide-heldout-{seed}")
    return {length: list(_programs(rng, length, per_length, heldout=True)) for length in SHARES}


def _programs(rng: random.Random, length: int, count: int, heldout: bool) -> list[Problem]:
    found: dict[str, Problem] = {}
    while len(found) < count:
        program = draw_program(rng, rng.randrange(len(LEVELS)), length)
        if program.is_heldout != heldout or program.prompt in found:
            continue
        if (examples := draw_examples(rng, program)) is None:
            continue
        found[program.prompt] = Problem(
            id=f"wide-{length}-{hashlib.sha256(program.prompt.encode()).hexdigest()[:12]}",
            prompt=program.prompt,
            tests=tuple(CallTest(args=(argument,), expected=expected) for argument, expected in examples),
            level=LEVELS[LEVEL_OF_LENGTH[length]],
            entry_point=ENTRY_POINT,
            starter_code=program.starter_code,
            tags=tuple(dict.fromkeys(part.step.takes for part in program.parts)),
            source="wide",
        )
    return list(found.values())


def _blur(rng: random.Random, problem: Problem) -> Problem:
    tests = problem.tests[: rng.randint(2, len(problem.tests))]
    if rng.random() < BROKEN:
        tests = tuple(replace(test, expected="unsolvable") for test in tests if isinstance(test, CallTest))
    level = problem.level
    if rng.random() < WITHOUT_LEVEL:
        level = "unknown"
    elif rng.random() < MISLABELLED:
        level = rng.choice([other for other in LEVELS if other != level])
    return replace(problem, tests=tests, level=level)

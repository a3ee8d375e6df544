"""Unreliable answers: what the base model reads before GRPO starts. Plausible code that is often wrong.

Every step is drawn on its own: right with the step's ``reliability``, else one of its misconceptions, a constant that
is off by one, or the step left out. Longer programs are therefore less often right as a whole.
"""

from __future__ import annotations

import random

from grpo_project.problems.builtin.programs import Part, Program, fill

FIRST_MISCONCEPTION = 0.93
"""Share of the wrong steps that follow the step's commonest misconception."""
LEFT_OUT = 0.02
"""Share of the wrong steps that are forgotten altogether."""


def wrong_codes(part: Part) -> list[str]:
    """All the ways to get ``part`` wrong by a different expression, the commonest first."""
    codes = [part.fill(template) for template in part.step.wrong]
    return codes + off_by_one(part)


def off_by_one(part: Part) -> list[str]:
    """The right code with one number too large or too small by one."""
    codes = []
    for place, value in enumerate(part.constants):
        if isinstance(value, int):
            for shifted in (value + 1, value - 1):
                constants = (*part.constants[:place], shifted, *part.constants[place + 1 :])
                codes.append(fill(part.step.code, constants))
    return codes


def unreliable_body(rng: random.Random, program: Program) -> str:
    """A function body for ``program`` that is right some of the time."""
    return program.body([_unreliable_code(rng, part) for part in program.parts])


def _unreliable_code(rng: random.Random, part: Part) -> str | None:
    if rng.random() < part.step.reliability:
        return part.fill(part.step.code)
    draw = rng.random()
    if draw < LEFT_OUT:
        return None
    codes = wrong_codes(part)
    if draw < LEFT_OUT + FIRST_MISCONCEPTION or len(codes) == 1:
        return codes[0]
    return rng.choice(codes[1:])

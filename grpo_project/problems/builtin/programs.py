"""Programs: one to three steps in a row, drawn from a seed, written as a sentence and as a Python function.

Beside them the unreliable answers that the base model reads before GRPO starts: plausible code that is often wrong.
Every step is drawn on its own: right with the step's ``reliability``, else one of its misconceptions, a constant that
is off by one, or the step left out. Longer programs are therefore less often right as a whole.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from grpo_project.problems.builtin.steps import LIST, NUMBER, STEPS, TEXT, Constants, Step
from grpo_project.problems.problem import LEVELS

ENTRY_POINT = "solve"
VARIABLES = {NUMBER: ("x", "n", "k"), LIST: ("xs", "ys"), TEXT: ("s",)}
STEPS_OF_LEVEL = ((1,), (2,), (2,), (2, 3), (3,))
"""How many steps a program of each level may have."""
HELDOUT_SHARE = 5
"""One program in so many belongs to the held-out split."""
FIRST_MISCONCEPTION = 0.93
"""Share of the wrong steps that follow the step's commonest misconception."""
LEFT_OUT = 0.02
"""Share of the wrong steps that are forgotten altogether."""


@dataclass(frozen=True, slots=True)
class Part:
    """A step with its constants and its wording."""

    step: Step
    constants: tuple[int | str, ...]
    phrase: str

    def fill(self, template: str) -> str:
        """Put the constants into a template; ``{x}`` stays."""
        return fill(template, self.constants)


@dataclass(frozen=True, slots=True)
class Program:
    """Steps applied one after the other to the argument ``variable``."""

    level: int
    variable: str
    parts: tuple[Part, ...]

    @property
    def prompt(self) -> str:
        return f"Given {self.variable}, " + ", then ".join(part.phrase for part in self.parts) + "."

    @property
    def starter_code(self) -> str:
        return f"def {ENTRY_POINT}({self.variable}):\n"

    @property
    def solution(self) -> str:
        """The body that continues ``starter_code``."""
        return self.body([part.fill(part.step.code) for part in self.parts])

    @property
    def complexity(self) -> float:
        """Two units a level; inside a level it rises with the steps, their tiers and their constants."""
        effort = sum(1 + part.step.tier + len(part.constants) / 2 for part in self.parts)
        most = (self.level + 2) * STEPS_OF_LEVEL[self.level][-1]  # every step of the top tier, with two constants
        return round(2 * self.level + 1.9 * effort / most, 2)

    @property
    def is_heldout(self) -> bool:
        """Decided by the operations and constants alone, so a held-out program is no rewording of a training one."""
        return _is_heldout("|".join(part.fill(part.step.code) for part in self.parts))

    def body(self, codes: Sequence[str | None]) -> str:
        """The function's body with ``codes[i]`` in place of step i. ``None`` leaves the step out."""
        lines: list[str] = []
        variable = self.variable
        for part, code in zip(self.parts, codes, strict=True):
            if code is None:
                continue
            expression = code.replace("{x}", variable)
            if part.step.gives != part.step.takes:
                variable = "t" if part.step.gives == NUMBER else "xs"
            lines.append(expression if "\n" in code else f"{variable} = {expression}")
        last = lines.pop() if lines else f"{variable} = {variable}"
        if "\n" in last:
            lines += [last, "return t"]
        else:
            lines.append("return " + last.removeprefix(f"{variable} = "))
        return "".join(f"    {line}\n" for line in lines)


@cache
def fill(template: str, constants: tuple[int | str, ...]) -> str:
    """Put ``constants`` for ``{c}`` and ``{d}``; ``{x}`` stays."""
    for name, value in zip(("{c}", "{d}"), constants, strict=False):
        template = template.replace(name, str(value))
    return template


def _is_heldout(key: str) -> bool:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % HELDOUT_SHARE == 0


@cache
def candidates(level: int, takes: str, gives: str | None = None) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Steps that a level may use on a value of kind ``takes``: all, and those that the level introduces."""
    usable = tuple(step for step in STEPS if step.takes == takes and step.tier <= level)
    return usable, tuple(step for step in usable if step.tier == level)


def draw_program(rng: random.Random, level: int, length: int | None = None) -> Program:
    """Draw a program of ``LEVELS[level]``: at least one of its steps is one that the level introduces.

    ``length`` is its number of steps, by default one that the level has.
    """
    assert 0 <= level < len(LEVELS)
    while True:
        kind = first = rng.choices((NUMBER, LIST, TEXT), (4, 7, 3))[0]
        steps = rng.choice(STEPS_OF_LEVEL[level]) if length is None else length
        characteristic = rng.randrange(steps)
        parts: list[Part] = []
        for place in range(steps):
            usable, introduced = candidates(level, kind)
            choice = introduced if place == characteristic else usable
            step = rng.choice(choice) if choice else None
            if step is None or any(step is part.step for part in parts):
                break
            parts.append(_draw_part(rng, step))
            kind = step.gives
        if len(parts) == steps:
            return Program(level, rng.choice(VARIABLES[first]), tuple(parts))


def _draw_part(rng: random.Random, step: Step) -> Part:
    constants: list[int | str] = []
    for options in step.constants:
        constants.append(_draw_constant(rng, options, constants))
    values = tuple(constants)
    return Part(step, values, fill(rng.choice(step.phrases), values))


def _draw_constant(rng: random.Random, options: Constants, taken: list[int | str]) -> int | str:
    while True:
        value = rng.choice(options)
        if value not in taken:
            return value


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

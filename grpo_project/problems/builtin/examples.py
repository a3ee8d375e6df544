"""Test inputs for a program, and the check that they tell it from its likeliest mistakes.

Programs run here as chains of compiled steps, each compiled once per process: that is some ten times cheaper than
compiling every program, and 3,000 problems take a fraction of a second.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import cache
from itertools import islice
from typing import Any

from grpo_project.problems.builtin.programs import Program, wrong_codes
from grpo_project.problems.builtin.steps import LETTERS, LIST, NUMBER

TESTS = 8
CANDIDATES = 12
"""Inputs drawn for a program; the first ``TESTS`` that it accepts are used."""
MIN_DISTINCT = 4
"""Different expected values among the tests, at least: a constant answer can't pass most of them."""
LARGEST = 10**9
"""Results beyond this are no fun to read and no better as tests."""

Example = tuple[Any, Any]


@cache
def compiled(code: str) -> Callable[[Any], Any]:
    """A step's code as a function of its variable."""
    code = code.replace("{x}", "x")
    if "\n" not in code:
        return eval(f"lambda x: {code}")  # our own source, from the table of steps
    namespace: dict[str, Any] = {}
    exec(f"def block(x):\n    {code}\n    return t", namespace)
    return namespace["block"]


def draw_examples(rng: random.Random, program: Program) -> list[Example] | None:
    """``TESTS`` pairs of argument and expected value, or ``None`` if this program can't be told from its mistakes."""
    codes = [part.fill(part.step.code) for part in program.parts]
    steps = [compiled(code) for code in codes]
    trials = (_trace(steps, argument) for argument in _arguments(rng, program))
    traces = list(islice((trace for trace in trials if trace is not None), TESTS))
    if len(traces) < TESTS or len({repr(trace[-1]) for trace in traces}) < MIN_DISTINCT:
        return None
    if sum(trace[0] == trace[-1] for trace in traces) > TESTS // 4:  # returning the argument would pass
        return None
    if not _discriminates(program, codes, traces):
        return None
    return [(trace[0], trace[-1]) for trace in traces]


def _trace(steps: list[Callable[[Any], Any]], argument: Any) -> list[Any] | None:
    """The argument and the value after every step; ``None`` where a step does not apply or the result is huge."""
    values = [argument]
    for step in steps:
        try:
            values.append(step(values[-1]))
        except (ValueError, IndexError):  # the largest of no values
            return None
    last = values[-1]
    if last in ([], "") or (isinstance(last, int) and abs(last) > LARGEST):
        return None
    return values


def _discriminates(program: Program, codes: list[str], traces: list[list[Any]]) -> bool:
    """Every misconception in every single step fails half of the tests or more, every off-by-one three of eight."""
    for place, part in enumerate(program.parts):
        rest = [compiled(code) for code in codes[place + 1 :]]
        misconceptions = len(part.step.wrong)
        for rank, wrong in enumerate(wrong_codes(part)):
            mistaken = compiled(wrong)
            passes = sum(_passes(mistaken, rest, trace, place) for trace in traces)
            if passes > (TESTS // 2 if rank < misconceptions else TESTS * 5 // 8):
                return False
    return True


def _passes(mistaken: Callable[[Any], Any], rest: list[Callable[[Any], Any]], trace: list[Any], place: int) -> bool:
    """Whether the test of ``trace`` passes with step ``place`` mistaken."""
    try:
        value = mistaken(trace[place])
        if value == trace[place + 1]:
            return True
        for step in rest:
            value = step(value)
    except (ValueError, IndexError, TypeError, ZeroDivisionError):
        return False
    return value == trace[-1]


def _arguments(rng: random.Random, program: Program) -> Iterable[Any]:
    """Arguments that touch the program's constants, where an off-by-one shows."""
    kind = program.parts[0].step.takes
    if kind == NUMBER:
        return rng.sample(range(-40, 160), CANDIDATES)
    if kind == LIST:
        included = _boundaries(program)
        return (_numbers(rng, included) for _ in range(CANDIDATES))
    letters = "".join(value for part in program.parts for value in part.constants if isinstance(value, str))
    return (_words(rng, letters) for _ in range(CANDIDATES))


def _boundaries(program: Program) -> list[int]:
    """The numbers at which a comparison of the program changes its mind, and their neighbours."""
    included: list[int] = []
    for part in program.parts:
        compares = any(sign in part.step.code for sign in ("<", ">", "!=", "max(v", "min(v"))
        numbers = [value for value in part.constants if isinstance(value, int)] if compares else []
        edges = [numbers[1] - numbers[0], sum(numbers)] if len(numbers) == 2 else numbers
        included += [number + shift for number in edges for shift in (-1, 0, 1)]
    return included[:6]


def _numbers(rng: random.Random, included: list[int]) -> list[int]:
    """Seven to eleven numbers with all of ``included``, one of them twice."""
    values = included + rng.choices(range(-9, 25), k=rng.randint(7, 11) - len(included))
    values[-1] = values[0]
    rng.shuffle(values)
    return values


def _words(rng: random.Random, included: str) -> str:
    """Words of small and capital letters, rich in ``included``."""
    alphabet = LETTERS + LETTERS.upper() + included * 10
    characters = rng.choices(alphabet + " " * (len(alphabet) // 3), k=rng.randint(12, 26))
    return " ".join("".join(characters).split())

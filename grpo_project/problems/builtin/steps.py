"""The vocabulary of the built-in problems: what one step of a program says, does, and is mistaken for.

A step takes a number, a list of integers or a text and gives one of them. Its ``code`` is a Python expression (or a
loop that leaves its result in ``t``) with ``{x}`` for the variable and ``{c}``, ``{d}`` for constants. ``wrong`` holds
the misconceptions that the base model was warmed up on, the commonest first, and ``reliability`` is how often that
training text had the step right. Below one half the commonest answer is the wrong one, so greedy decoding fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NUMBER, LIST, TEXT = "number", "list", "text"

LETTERS = "abcdeilmnoprst"
FEW = range(2, 6)
"""How many values or letters to take: well inside the length of every test input."""
ORDINARY = range(2, 21)

Constants = Sequence[int | str]


@dataclass(frozen=True, slots=True)
class Step:
    """One operation. ``tier`` is the index of the first level in ``LEVELS`` that uses it."""

    tier: int
    takes: str
    gives: str
    phrases: tuple[str, ...]
    code: str
    wrong: tuple[str, ...]
    reliability: float
    constants: tuple[Constants, ...] = ()

    @property
    def name(self) -> str:
        return self.code


def _number(tier: int, reliability: float, phrases: str, code: str, *wrong: str, constants: int = 0) -> Step:
    return Step(tier, NUMBER, NUMBER, tuple(phrases.split(" | ")), code, wrong, reliability, (ORDINARY,) * constants)


def _keep(
    tier: int, reliability: float, what: str, test: str, *wrong: str, constants: int = 0, among: range = ORDINARY
) -> Step:
    """Keep the values of a list that pass a test."""
    code, *mistakes = (f"[v for v in {{x}} if {condition}]" for condition in (test, *wrong))
    phrases = (f"keep the {what}", f"keep only the {what}")
    return Step(tier, LIST, LIST, phrases, code, tuple(mistakes), reliability, (among,) * constants)


def _each(tier: int, reliability: float, phrases: str, value: str, *wrong: str, constants: int = 0) -> Step:
    """Change every value of a list."""
    code, *mistakes = (f"[{changed} for v in {{x}}]" for changed in (value, *wrong))
    return Step(
        tier, LIST, LIST, tuple(phrases.split(" | ")), code, tuple(mistakes), reliability, (ORDINARY,) * constants
    )


def _list(
    tier: int, reliability: float, phrases: str, code: str, *wrong: str, constants: tuple[Constants, ...] = ()
) -> Step:
    return Step(tier, LIST, LIST, tuple(phrases.split(" | ")), code, wrong, reliability, constants)


def _reduce(
    tier: int, reliability: float, phrases: str, code: str, *wrong: str, constants: tuple[Constants, ...] = ()
) -> Step:
    return Step(tier, LIST, NUMBER, tuple(phrases.split(" | ")), code, wrong, reliability, constants)


def _text(
    tier: int,
    reliability: float,
    phrases: str,
    code: str,
    *wrong: str,
    gives: str = TEXT,
    constants: tuple[Constants, ...] = (),
) -> Step:
    return Step(tier, TEXT, gives, tuple(phrases.split(" | ")), code, wrong, reliability, constants)


STEPS: tuple[Step, ...] = (
    # numbers
    _number(0, 0.82, "add {c} | increase it by {c}", "{x} + {c}", "{x} - {c}", constants=1),
    _number(0, 0.77, "subtract {c} | decrease it by {c}", "{x} - {c}", "{c} - {x}", constants=1),
    _number(0, 0.77, "multiply by {c} | scale it by {c}", "{x} * {c}", "{x} + {c}", constants=1),
    _number(0, 0.62, "subtract it from {c}", "{c} - {x}", "{x} - {c}", constants=1),
    _number(0, 0.67, "square it", "{x} ** 2", "{x} * 2"),
    _number(0, 0.72, "double it", "{x} * 2", "{x} ** 2"),
    _number(0, 0.72, "negate it | flip its sign", "-{x}", "abs({x})"),
    _number(1, 0.60, "take the remainder modulo {c}", "{x} % {c}", "{x} // {c}", constants=1),
    _number(1, 0.60, "divide by {c} rounding down", "{x} // {c}", "{x} / {c}", "{x} % {c}", constants=1),
    _number(1, 0.70, "take the distance to {c}", "abs({x} - {c})", "{x} - {c}", constants=1),
    _number(2, 0.44, "round down to a multiple of {c}", "{x} // {c} * {c}", "{x} // {c}", "{x} % {c}", constants=1),
    _number(
        3,
        0.46,
        "halve it if even or else add {c}",
        "{x} // 2 if {x} % 2 == 0 else {x} + {c}",
        "{x} // 2 if {x} % 2 else {x} + {c}",
        "{x} // 2 + {c}",
        constants=1,
    ),
    _number(
        3,
        0.63,
        "subtract {c} if odd or else multiply by {d}",
        "{x} - {c} if {x} % 2 else {x} * {d}",
        "{x} * {d} if {x} % 2 else {x} - {c}",
        "{x} - {d} if {x} % 2 else {x} * {c}",
        constants=2,
    ),
    _number(
        2, 0.63, "take the sum of its digits", "sum(int(d) for d in str(abs({x})))", "len(str(abs({x})))",
    ),
    _number(
        4, 0.52, "reverse its digits", "int(str(abs({x}))[::-1])", "str(abs({x}))[::-1]", "int(str(abs({x}))[:-1])",
    ),
    _number(
        4, 0.44, "round up to a multiple of {c}", "-(-{x} // {c}) * {c}", "{x} // {c} * {c}", "{x} // {c}", constants=1
    ),
    # lists: keep some values
    _keep(0, 0.77, "even values", "v % 2 == 0", "v % 2 == 1"),
    _keep(0, 0.77, "odd values", "v % 2 == 1", "v % 2 == 0"),
    _keep(0, 0.72, "values above {c}", "v > {c}", "v >= {c}", "v < {c}", constants=1),
    _keep(0, 0.72, "values below {c}", "v < {c}", "v <= {c}", "v > {c}", constants=1),
    _keep(1, 0.65, "values of at least {c}", "v >= {c}", "v > {c}", "v <= {c}", constants=1),
    _keep(1, 0.65, "values of at most {c}", "v <= {c}", "v < {c}", "v >= {c}", constants=1),
    _keep(1, 0.65, "values other than {c}", "v != {c}", "v == {c}", constants=1),
    _keep(2, 0.46, "multiples of {c}", "v % {c} == 0", "v // {c} == 0", "v % {c}", constants=1, among=FEW),
    _keep(3, 0.46, "values within {c} of {d}", "abs(v - {d}) <= {c}", "abs(v - {d}) < {c}", "v <= {c}", constants=2),
    # lists: change every value
    _each(0, 0.77, "add {c} to each | increase each by {c}", "v + {c}", "v - {c}", constants=1),
    _each(0, 0.77, "multiply each by {c} | scale each by {c}", "v * {c}", "v + {c}", constants=1),
    _each(1, 0.70, "square each", "v ** 2", "v * 2"),
    _each(1, 0.52, "subtract each from {c}", "{c} - v", "v - {c}", constants=1),
    _each(2, 0.68, "take each modulo {c}", "v % {c}", "v // {c}", constants=1),
    _each(2, 0.46, "raise each to at least {c}", "max(v, {c})", "min(v, {c})", constants=1),
    _each(2, 0.68, "cap each at {c}", "min(v, {c})", "max(v, {c})", constants=1),
    _each(4, 0.52, "negate the odd values", "-v if v % 2 else v", "v if v % 2 else -v", "-v"),
    # lists: order and places
    _list(0, 0.72, "reverse it", "{x}[::-1]", "sorted({x})"),
    _list(0, 0.72, "take the first {c}", "{x}[:{c}]", "{x}[{c}:]", constants=(FEW,)),
    _list(0, 0.72, "append {c}", "{x} + [{c}]", "[{c}] + {x}", constants=(ORDINARY,)),
    _list(1, 0.70, "put {c} in front", "[{c}] + {x}", "{x} + [{c}]", constants=(ORDINARY,)),
    _list(1, 0.60, "take the last {c}", "{x}[-{c}:]", "{x}[:-{c}]", "{x}[{c}:]", constants=(FEW,)),
    _list(1, 0.70, "drop the first {c}", "{x}[{c}:]", "{x}[:{c}]", constants=(FEW,)),
    _list(2, 0.46, "drop the last {c}", "{x}[:-{c}]", "{x}[-{c}:]", "{x}[{c}:]", constants=(FEW,)),
    _list(1, 0.80, "sort it", "sorted({x})", "{x}[::-1]"),
    _list(2, 0.63, "sort it in descending order", "sorted({x})[::-1]", "sorted({x})"),
    _list(2, 0.63, "take every second value", "{x}[::2]", "{x}[1::2]", "{x}[2:]"),
    _list(3, 0.44, "take the values at odd positions", "{x}[1::2]", "{x}[::2]"),
    _list(3, 0.63, "rotate it left by {c}", "{x}[{c}:] + {x}[:{c}]", "{x}[-{c}:] + {x}[:-{c}]", constants=(FEW,)),
    _list(
        3, 0.46, "multiply each by its position", "[i * v for i, v in enumerate({x})]",
        "[i + v for i, v in enumerate({x})]",
    ),
    _list(
        4, 0.44, "take the differences of neighbours", "[b - a for a, b in zip({x}, {x}[1:])]",
        "[a - b for a, b in zip({x}, {x}[1:])]",
    ),
    _list(
        4, 0.58, "take the running totals", "[sum({x}[:i + 1]) for i in range(len({x}))]",
        "[sum({x}[:i]) for i in range(len({x}))]",
    ),
    # lists to numbers
    _reduce(1, 0.80, "take the sum | add them up", "sum({x})", "len({x})", "max({x})"),
    _reduce(1, 0.75, "take the largest", "max({x})", "min({x})", "{x}[-1]"),
    _reduce(1, 0.75, "take the smallest", "min({x})", "max({x})", "{x}[0]"),
    _reduce(1, 0.70, "count them", "len({x})", "sum({x})"),
    _reduce(2, 0.46, "take the largest minus the smallest", "max({x}) - min({x})", "min({x}) - max({x})", "max({x})"),
    _reduce(
        3, 0.58, "take the sum of the squares", "sum(v ** 2 for v in {x})", "sum(v * 2 for v in {x})", "sum({x}) ** 2",
    ),
    _reduce(
        3, 0.46, "take the alternating sum", "sum({x}[::2]) - sum({x}[1::2])", "sum({x}[1::2]) - sum({x}[::2])",
        "sum({x}[::2]) + sum({x}[1::2])",
    ),
    _reduce(
        4, 0.46, "fold from 0 by t times {c} plus v", "t = 0\n    for v in {x}:\n        t = t * {c} + v",
        "t = 0\n    for v in {x}:\n        t = t + v * {c}", "t = 1\n    for v in {x}:\n        t = t * {c} + v",
        constants=(FEW,),
    ),
    _reduce(
        4, 0.58, "fold from {c} by t plus v times {d}", "t = {c}\n    for v in {x}:\n        t = t + v * {d}",
        "t = 0\n    for v in {x}:\n        t = t + v * {d}", "t = {c}\n    for v in {x}:\n        t = t * {d} + v",
        constants=(FEW, FEW),
    ),
    # texts
    _text(0, 0.77, "turn it to upper case", "{x}.upper()", "{x}.title()", "{x}.lower()"),
    _text(0, 0.77, "turn it to lower case", "{x}.lower()", "{x}.upper()"),
    _text(0, 0.72, "repeat it {c} times", "{x} * {c}", "{x} + '{c}'", constants=(FEW,)),
    _text(0, 0.67, "drop the first {c} letters", "{x}[{c}:]", "{x}[:{c}]", constants=(FEW,)),
    _text(0, 0.77, "remove every '{c}'", "{x}.replace('{c}', '')", "{x}.strip('{c}')", constants=(LETTERS,)),
    _text(0, 0.72, "add '{c}' at the end", "{x} + '{c}'", "'{c}' + {x}", constants=(LETTERS,)),
    _text(1, 0.70, "reverse the text", "{x}[::-1]", "{x}[:-1]"),
    _text(1, 0.60, "keep the last {c} letters", "{x}[-{c}:]", "{x}[:-{c}]", constants=(FEW,)),
    _text(
        1, 0.65, "replace every '{c}' by '{d}'", "{x}.replace('{c}', '{d}')", "{x}.replace('{d}', '{c}')",
        constants=(LETTERS, LETTERS),
    ),
    _text(1, 0.70, "count the '{c}'", "{x}.count('{c}')", "{x}.find('{c}')", gives=NUMBER, constants=(LETTERS,)),
    _text(2, 0.46, "find the last '{c}'", "{x}.rfind('{c}')", "{x}.find('{c}')", gives=NUMBER, constants=(LETTERS,)),
    _text(2, 0.63, "count the words", "len({x}.split())", "len({x})", gives=NUMBER),
    _text(
        3, 0.46, "take the length of each word", "[len(w) for w in {x}.split()]", "[len(w) for w in {x}]", gives=LIST,
    ),
    _text(
        4, 0.46, "count the '{c}' in each word", "[w.count('{c}') for w in {x}.split()]",
        "[w.find('{c}') for w in {x}.split()]", gives=LIST, constants=(LETTERS,),
    ),
)  # fmt: skip

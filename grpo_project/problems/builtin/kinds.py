"""Kinds of everyday tasks in plain English, for a model that was trained on real text: the table of an asset.

A kind belongs to one split with all its constants: what is held out is never a trained task with other numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

TAKES = {
    "n": ("n", "an integer `n`"),
    "ab": ("a, b", "two integers `a` and `b`"),
    "numbers": ("numbers", "a list of integers `numbers`"),
    "text": ("text", "a string `text`"),
    "words": ("words", "a list of strings `words`"),
}
"""What a function takes: its parameters, and how they are spoken of."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A function with constants: ``k`` (and ``j``) integers, ``c`` a letter, ``w`` a word."""

    name: str
    takes: str
    what: str
    """Completes "returns ..."; constants in braces."""
    body: str
    """The function's body: an expression to be returned, or lines with a ``return``."""
    low: int = 2
    high: int = 9
    """The range of ``k``."""


@cache
def kinds_of(split: str, level: str) -> tuple[Kind, ...]:
    """The kinds of a split's level, in order."""
    text = resources.files("grpo_project").joinpath("assets/everyday_kinds.txt").read_text(encoding="utf-8")
    section = text.split(f"[{split} {level}]\n")[1].split("\n[")[0]
    return tuple(_kind(line) for line in section.splitlines() if line)


def _kind(line: str) -> Kind:
    name, takes, what, body, *limits = (part.strip() for part in line.split(" | "))
    low, high = map(int, limits[0].split("-")) if limits else (2, 9)
    return Kind(name, takes, what, body, low, high)

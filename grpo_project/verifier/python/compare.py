"""Is a returned value, or a printed output, the expected one? With the problem's choices."""

from __future__ import annotations

import math
from typing import Any

from grpo_project.verifier.cage.values import Opaque

FLOAT_TOLERANCE = 1e-9
"""Absolute and relative, for numbers written with a point, unless the problem states another."""


class Comparator:
    """Python's ``==`` on exact built-in types, with the choices of ``problems.problem.Comparison``.

    That class is not imported by the process that compares.
    """

    __slots__ = ("distinguish_sequences", "float_tolerance", "nan_equal")

    def __init__(self, float_tolerance: float | None, nan_equal: bool, distinguish_sequences: bool) -> None:
        self.float_tolerance = float_tolerance
        self.nan_equal = nan_equal
        self.distinguish_sequences = distinguish_sequences

    def equal(self, expected: Any, got: Any) -> bool:
        """``got`` comes from ``values.loads``: built-in types only, of bounded depth."""
        if isinstance(got, Opaque) or isinstance(expected, Opaque):
            return False
        if isinstance(expected, list | tuple):
            return self._sequences(expected, got)
        if isinstance(expected, dict):
            if not isinstance(got, dict) or len(expected) != len(got):
                return False
            return all(key in got and self.equal(value, got[key]) for key, value in expected.items())
        if isinstance(expected, float) or isinstance(got, float):
            return self._numbers(expected, got)
        return bool(expected == got)

    def _sequences(self, expected: Any, got: Any) -> bool:
        if not isinstance(got, list | tuple) or len(expected) != len(got):
            return False
        if self.distinguish_sequences and type(expected) is not type(got):
            return False
        return all(self.equal(left, right) for left, right in zip(expected, got, strict=True))

    def _numbers(self, expected: Any, got: Any) -> bool:
        if expected == got:
            return True
        if not isinstance(expected, int | float) or not isinstance(got, int | float):
            return False
        try:
            left, right = float(expected), float(got)
        except OverflowError:
            return False  # an integer above every float; it was unequal above
        if math.isnan(left) or math.isnan(right):
            return self.nan_equal and math.isnan(left) and math.isnan(right)
        tolerance = self.float_tolerance
        return tolerance is not None and math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)


def same_output(expected: str, got: str, tolerance: float | None) -> bool:
    """Line by line, blanks at the ends of lines and of the text aside; then word by word with numbers close."""
    left, right = _lines(expected), _lines(got)
    if left == right:
        return True
    if len(left) != len(right):
        return False
    tolerance = FLOAT_TOLERANCE if tolerance is None else tolerance
    return all(_same_line(a, b, tolerance) for a, b in zip(left, right, strict=True))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.replace("\r\n", "\n").rstrip().split("\n")]


def _same_line(expected: str, got: str, tolerance: float) -> bool:
    left, right = expected.split(), got.split()
    return len(left) == len(right) and all(_same_word(a, b, tolerance) for a, b in zip(left, right, strict=True))


def _same_word(expected: str, got: str, tolerance: float) -> bool:
    if expected == got:
        return True
    if "." not in expected or len(got) > 400:
        return False  # whole numbers and words, "12E3" as well, have to be the same
    try:
        left, right = float(expected), float(got)
    except ValueError:
        return False
    return math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)

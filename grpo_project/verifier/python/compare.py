"""Is a returned value the expected one? Python's ``==`` on exact built-in types, with the problem's choices."""

from __future__ import annotations

import math
from typing import Any

from grpo_project.verifier.cage.values import Opaque


class Comparison:
    """The choices of ``problems.problem.Comparison``, for a process that does not import it."""

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

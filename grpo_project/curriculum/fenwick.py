"""Weighted drawing in O(log N): a Fenwick (binary indexed) tree over whole-number weights.

Whole numbers, because their sums don't depend on the order of updates: a tree rebuilt after a resume is the same tree,
bit for bit, as the one that was updated step by step.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable


class FenwickTree:
    """Weights (whole numbers, 0 or more) at positions 0..N-1."""

    def __init__(self, weights: Iterable[int]) -> None:
        self._weights = array("q", weights)
        self._sums = array("q", [0])
        self._sums.extend(self._weights)
        for i in range(1, len(self._sums)):  # linear-time build: each node adds itself to its parent
            parent = i + (i & -i)
            if parent < len(self._sums):
                self._sums[parent] += self._sums[i]
        self.total = sum(self._weights)
        self._top = 1 << (len(self._weights).bit_length() - 1) if len(self._weights) else 0

    def __len__(self) -> int:
        return len(self._weights)

    def __getitem__(self, position: int) -> int:
        return self._weights[position]

    def set(self, position: int, weight: int) -> None:
        """Change one weight."""
        change = weight - self._weights[position]
        self._weights[position] = weight
        self.total += change
        i = position + 1
        while i < len(self._sums):
            self._sums[i] += change
            i += i & -i

    def find(self, target: int) -> int:
        """The position whose share of ``range(total)`` holds ``target``: uniform targets draw by weight."""
        i, step = 0, self._top
        while step:
            child = i + step
            if child < len(self._sums) and self._sums[child] <= target:
                i = child
                target -= self._sums[child]
            step >>= 1
        return i

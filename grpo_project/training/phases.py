"""Where a step's time goes: seconds by phase, summed until a row is written; and when anything moved last."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

KEPT = 32
"""Durations of a phase that stay, to know how long one usually takes."""


class Phases:
    """A stopwatch for phases that may lie within each other: the inner one's time is not the outer one's.

    Another thread may read ``open``, ``moved_at`` and ``usual_s`` at any time (``watchdog``).
    """

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._inner = [0.0]  # seconds of the phases within each open one
        self._durations: dict[str, deque[float]] = {}
        self.open: tuple[str, ...] = ()
        """The phases that are going on, the innermost last."""
        self.moved_at = time.monotonic()
        """When a token, a verdict or a phase's beginning or end was seen last."""

    def moved(self) -> None:
        """Something was done: what is going on is no standstill."""
        self.moved_at = time.monotonic()

    def usual_s(self, phase: str) -> float | None:
        """The median duration of the newest ``KEPT`` of a phase, inner ones included; ``None`` before the first."""
        durations = self._durations.get(phase)
        return median(tuple(durations)) if durations else None

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        self._inner.append(0.0)
        outer, self.open = self.open, (*self.open, phase)
        self.moved()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.open = outer
            self.moved()
            within = self._inner.pop()
            self._inner[-1] += elapsed
            self._spent[phase] = self._spent.get(phase, 0.0) + elapsed - within
            self._durations.setdefault(phase, deque(maxlen=KEPT)).append(elapsed)

    def take(self) -> dict[str, float]:
        """``time/PHASE`` -> seconds since the last call."""
        spent, self._spent = self._spent, {}
        return {f"time/{phase}": seconds for phase, seconds in spent.items()}

"""Where a step's time goes: seconds by phase, summed until a row of metrics is written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Phases:
    """A stopwatch for phases that may lie within each other: the inner one's time is not the outer one's."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._inner = [0.0]  # seconds of the phases within each open one

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            within = self._inner.pop()
            self._inner[-1] += elapsed
            self._spent[phase] = self._spent.get(phase, 0.0) + elapsed - within

    def take(self) -> dict[str, float]:
        """``time/PHASE`` -> seconds since the last call."""
        spent, self._spent = self._spent, {}
        return {f"time/{phase}": seconds for phase, seconds in spent.items()}

"""Notices that a stage makes no progress, and remembers what to do then."""

from __future__ import annotations

from typing import Any


class Stall:
    """A stage has stalled after ``patience`` evaluations whose second half is no better than the first by ``min_gain``.

    Whatever the trend, it has also stalled after three times that many: slow progress is told too. ``relax`` lowers the
    threshold by ``relax_by``.
    """

    min_gain = 0.02
    relax_by = 0.05

    def __init__(self, action: str = "warn", patience: int = 6) -> None:
        self.action = action
        self.patience = patience
        self._rates: list[float | None] = []
        self._threshold = 0.0

    def observe(self, rate: float | None, threshold: float) -> bool:
        """Take in the stage's pass rate at an evaluation (None: it had none). Whether the stage has stalled."""
        self._rates.append(rate)
        self._threshold = threshold
        if len(self._rates) < self.patience:
            return False
        recent = self._rates[-self.patience :]
        first = [r for r in recent[: self.patience // 2] if r is not None]
        second = [r for r in recent[self.patience // 2 :] if r is not None]
        if not first or not second or len(self._rates) >= 3 * self.patience:
            return True
        return sum(second) / len(second) - sum(first) / len(first) < self.min_gain

    def cause(self, stage: str) -> str:
        """What was seen, as a sentence."""
        return f"Stage {stage} has made no progress towards {self._threshold:.2f} over {self.patience} evaluations."

    def reset(self) -> None:
        """A stage was entered, or the stall was acted on."""
        self._rates.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"rates": list(self._rates), "threshold": self._threshold}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rates = list(state["rates"])
        self._threshold = state["threshold"]

"""What is remembered of a run's evaluations from one to the next, and in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from grpo_project.evaluation.estimators import paired_change, paired_p_value
from grpo_project.evaluation.result import EvaluationResult

KEPT = 100
"""Evaluations, and failures, that are remembered: each is a part of every checkpoint. All are in the run's record."""


@dataclass(slots=True)
class EvaluationHistory:
    """A line for each of the newest evaluations, and the pass rates by problem of the first and the last one."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    """The newest ``KEPT``."""
    count: int = 0
    """Of all evaluations."""
    first_rates: dict[str, float] | None = None
    last_rates: dict[str, float] | None = None
    problems: str | None = None
    """Fingerprint of the problems that the rates belong to."""
    failures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def steps(self) -> list[int]:
        return [line["step"] for line in self.lines]

    @property
    def last_step(self) -> int:
        """-1 before the first evaluation."""
        return self.lines[-1]["step"] if self.lines else -1

    def has(self, step: int) -> bool:
        return step in self.steps

    def add(self, result: EvaluationResult) -> None:
        main = result.intervals["test_pass_rate"]
        self.count += 1
        self.lines.append(
            {
                "step": result.step,
                "avg_test_pass_rate": main.mean,
                "low": main.low,
                "high": main.high,
                "problems": main.n,
                "completions": len(result.records),
                "source": result.source,
            }
        )
        del self.lines[:-KEPT]
        self.first_rates = self.first_rates or result.rates
        self.last_rates = result.rates

    def add_failure(self, step: int, reason: str) -> None:
        self.failures.append({"step": step, "reason": reason})
        del self.failures[:-KEPT]

    def forget_rates(self) -> None:
        """The problems have changed: later evaluations can't be compared with earlier ones."""
        self.first_rates = self.last_rates = None

    def to_dict(self) -> dict[str, Any]:
        """A copy that later evaluations don't change."""
        return {
            "lines": list(self.lines),
            "count": self.count,
            "first_rates": self.first_rates,
            "last_rates": self.last_rates,
            "problems": self.problems,
            "failures": list(self.failures),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> EvaluationHistory:
        """Inverse of ``to_dict``; older versions kept all lines and no count."""
        lines, failures = list(saved["lines"]), list(saved["failures"])
        count = saved.get("count", len(lines))
        return cls(**{**saved, "lines": lines[-KEPT:], "count": count, "failures": failures[-KEPT:]})

    def summary(self) -> dict[str, Any]:
        """``history`` and ``failures`` are the newest ``KEPT``, ``evaluation_count`` counts all."""
        return {
            "evaluation_count": self.count,
            "last_step": self.lines[-1]["step"] if self.lines else None,
            "last": self.lines[-1] if self.lines else None,
            "source": self.lines[-1]["source"] if self.lines else None,
            "history": list(self.lines),
            "trend": self._trend(),
            "failures": list(self.failures),
        }

    def _trend(self) -> dict[str, float] | None:
        """Paired change from the first to the last evaluation of the same problems; None before there are two."""
        if self.first_rates is None or self.last_rates is None or self.count < 2:
            return None
        before = [self.first_rates[name] for name in self.last_rates]
        after = list(self.last_rates.values())
        change = paired_change(before, after)
        p_value = paired_p_value(before, after)
        return {"change": change.mean, "low": change.low, "high": change.high, "p_value": p_value, "problems": change.n}

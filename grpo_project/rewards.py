"""Verdicts to numbers. Pure functions: no model, no sandbox, no state."""

from __future__ import annotations

from collections.abc import Callable

from grpo_project.verifier.verdict import Verdict

RewardFunction = Callable[[Verdict], float]


def pass_rate(verdict: Verdict) -> float:
    """Share of the problem's tests that passed, 0 to 1."""
    return verdict.pass_rate


def all_or_nothing(verdict: Verdict) -> float:
    """1.0 if every test passed, else 0.0."""
    return float(verdict.solved)


def mixed(verdict: Verdict) -> float:
    """Mean of the two: partial work is worth something, a solution clearly more, 0 to 1."""
    return 0.5 * pass_rate(verdict) + 0.5 * all_or_nothing(verdict)


BY_NAME: dict[str, RewardFunction] = {f.__name__: f for f in (pass_rate, all_or_nothing, mixed)}

"""Verdicts to numbers. Pure functions: no model, no sandbox, no state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps

from grpo_project.verifier.verdict import Status, Verdict

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


NOT_BUILT, BUILT, RAN, SHARE = 0.1, 0.2, 0.3, 0.4
"""Weights of ``stepwise``, a choice by argument and not by measurement: a first model that seldom compiles has rewards
that differ, each step is worth more than the one before, and from the last case that fails to none it is the most."""
_NOT_BUILT = (Status.SYNTAX_ERROR, Status.ELABORATION_ERROR, Status.WRONG_INTERFACE, Status.WRONG_FORMAT)
_STOPPED = (Status.ERROR, Status.TIMEOUT, Status.MEMORY)


def stepwise(verdict: Verdict) -> float:
    """No code (0), code that can't be built (0.1), that stops with a fault (0.2), that runs (0.3 + 0.4 x share of tests
    passed), all tests (1). What is refused for forging (``Status.REFUSED``) earns nothing. NaN as ``pass_rate``."""
    if verdict.status in (Status.INFRASTRUCTURE, Status.UNUSABLE):
        return verdict.pass_rate
    if verdict.solved:
        return 1.0
    if verdict.code is None or verdict.status is Status.REFUSED:
        return 0.0
    if not verdict.passed and verdict.status in _NOT_BUILT:
        return NOT_BUILT
    if not verdict.passed and verdict.status in _STOPPED:
        return BUILT
    return RAN + SHARE * verdict.pass_rate


def strong_evidence(verdict: Verdict) -> Verdict:
    """The verdict over the tests that are not weak; over one that failed, where all are.

    Which tests are weak is the problem's, the same for every completion: none can gain by moving its failures there.
    """
    if not any(test.weak for test in verdict.tests):
        return verdict
    strong = [test for test in verdict.tests if not test.weak]
    return replace(verdict, passed=sum(test.passed for test in strong), total=max(1, len(strong)))


BY_NAME: dict[str, RewardFunction] = {f.__name__: f for f in (pass_rate, all_or_nothing, mixed, stepwise)}


def reward_function(name: str, weak_tests: str = "ignore") -> RewardFunction:
    """The reward of this name; ``weak_tests`` is "ignore" or "allow"."""
    reward = BY_NAME[name]
    if weak_tests == "allow":
        return reward

    @wraps(reward)
    def of_strong_evidence(verdict: Verdict) -> float:
        return reward(strong_evidence(verdict))

    return of_strong_evidence

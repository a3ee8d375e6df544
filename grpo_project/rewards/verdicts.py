"""What verdicts are worth. Pure functions: no model, no sandbox, no state.

Each takes the verdicts of the completions of one problem, a group, and gives a number for each; all but ``weighted``
look at one verdict at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from grpo_project.verifier.verdict import Status, Verdict


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


def weighted(verdicts: Sequence[Verdict]) -> list[float]:
    """Half for solving the problem, half for tests weighted by how seldom the group passes them, 0 to 1.

    A test that k of the group's n completions pass weighs 1 - (k + 1/2) / (n + 1): what nearly all pass earns next to
    nothing, what one alone passes earns the most. The idea is that of VeRPO (arXiv 2601.03525): test weights from the
    outcomes in training, and the outcome of the whole; the formula is ours. The weights come from the group alone, so
    there is no state, and a step that is done again gives the same rewards.
    """
    outcomes = [[test.passed for test in verdict.tests] for verdict in verdicts]
    if len({len(row) for row in outcomes}) != 1 or not outcomes[0]:  # all weak, or verdicts that name no tests
        return [mixed(verdict) for verdict in verdicts]
    n = len(outcomes)
    weights = [1 - (sum(column) + 0.5) / (n + 1) for column in zip(*outcomes, strict=True)]
    total = sum(weights)
    earned = [sum(w for w, passed in zip(weights, row, strict=True) if passed) / total for row in outcomes]
    return [0.5 * dense + 0.5 * verdict.solved for dense, verdict in zip(earned, verdicts, strict=True)]


def strong_evidence(verdict: Verdict) -> Verdict:
    """The verdict over the tests that are not weak; over one that failed, where all are.

    Which tests are weak is the problem's, the same for every completion: none can gain by moving its failures there.
    """
    if not any(test.weak for test in verdict.tests):
        return verdict
    strong = tuple(test for test in verdict.tests if not test.weak)
    return replace(verdict, tests=strong, passed=sum(test.passed for test in strong), total=max(1, len(strong)))

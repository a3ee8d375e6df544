"""``grpo_project.verify``: one completion, one verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from grpo_project.problems.formats import problem_from_row
from grpo_project.problems.problem import Problem
from grpo_project.rewards.judging import shared_verifier
from grpo_project.verifier import Job, Verdict


def verify(problem: Problem | Mapping[str, Any] | str, completion: str) -> Verdict:
    """Run a completion against a problem's tests, caged; the workers are started once for the process.

    For many completions, another isolation level or a verdict that repeats on other machines take a ``Verifier``.

    Args:
        problem: a ``Problem``, or a row of any format that problem files have: a mapping, or JSON text.
        completion: the model's answer, as text; its code is found as in training.

    Raises:
        DataError: the row is no problem, or its tests can't be run.
        SandboxError: our own side failed, which says nothing about the completion.
        ConfigError: this machine allows no isolation.
    """
    if not isinstance(problem, Problem):
        problem = problem_from_row(problem if isinstance(problem, str) else json.dumps(problem))
    return shared_verifier().verify(Job(problem, completion))

"""One verifier for the whole process, for callers that bring none: rewards in other trainers, ``verify``."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Sequence
from typing import Any

from grpo_project.problems.formats import problem_from_row
from grpo_project.problems.problem import Problem
from grpo_project.verifier import Job, Verdict, Verifier

_lock = threading.Lock()
_verifier: Verifier | None = None
_last: tuple[list[Job], list[Verdict]] = ([], [])


def shared_verifier() -> Verifier:
    """The verifier of this process, started when it is first needed and closed at its end."""
    global _verifier
    with _lock:
        if _verifier is None:
            _verifier = Verifier()
            atexit.register(_verifier.close)
        return _verifier


def judged(completions: Sequence[Any], problems: Sequence[Problem | str]) -> list[Verdict]:
    """The verdicts of completions, in order.

    Several reward functions are asked about the same completions one after the other: they are judged once, also where
    a program ran out of time, which the verifier itself does not remember.

    Raises:
        SandboxError, DataError: as ``Verifier.verify_many``.
    """
    global _last
    known = [problem if isinstance(problem, Problem) else problem_from_row(problem) for problem in problems]
    jobs = [Job(problem, text_of(completion)) for problem, completion in zip(known, completions, strict=True)]
    before = _last
    if [(job.id, id(job.problem)) for job in jobs] != [(job.id, id(job.problem)) for job in before[0]]:
        _last = before = jobs, shared_verifier().verify_many(jobs)
    return before[1]


def text_of(completion: Any) -> str:
    """The text of a completion as TRL hands it over: a string, or a list of messages."""
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] or "" for message in completion)

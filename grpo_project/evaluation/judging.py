"""Completions with the judge: each is handed in as soon as it has ended, while others are still being generated."""

from __future__ import annotations

from grpo_project.errors import GrpoError
from grpo_project.verifier.verdict import Job, Judge, Verdict


class PendingVerdict:
    """A completion that the judge is at work on. One that nobody refers to any more need not be finished."""

    def __init__(self, judge: Judge, job: Job) -> None:
        self._failure: GrpoError | None = None
        try:
            self._verdicts = iter(judge.stream([job]))
        except GrpoError as error:  # raised where the verdict is needed: ranks may be generating in lockstep now
            self._failure = error

    def wait(self) -> Verdict:
        """The verdict. Raises as the judge does; call it once."""
        if self._failure is not None:
            raise self._failure
        return next(self._verdicts)

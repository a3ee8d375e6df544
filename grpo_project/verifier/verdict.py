"""What the verifier takes and gives: ``Job`` in, ``Verdict`` out. Plain, picklable values."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from grpo_project.problems.problem import Problem


class Status(StrEnum):
    """The outcome of a candidate, or of one of its tests."""

    PASSED = "passed"
    FAILED = "failed"
    """It ran; a value differed from the expected one."""
    WRONG_FORMAT = "wrong_format"
    """No code could be found in the completion, or the entry point is not defined."""
    SYNTAX_ERROR = "syntax_error"
    """The code can't be parsed."""
    ELABORATION_ERROR = "elaboration_error"
    """Verilog: it parses and can't be built, as with an unknown name or module."""
    WRONG_INTERFACE = "wrong_interface"
    """Verilog: the module lacks a port that its bench connects."""
    REFUSED = "refused"
    """Verilog: it uses what no design needs and a forged verdict does: system tasks, names outside of it."""
    ERROR = "error"
    """It failed while it was loaded or run."""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    UNUSABLE = "unusable"
    """The problem's own tests can't be run. Given only to who asks for it; else ``DataError`` is raised."""
    INFRASTRUCTURE = "infrastructure"
    """Our fault, not the candidate's: nothing is known of it, and it must not become a reward. Given only to who asks
    for it (``keep_faults``); for everybody else ``SandboxError`` is raised."""


@dataclass(frozen=True, slots=True)
class Job:
    """One completion to judge. ``id`` is the same for the same work, so that a job can be sent twice safely."""

    problem: Problem
    completion: str
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            digest = hashlib.sha256(f"{self.problem.id}\0{self.completion}".encode("utf-8", "surrogatepass"))
            object.__setattr__(self, "id", digest.hexdigest()[:24])


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test's outcome. ``input``, ``expected`` and ``got`` are short texts for people."""

    __test__ = False  # its name is not a test's

    status: Status
    message: str = ""
    input: str = ""
    expected: str = ""
    got: str = ""
    cpu_s: float = 0.0
    weak: bool = False
    """It leaves it to the program's own objects whether they are right."""

    @property
    def passed(self) -> bool:
        return self.status is Status.PASSED


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one completion did. ``total`` is always the problem's number of tests: a missing result is a failure."""

    job_id: str
    problem_id: str
    status: Status
    passed: int
    total: int
    tests: tuple[TestResult, ...] = ()
    code: str | None = None
    """The extracted program, as it was run."""
    message: str = ""
    weak: bool = False
    """Some test could only be judged inside the candidate's own process."""
    method: str = ""
    """How it was judged, where the language knows several ways: ``replay``, ``player``, ``nonce bench``."""
    remarks: tuple[str, ...] = ()
    """What is odd about the problem, found when it was made ready."""
    cached: bool = False
    cpu_s: float = 0.0
    wall_s: float = 0.0

    @property
    def pass_rate(self) -> float:
        """Share of the problem's tests that passed, 0 to 1; NaN where our own side failed, which is no 0."""
        if self.status is Status.INFRASTRUCTURE:
            return math.nan
        return self.passed / self.total

    @property
    def solved(self) -> bool:
        return self.passed == self.total


class Judge(Protocol):
    """What trainer and evaluation need of a verifier. Raises ``SandboxError`` when it can't judge."""

    def stream(self, jobs: Sequence[Job]) -> Iterable[Verdict]:
        """Verdicts as they are done, told apart by ``job_id``. The work begins now, elsewhere, not with the first.

        A ``Verifier``'s takes ``keep_faults`` beside them: faults of ours as verdicts of status ``infrastructure``.
        """

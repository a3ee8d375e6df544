"""What the engine needs of a language, on the judges' side. The trainer's side is ``languages``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


class Unusable(Exception):
    """The problem's own tests can't be run, whatever the candidate."""


class Result:
    """One test's outcome; the fields of ``verdict.TestResult``."""

    __slots__ = ("cpu_s", "expected", "got", "input", "message", "status", "weak")

    def __init__(self, status: str, message: str = "", input: str = "", expected: str = "", got: str = "") -> None:
        self.status = status
        self.message = message[:500]
        self.input = input
        self.expected = expected
        self.got = got
        self.cpu_s = 0.0
        self.weak = False

    def fields(self) -> tuple:
        return (self.status, self.message, self.input, self.expected, self.got, self.cpu_s, self.weak)


@dataclass(slots=True)
class Graded:
    """What came of one candidate: a result for every test."""

    results: list[Result]
    cpu_s: float
    method: str = ""
    """How it was judged, where the language knows several ways."""
    remarks: list[str] = field(default_factory=list)
    """What is odd about the problem, for whoever made it."""
    out_of_memory: bool = False
    """The machine was short of memory, and the kernel ended the candidate for it."""

    @property
    def weak(self) -> bool:
        """Some test leaves it to the candidate whether it is right."""
        return any(result.weak for result in self.results)


class Room(Protocol):
    """A language's cages, in one judge. Made with the judge's launcher; nothing is started before it is needed.

    Their zygotes end with the judge.
    """

    def grader(self, spec: dict[str, Any]) -> Any:
        """A problem, made ready: kept and handed back to ``grade``. Raises ``Unusable``."""

    def grade(self, grader: Any, program: str, seed: bytes) -> Graded:
        """``seed`` is where the chance that a program meets comes from.

        Raises ``Unusable`` for the problem's fault, ``CageError`` for our own.
        """

    def start(self) -> None:
        """Start what the first candidate would wait for. A failure is told by the first candidate."""

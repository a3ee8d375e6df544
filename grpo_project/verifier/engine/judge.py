"""The trusted half of a worker: takes jobs, holds each candidate in its cage, compares outside of it, sends outcomes.

Messages (pickle; both ends are ours): in ``(number, problem key, problem, program)``, out
``(number, kind, content)`` with kind "judged": (weak, results, CPU seconds, wall seconds), "fault": our own failure,
"unusable": the problem's tests.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import resource
import signal
import socket
import sys
import time
from collections import OrderedDict
from typing import Any

from grpo_project.verifier.cage import kernel, launch, wire
from grpo_project.verifier.cage.cage import Cage, CageError
from grpo_project.verifier.python.exam import CallExam, CheckExam, Exam, Result, SourceExam, Unusable
from grpo_project.verifier.python.stdio import StdioExam

KINDS: dict[str, type[Exam]] = {"call": CallExam, "assert": SourceExam, "check": CheckExam, "stdio": StdioExam}
_IMPORTS_NUMPY = re.compile(r"^\s*(?:import|from)\s+numpy\b", re.MULTILINE)
_EXAMS_KEPT = 256
MEMORY_BYTES = 8 << 30
"""Address space of a judge. Test code that a hostile value blows up gets a ``MemoryError`` before the machine does."""


def serve(link: socket.socket, isolation: str) -> None:
    """Work off jobs until the other side closes ``link``."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    judge = Judge(isolation)
    try:
        judge.start()
        while (message := wire.receive(link)) is not None:
            number, key, problem, program = pickle.loads(message)
            wire.send(link, pickle.dumps((number, *judge.outcome(key, problem, program))))
    finally:
        judge.close()


def _hold(exam: Exam, cage: Cage, program: str) -> tuple[list[Result], float]:
    """Run a program whose process was killed by a stranger once more: the second time it counts as its own doing."""
    cage.killed_by_others = False
    first = exam.hold(cage, program)
    return exam.hold(cage, program) if cage.killed_by_others else first


class Judge:
    """A cage and the exams that were used last."""

    def __init__(self, isolation: str) -> None:
        numpy_site = os.environ.get(launch.NUMPY_SITE)
        if numpy_site is not None:
            sys.path.append(numpy_site)  # for tests that import numpy, or what is installed beside it
        self._cage = Cage(isolation)
        self._numpy_cage = None if numpy_site is None else Cage(isolation, numpy_site)
        self._exams: OrderedDict[bytes, Exam] = OrderedDict()

    def outcome(self, key: bytes, problem: bytes, program: str) -> tuple[str, Any]:
        start = time.monotonic()
        try:
            exam = self._exam(key, problem)
            results, cpu_s = _hold(exam, self._cage_for(program), program)
        except CageError as error:
            return "fault", str(error)
        except Unusable as error:
            return "unusable", str(error)
        return "judged", (exam.weak, [result.fields() for result in results], cpu_s, time.monotonic() - start)

    def _cage_for(self, program: str) -> Cage:
        """Loading numpy takes fifty times as long as a small program: one zygote has it loaded."""
        if self._numpy_cage is not None and _IMPORTS_NUMPY.search(program):
            return self._numpy_cage
        return self._cage

    def _exam(self, key: bytes, problem: bytes) -> Exam:
        if key not in self._exams:
            spec = pickle.loads(problem)
            self._exams[key] = KINDS[spec["kind"]](spec)
            if len(self._exams) > _EXAMS_KEPT:
                self._exams.popitem(last=False)
        self._exams.move_to_end(key)
        return self._exams[key]

    def start(self) -> None:
        """Start the cage now instead of with the first job, which will try again and tell if it fails."""
        with contextlib.suppress(CageError):
            self._cage.start()

    def close(self) -> None:
        self._cage.close()
        if self._numpy_cage is not None:
            self._numpy_cage.close()

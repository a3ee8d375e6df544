"""The trusted half of a worker: takes jobs, holds each candidate in its cage, compares outside of it, sends outcomes.

Messages (pickle; both ends are ours): in ``(number, problem key, problem, program, seed)``, out
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
from grpo_project.verifier.python.grader import CallGrader, CheckGrader, Grader, Result, SourceGrader, Unusable
from grpo_project.verifier.python.stdio import StdioGrader

KINDS: dict[str, type[Grader]] = {
    "call": CallGrader,
    "assert": SourceGrader,
    "check": CheckGrader,
    "stdio": StdioGrader,
}
_IMPORTS_NUMPY = re.compile(r"^\s*(?:import|from)\s+numpy\b", re.MULTILINE)
_GRADERS_KEPT = 256
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
            number, *job = pickle.loads(message)
            wire.send(link, pickle.dumps((number, *judge.outcome(*job))))
    finally:
        judge.close()


def _grade(grader: Grader, cage: Cage, program: str, seed: bytes) -> tuple[list[Result], float]:
    """Run a program whose process was killed by a stranger once more: the second time it counts as its own doing."""
    cage.killed_by_others = False
    first = grader.grade(cage, program, seed)
    return grader.grade(cage, program, seed) if cage.killed_by_others else first


class Judge:
    """A cage and the graders that were used last."""

    def __init__(self, isolation: str) -> None:
        numpy_site = os.environ.get(launch.NUMPY_SITE)
        if numpy_site is not None:
            sys.path.append(numpy_site)  # for tests that import numpy, or what is installed beside it
        self._cage = Cage(isolation)
        self._numpy_cage = None if numpy_site is None else Cage(isolation, numpy_site)
        self._graders: OrderedDict[bytes, Grader] = OrderedDict()

    def outcome(self, key: bytes, problem: bytes, program: str, seed: bytes) -> tuple[str, Any]:
        start = time.monotonic()
        try:
            grader = self._grader(key, problem)
            results, cpu_s = _grade(grader, self._cage_for(program), program, seed)
        except CageError as error:
            return "fault", str(error)
        except Unusable as error:
            return "unusable", str(error)
        return "judged", (grader.weak, [result.fields() for result in results], cpu_s, time.monotonic() - start)

    def _cage_for(self, program: str) -> Cage:
        """Loading numpy takes fifty times as long as a small program: one zygote has it loaded."""
        if self._numpy_cage is not None and _IMPORTS_NUMPY.search(program):
            return self._numpy_cage
        return self._cage

    def _grader(self, key: bytes, problem: bytes) -> Grader:
        if key not in self._graders:
            spec = pickle.loads(problem)
            self._graders[key] = KINDS[spec["kind"]](spec)
            if len(self._graders) > _GRADERS_KEPT:
                self._graders.popitem(last=False)
        self._graders.move_to_end(key)
        return self._graders[key]

    def start(self) -> None:
        """Start the cage now instead of with the first job, which will try again and tell if it fails."""
        with contextlib.suppress(CageError):
            self._cage.start()

    def close(self) -> None:
        self._cage.close()
        if self._numpy_cage is not None:
            self._numpy_cage.close()

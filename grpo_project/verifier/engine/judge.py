"""The trusted half of a worker: takes jobs, holds each candidate in its cage, compares outside of it, sends outcomes.

Messages (pickle; both ends are ours): in ``(number, problem key, problem, program, seed)``, out
``(number, kind, content)`` with kind "judged": (results, CPU seconds, wall seconds, weak, method, remarks), "fault":
our own failure, "unusable": the problem's tests.
"""

from __future__ import annotations

import pickle
import resource
import signal
import socket
import time
from collections import OrderedDict
from typing import Any

from grpo_project.verifier.cage import kernel, wire
from grpo_project.verifier.cage.cage import CageError
from grpo_project.verifier.languages import room_of
from grpo_project.verifier.room import Room, Unusable

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


class Judge:
    """The languages' rooms, each opened with its first problem, and the graders that were used last."""

    def __init__(self, isolation: str) -> None:
        self._isolation = isolation
        self._rooms: dict[str, Room] = {}
        self._graders: OrderedDict[bytes, tuple[Room, Any]] = OrderedDict()

    def outcome(self, key: bytes, problem: bytes, program: str, seed: bytes) -> tuple[str, Any]:
        start = time.monotonic()
        try:
            room, grader = self._grader(key, problem)
            graded = room.grade(grader, program, seed)
        except CageError as error:
            return "fault", str(error)
        except Unusable as error:
            return "unusable", str(error)
        fields = [result.fields() for result in graded.results]
        told = (graded.weak, graded.method, tuple(graded.remarks))
        return "judged", (fields, graded.cpu_s, time.monotonic() - start, *told)

    def _room(self, language: str) -> Room:
        if language not in self._rooms:
            self._rooms[language] = room_of(language, self._isolation)
        return self._rooms[language]

    def _grader(self, key: bytes, problem: bytes) -> tuple[Room, Any]:
        if key not in self._graders:
            spec = pickle.loads(problem)
            room = self._room(spec["language"])
            self._graders[key] = room, room.grader(spec)
            if len(self._graders) > _GRADERS_KEPT:
                self._graders.popitem(last=False)
        self._graders.move_to_end(key)
        return self._graders[key]

    def start(self) -> None:
        """Start the cage of the most frequent language now instead of with the first job."""
        self._room("python").start()

    def close(self) -> None:
        for room in self._rooms.values():
            room.close()

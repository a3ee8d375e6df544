"""The half of a worker that decides: takes jobs, runs each candidate in its cage, compares outside of it.

Test code of the problems runs here, so this process is confined as well; its keeper starts the cages.

Messages: in (pickle; from our own side) ``(number, problem key, problem, program, seed)``, out (JSON; test code may
have changed whatever this process does) ``(number, kind, content)`` with kind "judged": (results, CPU seconds, wall
seconds, weak, method, remarks), "out_of_memory": the same, of a machine that was short of it, "fault": our own failure,
"unusable": the problem's tests. Before them ``(0, "ready", None)``, or ``(0, "fault", text)`` from a judge that can't
be confined.
"""

from __future__ import annotations

import json
import pickle
import resource
import signal
import socket
import time
from collections import OrderedDict
from typing import Any

from grpo_project.verifier.cage import isolation, wire
from grpo_project.verifier.cage.launch import CageError, Launcher
from grpo_project.verifier.languages import room_of
from grpo_project.verifier.room import Room, Unusable

_GRADERS_KEPT = 256
MEMORY_BYTES = 4 << 30
"""Address space of a judge. Test code that a hostile value blows up gets a ``MemoryError`` before the machine does."""


def greet(link: socket.socket, fault: str | None = None) -> None:
    """The first message: this process is a judge now, or why not."""
    wire.send(link, json.dumps((0, "ready" if fault is None else "fault", fault)).encode())


def serve(link: socket.socket, launcher: Launcher) -> None:
    """Work off jobs until the other side closes ``link``. This process is confined already."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    judge = Judge(launcher)
    judge.start()
    while (message := wire.receive(link)) is not None:
        number, *job = pickle.loads(message)
        wire.send(link, json.dumps((number, *judge.outcome(*job))).encode())


class Judge:
    """The languages' rooms, each opened with its first problem, and the graders that were used last."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._rooms: dict[str, Room] = {}
        self._graders: OrderedDict[bytes, tuple[Room, Any]] = OrderedDict()

    def outcome(self, key: bytes, problem: bytes, program: str, seed: bytes) -> tuple[str, Any]:
        start = time.monotonic()
        try:
            room, grader = self._grader(key, problem)
            isolation.clear_scratch()  # made ready, test code may have run already
            graded = room.grade(grader, program, seed)
        except CageError as error:
            return "fault", str(error)
        except Unusable as error:
            return "unusable", str(error)
        finally:
            isolation.clear_scratch()
        fields = [result.fields() for result in graded.results]
        told = (graded.weak, graded.method, tuple(graded.remarks))
        kind = "out_of_memory" if graded.out_of_memory else "judged"
        return kind, (fields, graded.cpu_s, time.monotonic() - start, *told)

    def _room(self, language: str) -> Room:
        if language not in self._rooms:
            self._rooms[language] = room_of(language, self._launcher)
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

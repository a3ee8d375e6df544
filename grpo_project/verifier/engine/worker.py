"""One worker as the server sees it: what it was given, what it says, whether it is there."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from grpo_project.verifier.cage import wire
from grpo_project.verifier.cage.launch import START_LIMIT_S, CageError
from grpo_project.verifier.engine import keeper

_OUTCOME_BYTES = 64 << 20


@dataclass(slots=True)
class Task:
    """A job on its way. ``stuck_s``: wall seconds after which a worker that still has it has failed."""

    number: int
    payload: bytes
    stuck_s: float
    faults: list[str] = field(default_factory=list)
    avoid: int | None = None
    """The worker that failed it last."""
    alone: bool = False
    """The machine was short of memory: with no other candidate beside it."""


class Worker:
    """One judge with its keeper, as the server sees them. Its first task is the one in work, a second one waits."""

    def __init__(self, index: int, isolation: str, scratch: str | None, profiles: dict[str, Any]) -> None:
        self.index = index
        self.tasks: deque[Task] = deque()
        self.deadline = 0.0
        self.silent = False
        """There is nothing more to come over its link."""
        self.doomed = False
        """It was killed: nothing that still comes from it counts, and it is given nothing more."""
        self.distrusted = ""
        """Why it is not believed any more."""
        self.ended = False
        self.link, theirs = socket.socketpair()
        self._orders, orders = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.frames = wire.Frames(_OUTCOME_BYTES)
        server = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.link.close()
                self._orders.close()
                keeper.run(theirs, orders, isolation, scratch, server)
            except BaseException:  # noqa: BLE001 - a mistake of ours: seen as a death, told on standard error, retried
                traceback.print_exc()
            finally:
                os._exit(1)  # the server's own ends and folders are not this process's to close
        theirs.close()
        orders.close()
        self.pidfd = os.pidfd_open(self.pid)
        self.tell(profiles)

    def tell(self, profiles: dict[str, Any]) -> None:
        """Make profiles known to the keeper."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end comes next
            self._orders.send(json.dumps(profiles).encode())

    def send(self, task: Task) -> None:
        self.tasks.append(task)
        if len(self.tasks) == 1:
            self._begin()
        wire.send(self.link, task.payload)

    def done(self) -> Task:
        """The first task has its outcome; the next one begins."""
        task = self.tasks.popleft()
        if self.tasks:
            self._begin()
        return task

    def _begin(self) -> None:
        self.deadline = time.monotonic() + self.tasks[0].stuck_s

    def greeting(self) -> None:
        """Wait for the judge's first message. Raises ``CageError`` where it can't be confined."""
        fault: Any = "the judge did not start"
        if select.select([self.link], [], [], START_LIMIT_S)[0] and (message := wire.receive(self.link)) is not None:
            _, kind, fault = json.loads(message)
            if kind == "ready":
                return
        raise CageError(fault)

    def kill(self) -> None:
        """End the keeper, and with it all that it has; ``pidfd`` tells when it is gone."""
        self.doomed = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int:
        """Let go of a worker that has ended or has to; its keeper's exit code."""
        self.ended = True
        self.link.close()
        self._orders.close()
        if not select.select([self.pidfd], [], [], 0)[0]:
            self.kill()
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def outcome_of(frame: bytes) -> tuple[int, str, Any]:
    """A judge's message, checked: test code may have changed whatever that process does. Raises ``ValueError``."""
    match json.loads(frame):
        case [
            int() as number,
            ("judged" | "out_of_memory") as kind,
            [list() as results, cpu_s, wall_s, bool(), str(), list() as remarks] as content,
        ]:
            known = all(map(_is_time, (cpu_s, wall_s))) and all(type(remark) is str for remark in remarks)
            if known and all(map(_is_result, results)):
                return number, kind, content
        case [int() as number, ("fault" | "unusable") as kind, str() as text]:
            return number, kind, text
        case [0, "ready", None]:
            return 0, "ready", None
    raise ValueError("no outcome")


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _is_result(value: Any) -> bool:
    match value:
        case [*texts, cpu_s, bool()]:
            return len(texts) == 5 and all(type(text) is str for text in texts) and _is_time(cpu_s)
    return False

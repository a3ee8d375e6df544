"""One candidate, from the trusted side: give it calls, take its answers, hold it to its limits.

Every wait is bounded by CPU time, measured by the kernel from outside, and by a wall cap at a multiple of it. A slow
machine therefore fails no correct program, and a sleeping one ends.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grpo_project.verifier import wire
from grpo_project.verifier.cage import Cage, CageError, Ended, cpu_seconds, credentials_expected, sender

WALL_FACTOR = 4.0
WALL_SLACK_S = 2.0
MIB = 1 << 20
_SEND_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one candidate may use."""

    test_cpu_s: float = 2.0
    """CPU seconds for one call or one program run."""
    load_cpu_s: float = 2.0
    """CPU seconds to load a program whose functions are called: imports, tables, class definitions."""
    candidate_cpu_s: float = 20.0
    """CPU seconds for all of it."""
    memory_mb: int = 512
    """Address space above what the zygote maps."""
    output_bytes: int = 8 * MIB
    """One returned value, or all that a program prints."""
    processes: int = 10
    """Processes and threads, the zygote included. Each process may use ``memory_mb``."""
    file_bytes: int = 8 * MIB

    def of_process(self) -> dict[str, int]:
        """The kernel's own limits (setrlimit), as a backstop: whole CPU seconds."""
        cpu = int(self.candidate_cpu_s + self.load_cpu_s) + 2
        return {
            "RLIMIT_CPU": cpu,
            "RLIMIT_AS": self.memory_mb * MIB,  # the zygote adds what it maps itself
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": 64,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_CORE": 0,
            "RLIMIT_STACK": 64 * MIB,
        }


class Stopped(BaseException):
    """The candidate was ended, or ended itself, before it answered. Not an ``Exception``: test code that catches those
    must not go on as if there had been an answer."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


class Session:
    """One child of a cage's zygote. Use as a context manager: at the end the child is gone."""

    def __init__(self, cage: Cage, limits: Limits, descriptors: tuple[int, ...] = ()) -> None:
        self.cage = cage
        self.limits = limits
        self.cpu_s = 0.0
        """CPU seconds of the child, as last seen."""
        self._frames = wire.Frames(limits.output_bytes)
        self._silent = False
        self._link, theirs = socket.socketpair()
        credentials_expected(self._link)
        self.outcome: Ended | None = None
        with theirs:
            try:
                cage.begin(limits.of_process(), [theirs.fileno(), *descriptors])
            except CageError:
                self._link.close()
                raise
        self._pid = self._meet()

    def _meet(self) -> int:
        """The child's process id. Raises ``CageError`` when no caged child came up."""
        readable, _, _ = select.select([self._link], [], [], 30.0)
        data, ancillary, _, _ = self._link.recvmsg(9, 64) if readable else (b"", [], 0, None)
        pid = sender(ancillary)
        if data != wire.pack(b"hello") or pid is None:
            self._link.close()
            self.cage.close()
            raise CageError("no caged child came up")
        return pid

    def order(self, message: dict[str, Any]) -> None:
        """Send an order. A child that is gone, or does not read, is noticed by the next ``payload``."""
        self._link.settimeout(_SEND_LIMIT_S)  # a hostile child may leave it unread
        try:
            wire.send(self._link, marshal.dumps(message))
        except OSError:
            self._silent = True  # gone, or half an order sent: there is nothing more to expect
        finally:
            self._link.settimeout(None)

    def payload(self, cpu_limit_s: float, doing: str) -> bytes:
        """The next record, undecoded. Raises ``Stopped`` when none came within the limits."""
        start_wall = time.monotonic()
        start_cpu = self._cpu()
        wall_cap = cpu_limit_s * WALL_FACTOR + WALL_SLACK_S
        while True:
            try:
                frame = self._frames.next()
            except wire.TooLong:
                raise Stopped("error", f"{doing}: the answer has more than {self.limits.output_bytes} bytes") from None
            if frame is not None:
                self._cpu()
                return frame
            if self.outcome is not None:
                raise self._stopped_by_end(doing)
            if self._silent:
                if self._ended_by_now():
                    continue
                raise Stopped("error", f"{doing}: the program closed the link to the verifier")
            cpu = self._cpu()
            left = min(cpu_limit_s - (cpu - start_cpu), self.limits.candidate_cpu_s + self.limits.load_cpu_s - cpu)
            wall_left = wall_cap - (time.monotonic() - start_wall)
            if left <= 0:
                raise Stopped("timeout", f"{doing}: more than {cpu - start_cpu:.2g} s of CPU time")
            if wall_left <= 0:
                raise Stopped("timeout", f"{doing}: no answer after {wall_cap:.2g} s")
            self._wait(min(left, wall_left))

    def _ended_by_now(self) -> bool:
        """The end of the process may be known a moment after that of its link."""
        if select.select([self.cage], [], [], 0.5)[0]:
            self._note_end()
        return self.outcome is not None

    def _note_end(self) -> None:
        self.outcome = self.cage.ended()
        self.cpu_s = self.outcome.cpu_s

    def until_end(self, output: Any) -> None:
        """Wait for the end of a program that prints to ``output``. Raises ``Stopped`` at a limit."""
        limit = self.limits.test_cpu_s
        wall_cap = limit * WALL_FACTOR + WALL_SLACK_S
        start = time.monotonic()
        while self.outcome is None:
            output.drain()
            left, wall_left = limit - self._cpu(), wall_cap - (time.monotonic() - start)
            if output.overflowed:
                raise Stopped("error", f"the program printed more than {output.limit} bytes")
            if left <= 0:
                raise Stopped("timeout", f"more than {limit:g} s of CPU time")
            if wall_left <= 0:
                raise Stopped("timeout", f"no end after {wall_cap:g} s")
            self._wait(min(left, wall_left), [] if output.closed else [output.descriptor])

    def _cpu(self) -> float:
        if self.outcome is None:
            self.cpu_s = cpu_seconds(self._pid) or self.cpu_s
        return self.cpu_s

    def _wait(self, seconds: float, more: Sequence[int] = ()) -> None:
        links = [] if self._silent else [self._link]
        watched: list[Any] = [*links, self.cage, *more]
        readable, _, _ = select.select(watched, [], [], seconds)
        if self.cage in readable:
            self._note_end()
        if self._link in readable or self.outcome is not None:
            self._drain()

    def _drain(self) -> None:
        """Take what lies in the link. After the end of the child that is all it will ever have written."""
        while not self._frames.full:  # a program may write faster than this reads
            try:
                data = self._link.recv(1 << 18, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionResetError):
                return
            if not data:
                self._silent = True
                return
            self._frames.feed(data)
            if len(data) < 1 << 16 and self.outcome is None:
                return

    def _stopped_by_end(self, doing: str) -> Stopped:
        assert self.outcome is not None
        code = os.waitstatus_to_exitcode(self.outcome.status)
        if code == -signal.SIGXCPU:
            return Stopped("timeout", f"{doing}: out of CPU time")
        return Stopped("error", f"{doing}: the process ended ({self.outcome.text})")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child. Raises ``CageError`` if that failed."""
        try:
            if self.outcome is None and self.cage.running:
                self.outcome = self.cage.kill()
                self.cpu_s = self.outcome.cpu_s
        finally:
            self._link.close()

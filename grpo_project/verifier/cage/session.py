"""One candidate, from the trusted side: give it calls, take its answers, hold it to its limits.

Every wait is bounded by CPU time, measured by the kernel from outside, and by a wall cap at a multiple of it, in which
waiting for a CPU does not count. A busy machine therefore fails no correct program, and a sleeping one ends.

Where all calls are known ahead the child ends by itself after the last, and this side is not woken for each answer but
for the end of a time slice or of the child: a small program costs it one system call. What a child has sent before
it was ended lies in the socket and keeps its credit.
"""

from __future__ import annotations

import bisect
import marshal
import os
import select
import signal
import socket
import time
from typing import Any

from grpo_project.verifier.cage import wire
from grpo_project.verifier.cage.cage import Cage, Ended, cpu_seconds
from grpo_project.verifier.cage.launch import CageError, credentials_expected, sender
from grpo_project.verifier.cage.limits import SLICE_S, SLICES, WALL_FACTOR, WALL_SLACK_S, Limits

_SEND_LIMIT_S = 10.0
_HELLO = wire.pack(b"hello")
_HELLO_LIMIT_S = 30.0
_LEAVE_S = 0.05
"""Wall seconds that a child which has answered everything gets to end by itself."""
_CHUNK = 1 << 16
_FIRST_SLICE_S = 0.004
"""A small program is done by then; one that fills its link waits no longer than that for it to be read."""


class Stopped(BaseException):
    """The candidate was ended, or ended itself, before it answered. Not an ``Exception``: test code that catches those
    must not go on as if there had been an answer."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


class _Wall:
    """Wall time for one answer, less what the candidate was ready to run and had no CPU: a busy machine's doing."""

    def __init__(self, session: Session, cap_s: float) -> None:
        self.cap_s = cap_s
        self._session = session
        self._end = time.monotonic() + cap_s

    def left_s(self) -> float:
        left = self._end - time.monotonic()
        if left > 0:
            return left
        waited, ready = self._session.waited()  # asked only here: most never get so far
        self._end += waited
        # What it waits for at the moment is counted when it is over: until the next look, if it is ready to run.
        return max(left + waited, SLICE_S if ready else 0.0)


class Session:
    """One child of a cage's zygote. Use as a context manager: at the end the child is gone."""

    def __init__(
        self,
        cage: Cage,
        limits: Limits,
        order: dict[str, Any],
        descriptors: tuple[int, ...] = (),
        *,
        final: bool = False,
    ) -> None:
        """With ``final``, nothing is asked after this order: the child ends when it is done."""
        self.cage = cage
        self.limits = limits
        self.cpu_s = 0.0
        """CPU seconds of the child, as last seen."""
        self.outcome: Ended | None = None
        self._frames = wire.Frames(limits.output_bytes)
        self._final = final
        self._silent = self._overdue = False
        self._waited_s = 0.0  # for a CPU, as far as it was asked about
        self._latest_end = time.monotonic() + limits.wall_s
        self._pid = 0
        self._slice_s = _FIRST_SLICE_S
        self._received = 0  # bytes
        self._ends: list[int] = []  # of the records taken, in bytes
        self._looks: list[tuple[int, float]] = []  # bytes received and CPU seconds used at that time
        self._link, theirs = socket.socketpair()
        credentials_expected(self._link)
        with theirs:
            try:
                rest = self._send_ahead(wire.pack(marshal.dumps(order)))
                cage.begin(limits, [theirs.fileno(), *descriptors])
            except CageError:
                self._link.close()
                raise
        if rest:
            self._send(rest)

    def _send_ahead(self, data: bytes) -> bytes:
        """Put an order into the link before there is a child, which saves both sides a wait; what is left over."""
        try:
            return data[self._link.send(data, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return data

    def order(self, message: dict[str, Any]) -> None:
        """Send a further order. A child that is gone, or does not read, is noticed by the next ``payload``."""
        self._send(wire.pack(marshal.dumps(message)))

    def _send(self, data: bytes) -> None:
        self._link.settimeout(_SEND_LIMIT_S)  # a hostile child may leave it unread
        try:
            self._link.sendall(data)
        except OSError:
            self._silent = True  # gone, or half an order sent: there is nothing more to expect
        finally:
            self._link.settimeout(None)

    def ready(self, doing: str) -> bytes | None:
        """The next record, undecoded, if it is here already. Raises ``Stopped`` for one that is too long."""
        try:
            frame = self._frames.next()
        except wire.TooLong:
            raise Stopped("error", f"{doing}: the answer has more than {self.limits.output_bytes} bytes") from None
        if frame is not None:
            self._ends.append(self._received - self._frames.held)
            if self._ends[-1] > self.limits.answers_bytes:
                raise Stopped("error", f"{doing}: the answers have more than {self.limits.answers_bytes} bytes in all")
        return frame

    def payload(self, cpu_limit_s: float, doing: str) -> bytes:
        """The next record, undecoded. Raises ``Stopped`` when none came within the limits, ``CageError`` when our side
        failed."""
        self._meet()
        start_cpu = self._cpu()
        wall = _Wall(self, cpu_limit_s * WALL_FACTOR + WALL_SLACK_S)
        while (frame := self.ready(doing)) is None:
            if self.outcome is not None:
                if self._drain():
                    continue
                raise self._stopped_by_end(doing)
            if self._silent:
                if self._ended_within(0.5):  # the end of the process may be known a moment after that of its link
                    continue
                raise Stopped("error", f"{doing}: the program closed the link to the verifier")
            cpu = self._cpu()
            left = min(cpu_limit_s - (cpu - start_cpu), self.limits.candidate_cpu_s + self.limits.load_cpu_s - cpu)
            if left <= 0:
                raise self._timed_out(f"{doing}: more than {cpu - start_cpu:.2g} s of CPU time")
            if (wall_left := wall.left_s()) <= 0:
                raise self._timed_out(f"{doing}: no answer after {wall.cap_s:.2g} s")
            self._take(min(left, wall_left, SLICE_S, cpu_limit_s / SLICES))
        return frame

    def _timed_out(self, message: str) -> Stopped:
        self._overdue = True
        return Stopped("timeout", message)

    def _ended_within(self, seconds: float) -> bool:
        if self.outcome is None and (ended := self.cage.ended_within(seconds)) is not None:
            self.outcome, self.cpu_s = ended, ended.cpu_s
        return self.outcome is not None

    def until_end(self, output: Any) -> None:
        """Wait for the end of a program that prints to ``output``. Raises ``Stopped`` at a limit."""
        limit = self.limits.test_cpu_s
        self._meet()
        wall = _Wall(self, limit * WALL_FACTOR + WALL_SLACK_S)
        while not self._ended_within(0):
            output.drain()
            left, wall_left = limit - self._cpu(), wall.left_s()
            if output.overflowed:
                raise Stopped("error", f"the program printed more than {output.limit} bytes")
            if left <= 0:
                raise self._timed_out(f"more than {limit:g} s of CPU time")
            if wall_left <= 0:
                raise self._timed_out(f"no end after {wall.cap_s:g} s")
            more = [] if output.closed else [output.descriptor]
            select.select([self.cage.fileno(), *more], [], [], min(left, wall_left))
        self._drain()

    def waited(self) -> tuple[float, bool]:
        """Seconds that the child waited for a CPU since this was asked last; whether it is ready to run now."""
        before, (self._waited_s, ready) = self._waited_s, self.cage.waited(self._pid)
        return max(0.0, self._waited_s - before), ready and time.monotonic() < self._latest_end

    def _cpu(self) -> float:
        if self.outcome is None and self._pid:
            self.cpu_s = cpu_seconds(self._pid) or self.cpu_s
        return self.cpu_s

    def _meet(self) -> None:
        """Wait for the child's first bytes. Raises ``CageError`` when no caged child came up."""
        deadline = time.monotonic() + _HELLO_LIMIT_S
        while not self._pid and not self._silent and self.outcome is None and time.monotonic() < deadline:
            self._take(SLICE_S)
        if not self._pid:
            self.cage.close()
            raise CageError("no caged child came up")

    def _take(self, seconds: float) -> None:
        """Take the next bytes; of a final order, all that come within this time."""
        if self._final:
            self._ended_within(min(seconds, self._slice_s))
            # One that has much to tell waits for the link to be read.
            self._slice_s = _FIRST_SLICE_S if self._drain() > _CHUNK else self._slice_s * 2
        elif select.select([self._link.fileno(), self.cage.fileno()], [], [], seconds)[0] and self._receive() is None:
            self._ended_within(0)
            self._drain()
        self._looks.append((self._received, self._cpu()))

    def cpu_of_records(self) -> list[float]:
        """CPU seconds for each record that was taken. Those that came between two looks share what was used."""
        shares: list[float] = []
        before = 0.0
        for received, cpu in (*self._looks, (self._received, self.cpu_s)):
            count = bisect.bisect_right(self._ends, received) - len(shares)
            if count > 0:
                shares += [max(0.0, cpu - before) / count] * count
                before = cpu
        return shares

    def _receive(self) -> int | None:
        """How many bytes were there: ``None`` for none, 0 at the end of the link."""
        try:
            data, ancillary, _, _ = self._link.recvmsg(_CHUNK, 0 if self._pid else 64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data, ancillary = b"", []
        if not data:
            self._silent = True
            return 0
        size = len(data)
        self._received += size
        if not self._pid:
            # Sent before any foreign line has run: without it our side failed, not the program.
            self._pid = (data.startswith(_HELLO) and sender(ancillary)) or 0
            data = data[len(_HELLO) :]
        self._frames.feed(data)
        return size

    def _drain(self) -> int:
        """Take what lies in the link, as far as there is room; how many bytes that were.

        After the end of the child that is all it will ever have written.
        """
        before = self._received
        while not self._frames.full and self._receive():
            pass
        return self._received - before

    def _stopped_by_end(self, doing: str) -> Stopped:
        assert self.outcome is not None
        code = os.waitstatus_to_exitcode(self.outcome.status)
        if self.outcome.out_of_memory:
            return Stopped("memory", f"{doing}: the machine ran out of memory")
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
            if self.outcome is None and self.cage.running and not self._leaves():
                self.outcome = self.cage.kill()
                self.cpu_s = self.outcome.cpu_s
        finally:
            self._link.close()

    def _leaves(self) -> bool:
        """Whether the child ends by itself, as it should where it was told all."""
        return self._final and not self._overdue and self._ended_within(_LEAVE_S)


class Output:
    """What a program prints, up to a limit."""

    def __init__(self, descriptor: int, limit: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.limit = limit
        self.data = bytearray()
        self.closed = False

    def drain(self) -> None:
        while not self.closed and not self.overflowed:
            try:
                data = os.read(self.descriptor, 1 << 18)
            except BlockingIOError:
                return
            self.closed = not data
            self.data += data

    @property
    def overflowed(self) -> bool:
        return len(self.data) > self.limit

    def text(self) -> str:
        return self.data[: self.limit].decode("utf-8", "replace")

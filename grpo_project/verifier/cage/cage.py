"""The trusted side's handle of one zygote: start it, give it a candidate, end the candidate, replace it when dead."""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

from grpo_project.verifier.cage.launch import START_LIMIT_S, CageError, Launcher
from grpo_project.verifier.cage.limits import Limits
from grpo_project.verifier.cage.profile import PYTHON
from grpo_project.verifier.cage.wire import KILL, START


@dataclass(slots=True)
class Ended:
    """How a candidate's process ended, as the kernel tells it."""

    status: int
    cpu_s: float
    out_of_memory: bool = False

    @property
    def text(self) -> str:
        code = os.waitstatus_to_exitcode(self.status)
        if code >= 0:
            return f"exit code {code}"
        return f"signal {signal.Signals(-code).name}" if -code < signal.SIGRTMIN else f"signal {-code}"


class Cage:
    """One zygote and the candidate in it, if any. Not for several threads."""

    def __init__(self, launcher: Launcher, profile: str = PYTHON) -> None:
        """``profile``: the name of one that the launcher knows; by default Python with the standard library alone."""
        self._launcher = launcher
        self._profile = profile
        self.killed_by_others = False
        """A candidate got a SIGKILL that is not ours: by its own hand, or the machine was short of memory."""
        self.out_of_memory = False
        """So it was, and since then the kernel has counted one that it ended for want of memory."""
        self._oom_kills = 0
        self._zygote = 0  # its process id as seen from here
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Have the zygote started, unless it runs. Raises ``CageError`` with what it wrote before it gave up."""
        if self._control is None:
            self._control, self._zygote = self._launcher.start(self._profile)
            self._oom_kills = self._launcher.oom_kills()

    def begin(self, limits: Limits, descriptors: list[int]) -> None:
        """Have a child forked that owns ``descriptors`` from then on. Raises ``CageError``."""
        order = START.pack(*limits.of_process())
        if self._control is not None:
            with contextlib.suppress(CageError):
                return self._send(order, descriptors)  # fails where the zygote died while idle
        self.start()
        self._send(order, descriptors)

    @property
    def running(self) -> bool:
        return self._control is not None

    def fileno(self) -> int:
        """Readable when the candidate has ended (or the zygote has died)."""
        assert self._control is not None
        return self._control.fileno()

    def ended_within(self, seconds: float) -> Ended | None:
        """How the candidate has ended, if it does within this wall time. Raises ``CageError`` if the cage failed."""
        if not select.select([self.fileno()], [], [], seconds)[0]:
            return None
        ended = self._end()
        if os.waitstatus_to_exitcode(ended.status) == -signal.SIGKILL:
            self.killed_by_others = True
            before, self._oom_kills = self._oom_kills, self._launcher.oom_kills()
            ended.out_of_memory = self._oom_kills > before
            self.out_of_memory |= ended.out_of_memory
        return ended

    def watch_for_kills(self) -> None:
        """From now on: ``killed_by_others`` and ``out_of_memory`` are about what comes."""
        self.killed_by_others = self.out_of_memory = False

    def waited(self, pid: int) -> tuple[float, bool]:
        """``Launcher.waited``."""
        return self._launcher.waited(pid)

    def _end(self) -> Ended:
        answer = self.receive(START_LIMIT_S)
        if "fault" in answer:
            raise CageError(answer["fault"])
        if answer["retire"]:
            self.close()
        return Ended(answer["status"], answer["cpu_s"])

    def kill(self) -> Ended:
        """End the candidate and all that it started."""
        self._send(KILL)
        return self._end()

    def receive(self, limit_s: float) -> dict[str, Any]:
        assert self._control is not None
        if not select.select([self._control], [], [], limit_s)[0]:
            self.close()
            raise CageError(f"the zygote gave no answer within {limit_s:g} s")
        try:
            message = self._control.recv(1 << 16)
        except OSError as error:
            message = b""
            cause = str(error)
        else:
            cause = "end of stream"
        if not message:
            self.close()
            raise CageError(f"the zygote died ({cause})")
        return marshal.loads(message)

    def _send(self, message: bytes, descriptors: list[int] | None = None) -> None:
        assert self._control is not None
        try:
            socket.send_fds(self._control, [message], descriptors or [])
        except OSError as error:
            self.close()
            raise CageError(f"the zygote died ({error})") from None

    def close(self) -> None:
        """End the zygote with everything in it."""
        if self._control is None:
            return
        self._control.close()
        self._control = None
        self._launcher.end(self._zygote)


def cpu_seconds(pid: int) -> float | None:
    """CPU time that a process has used so far, all its threads together; ``None`` when it is gone."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3), for another process
    return None

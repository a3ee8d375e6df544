"""The trusted side's handle of one zygote: start it, give it a candidate, end the candidate, replace it when dead."""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from grpo_project.verifier.cage import isolation, launch, namespaces
from grpo_project.verifier.cage.limits import Limits
from grpo_project.verifier.cage.profile import Profile
from grpo_project.verifier.cage.wire import KILL, MAPPED, START

START_LIMIT_S = 30.0
"""Wall seconds that a zygote may take to start, or to end a candidate. Only a broken machine gets there."""
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid


class CageError(Exception):
    """The cage failed. It says nothing about the candidate."""


@dataclass(slots=True)
class Ended:
    """How a candidate's process ended, as the kernel tells it."""

    status: int
    cpu_s: float

    @property
    def text(self) -> str:
        code = os.waitstatus_to_exitcode(self.status)
        if code >= 0:
            return f"exit code {code}"
        return f"signal {signal.Signals(-code).name}" if -code < signal.SIGRTMIN else f"signal {-code}"


class Cage:
    """One zygote and the candidate in it, if any. Not for several threads."""

    def __init__(self, isolation: str, profile: Profile | None = None) -> None:
        """Without a profile, for Python programs that need the standard library alone."""
        self.isolation = isolation
        self._profile = profile or Profile()
        self._work: str | None = None
        self.killed_by_others = False
        """A candidate got a SIGKILL that is not ours: by its own hand, or the machine was short of memory."""
        self._zygote = 0  # its process id as seen from here
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the zygote, unless it runs. Raises ``CageError`` with what the zygote wrote before it gave up."""
        if self._process is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                launch.command("cage.zygote", theirs.fileno()),
                env=launch.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        credentials_expected(ours)
        self._control = ours
        self._zygote = self._process.pid
        self._work = self._work_folder()
        order = {"isolation": self.isolation, "profile": self._profile._asdict(), "work": self._work}
        self._send(marshal.dumps(order))
        answer = self.receive(START_LIMIT_S)
        if "maps" in answer:
            answer = self._write_maps()
        if "ready" not in answer:
            self.close()
            raise CageError(str(answer.get("fault", answer)))

    def _work_folder(self) -> str | None:
        """A folder of the host's for a cage whose candidates write files and that has no file system of its own."""
        if not self._profile.programs or self.isolation == isolation.NAMESPACES:
            return None
        return tempfile.mkdtemp(prefix="grpo-cage-")

    def _write_maps(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._control is not None
        try:
            namespaces.write_maps(self._process.pid)
        except OSError as error:
            self.close()
            raise CageError(f"user maps: {error}") from None
        self._send(MAPPED)
        self._process.wait()  # it has forked process 1, which is ours now: this process is a subreaper
        return self.receive(START_LIMIT_S)

    def begin(self, limits: Limits, descriptors: list[int]) -> None:
        """Have a child forked that owns ``descriptors`` from then on. Raises ``CageError``."""
        order = START.pack(*limits.of_process())
        if self._process is not None:
            with contextlib.suppress(CageError):
                return self._send(order, descriptors)  # fails where the zygote died while idle
        self.start()
        self._send(order, descriptors)

    @property
    def running(self) -> bool:
        return self._process is not None

    def fileno(self) -> int:
        """Readable when the candidate has ended (or the zygote has died)."""
        assert self._control is not None
        return self._control.fileno()

    def ended_within(self, seconds: float) -> Ended | None:
        """How the candidate has ended, if it does within this wall time. Raises ``CageError`` if the cage failed."""
        if not select.select([self.fileno()], [], [], seconds)[0]:
            return None
        ended = self._end()
        self.killed_by_others |= os.waitstatus_to_exitcode(ended.status) == -signal.SIGKILL
        return ended

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
            message, ancillary, _, _ = self._control.recvmsg(1 << 16, 64)
        except OSError as error:
            message = b""
            cause = str(error)
        else:
            cause = "end of stream"
        if not message:
            self.close()
            raise CageError(f"the zygote died ({cause})")
        self._zygote = sender(ancillary) or self._zygote
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
        if self._process is None:
            return
        assert self._control is not None
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._zygote, signal.SIGKILL)
        if self._zygote == self._process.pid:
            self._process.wait()
        else:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._zygote, 0)
        self._process = self._control = None
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)
            self._work = None


def credentials_expected(link: socket.socket) -> None:
    """Have the kernel attach the sender's process id to what comes in over ``link``."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def sender(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """The process id, in this process's namespace, that the kernel attached."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return _CREDENTIALS.unpack(data)[0]
    return None


def cpu_seconds(pid: int) -> float | None:
    """CPU time that a process has used so far, all its threads together; ``None`` when it is gone."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3), for another process
    return None

"""How the verifier's own processes are started: a bare interpreter that loads these few modules and nothing else.

``grpo_project/__init__`` and ``verifier/__init__`` are not executed there: two empty packages with the same names stand
in, so that a zygote stays at a few megabytes and starts in tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import marshal
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

from grpo_project.verifier.cage import heap, machine, namespaces
from grpo_project.verifier.cage.isolation import NAMESPACES
from grpo_project.verifier.cage.profile import PYTHON, Profile
from grpo_project.verifier.cage.wire import MAPPED

START_LIMIT_S = 30.0
"""Wall seconds that a zygote may take to start, or to end a candidate. Only a broken machine gets there."""
_BOOTSTRAP = """\
import sys, types
for name, path in (("grpo_project", sys.argv[1]), ("grpo_project.verifier", sys.argv[1] + "/verifier")):
    module = types.ModuleType(name)
    module.__path__ = [path]
    sys.modules[name] = module
import importlib
importlib.import_module("grpo_project.verifier." + sys.argv[2]).main(*map(int, sys.argv[3:]))
"""

# Not -I, which would ignore PYTHONHASHSEED: the environment is replaced as a whole instead (nothing of the trainer's
# reaches a process of the verifier), and the order of sets is the same in every candidate.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
NUMPY_SITE = "GRPO_NUMPY_SITE"
"""Environment variable of the server and the judges: the folder that numpy is installed in, if it is."""
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid


class CageError(Exception):
    """The cage failed. It says nothing about the candidate."""


def environment() -> dict[str, str]:
    """The whole environment of a process of the verifier."""
    return dict(_ENVIRONMENT)


def numpy_site() -> str | None:
    """In a process of the verifier: the folder that numpy is installed in, if it is."""
    return os.environ.get(NUMPY_SITE)


def server_environment() -> dict[str, str]:
    """The server's, which also says where numpy is: found here, because a bare interpreter can't see it."""
    site = found_numpy()
    return environment() | ({} if site is None else {NUMPY_SITE: site})


def found_numpy() -> str | None:
    """In the trainer: the folder that numpy is installed in, if it is."""
    found = importlib.util.find_spec("numpy")
    return None if found is None or found.origin is None else str(Path(found.origin).parent.parent)


def command(module: str, *numbers: int) -> list[str]:
    """The argument list that runs ``grpo_project.verifier.MODULE.main(*numbers)`` in a bare interpreter."""
    package = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-s", "-S", "-P", "-c", _BOOTSTRAP, package, module, *map(str, numbers)]


class Launcher(Protocol):
    """Who starts zygotes. A judge can't: it is confined itself, and what it starts would be confined as it is."""

    def start(self, profile: str) -> tuple[socket.socket, int]:
        """A zygote of the profile of this name that is ready: the link to it, and its process id.

        Raises ``CageError`` with what it wrote before it gave up.
        """

    def end(self, zygote: int) -> None:
        """End a zygote with everything in it."""

    def waited(self, pid: int) -> tuple[float, bool]:
        """Seconds that a process and all below it have waited for a CPU so far; whether any of them is runnable now."""

    def oom_kills(self) -> int:
        """How many processes of this machine the kernel has ended for want of memory so far."""


class LocalLauncher:
    """Zygotes as children of this process, which has to be a subreaper (prctl(2))."""

    def __init__(self, isolation: str, scratch: str | None = None) -> None:
        """``scratch``: where each zygote gets a folder to write to, at a level that has no file system of its own."""
        self.profiles = {PYTHON: Profile()}
        self._isolation = isolation
        self._scratch = scratch
        self._processes: dict[int, tuple[subprocess.Popen, str | None]] = {}

    def start(self, profile: str, *, check: bool = False) -> tuple[socket.socket, int]:
        """``check``: have the zygote import all that programs do, which shows whether it can from in there."""
        if profile not in self.profiles:
            raise CageError(f"no profile {profile!r}")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                command("cage.zygote", theirs.fileno()),
                env=environment() | heap.TUNABLES,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        starting = _Starting(ours, process)
        scratch = scratch_folder(self._isolation, self._scratch)
        wanted = self.profiles[profile]._asdict()
        order = {"isolation": self._isolation, "profile": wanted, "scratch": scratch, "check": check}
        try:
            starting.handshake(order)
        except CageError:
            ours.close()
            self._processes[starting.zygote] = process, scratch
            self.end(starting.zygote)
            raise
        self._processes[starting.zygote] = process, scratch
        return ours, starting.zygote

    def end(self, zygote: int) -> None:
        if zygote not in self._processes:
            return
        process, scratch = self._processes.pop(zygote)
        with contextlib.suppress(ProcessLookupError):
            os.kill(zygote, signal.SIGKILL)
        if zygote == process.pid:
            process.wait()
        else:  # process 1 of its namespace: a child of ours since its own parent, the process that we started, ended
            with contextlib.suppress(ChildProcessError):
                os.waitpid(zygote, 0)
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)

    def close(self) -> None:
        for zygote in list(self._processes):
            self.end(zygote)

    def waited(self, pid: int) -> tuple[float, bool]:
        return machine.run_queue_delay(pid)

    def oom_kills(self) -> int:
        return machine.oom_kills()


class _Starting:
    """A zygote on its way up."""

    def __init__(self, control: socket.socket, process: subprocess.Popen) -> None:
        self._control = control
        self._process = process
        self.zygote = process.pid
        credentials_expected(control)

    def handshake(self, order: dict[str, Any]) -> None:
        """Raises ``CageError`` with what the zygote wrote before it gave up."""
        try:
            self._control.send(marshal.dumps(order))
            answer = self._receive()
            if "maps" in answer:
                answer = self._write_maps()
        except OSError as error:
            raise CageError(f"the zygote died ({error})") from None
        if "ready" not in answer:
            raise CageError(str(answer.get("fault", answer)))

    def _write_maps(self) -> dict[str, Any]:
        try:
            namespaces.write_maps(self._process.pid)
        except OSError as error:
            raise CageError(f"user maps: {error}") from None
        self._control.send(MAPPED)
        self._process.wait()  # it has forked process 1, which is ours now: this process is a subreaper
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        if not select.select([self._control], [], [], START_LIMIT_S)[0]:
            raise CageError(f"the zygote gave no answer within {START_LIMIT_S:g} s")
        message, ancillary, _, _ = self._control.recvmsg(1 << 16, 64)
        if not message:
            raise CageError("the zygote died (end of stream)")
        self.zygote = sender(ancillary) or self.zygote
        return marshal.loads(message)


def scratch_folder(isolation: str, base: str | None) -> str | None:
    """A new folder to write to, at the level that has no file system of its own."""
    return None if base is None or isolation == NAMESPACES else tempfile.mkdtemp(dir=base)


def credentials_expected(link: socket.socket) -> None:
    """Have the kernel attach the sender's process id to what comes in over ``link``."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def sender(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """The process id, in this process's namespace, that the kernel attached."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return _CREDENTIALS.unpack(data)[0]
    return None

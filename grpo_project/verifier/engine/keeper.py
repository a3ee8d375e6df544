"""The keeper of one worker: it starts the judge and the zygotes, both its children, and ends with them.

The judge runs the problems' test code and is confined (``isolation.enter_judge``): it can start no process, and what it
started would be confined as it is, too narrow for a zygote's set-up. So it asks the keeper, which does nothing else and
runs no foreign code.

    server ── keeper ─┬─ judge
                      └─ zygotes ── candidates

Requests (JSON, which is safe to read whoever wrote it, over a SEQPACKET socket), each answered once but ``end``:

-> ["maps"]             <- ["done"]                     write the judge's own user maps
-> ["start", profile]   <- ["started", pid], descriptor   a zygote of the profile of this name
-> ["waited", pid]      <- ["waited", seconds, runnable]
-> ["oom_kills"]        <- ["oom_kills", count]
-> ["end", pid]
                        <- ["fault", text]              in place of any answer

Beside it the server sends profiles (JSON objects by name), always before the job that first needs them: where a zygote
imports from, and what it may read, is for the trainer to say, not for the judge.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import traceback
from typing import Any, NoReturn

from grpo_project.verifier.cage import isolation, kernel, namespaces
from grpo_project.verifier.cage.launch import START_LIMIT_S, CageError, LocalLauncher, numpy_site, scratch_folder
from grpo_project.verifier.cage.profile import Profile
from grpo_project.verifier.engine import judge

_SIGNALLED = 128
"""Added to a signal's number: exit code of a keeper whose judge was ended by it, as a shell would have it."""


def signal_of(code: int) -> int:
    """The signal that ended the judge, by its keeper's exit code; 0 for none."""
    return max(0, code - _SIGNALLED)


def run(link: socket.socket, orders: socket.socket, level: str, scratch: str | None, server: int) -> NoReturn:
    """In a process that was forked for it. ``link`` goes to the judge, profiles come in by ``orders``; ``server``: the
    parent's process id."""
    kernel.set_name("grpo-keeper")
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != server:
        os._exit(0)  # it ended before the line above
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    own_scratch = scratch_folder(level, scratch)
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _become_judge(link, level, own_scratch, theirs, keeper)
    link.close()
    theirs.close()
    launcher = LocalLauncher(level, scratch)
    child = os.pidfd_open(pid)
    while child not in (ready := select.select([ours.fileno(), orders.fileno(), child], [], [])[0]):
        if orders.fileno() in ready:
            learned = json.loads(orders.recv(1 << 20) or b"{}")
            launcher.profiles |= {name: Profile(**fields) for name, fields in learned.items()}
            continue  # before any request: the job that made it came after these
        message = ours.recv(1 << 16)
        if not message:
            select.select([child], [], [])
            break
        try:
            request = json.loads(message)
        except ValueError:  # test code has taken the judge over
            os.kill(pid, signal.SIGKILL)
        else:
            _serve(ours, launcher, pid, request)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    launcher.close()
    os._exit(code if code >= 0 else _SIGNALLED - code)


def _serve(link: socket.socket, launcher: LocalLauncher, judge_pid: int, request: list[Any]) -> None:
    answer: tuple = ("done",)
    descriptors: list[socket.socket] = []
    try:
        match request:
            case ["maps"]:
                namespaces.write_maps(judge_pid)
            case ["start", str() as profile]:
                control, zygote = launcher.start(profile)
                answer, descriptors = ("started", zygote), [control]
            case ["waited", int() as pid]:
                answer = ("waited", *launcher.waited(pid))
            case ["oom_kills"]:
                answer = ("oom_kills", launcher.oom_kills())
            case ["end", int() as pid]:
                return launcher.end(pid)
    except (CageError, OSError) as error:
        answer = ("fault", str(error))
    with contextlib.suppress(OSError):  # the judge is gone
        socket.send_fds(link, [json.dumps(answer).encode()], [control.fileno() for control in descriptors])
    for control in descriptors:
        control.close()


class RemoteLauncher:
    """A judge's ``Launcher``: its keeper."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def map_users(self) -> None:
        """Have the user maps of this process's new namespace written. Raises ``OSError``."""
        try:
            self._ask("maps")
        except CageError as error:
            raise OSError(str(error)) from None

    def start(self, profile: str) -> tuple[socket.socket, int]:
        (zygote,), descriptors = self._ask("start", profile)
        return socket.socket(fileno=descriptors[0]), zygote

    def end(self, zygote: int) -> None:
        with contextlib.suppress(OSError):  # without a keeper there is no zygote either
            self._link.send(json.dumps(["end", zygote]).encode())

    def waited(self, pid: int) -> tuple[float, bool]:
        (seconds, ready), _ = self._ask("waited", pid)
        return seconds, ready

    def oom_kills(self) -> int:
        (count,), _ = self._ask("oom_kills")
        return count

    def _ask(self, *request: Any) -> tuple[list[Any], list[int]]:
        try:
            self._link.send(json.dumps(request).encode())
            if not select.select([self._link], [], [], 2 * START_LIMIT_S)[0]:
                raise CageError("the keeper gave no answer")
            message, descriptors, _, _ = socket.recv_fds(self._link, 1 << 16, 1)
        except OSError:
            message = b""
        if not message:
            os._exit(1)  # the keeper is gone, and its end is about to end this process: no job must be spent on it
        kind, *content = json.loads(message)
        if kind == "fault":
            raise CageError(*content)
        return content, descriptors


def _become_judge(link: socket.socket, level: str, scratch: str | None, requests: socket.socket, keeper: int) -> None:
    """Never returns."""
    try:
        kernel.set_name("grpo-judge")
        _close_all_but(link.fileno(), requests.fileno())
        launcher = RemoteLauncher(requests)
        try:
            isolation.enter_judge(level, numpy_site(), scratch, launcher.map_users)
        except OSError as error:
            judge.greet(link, f"the judge's own cage: {error}")
            os._exit(1)
        if os.getppid() == keeper:
            judge.greet(link)
            judge.serve(link, launcher)
    except BaseException:  # noqa: BLE001 - a mistake of ours: seen as a death, told on standard error, and retried
        traceback.print_exc()
        os._exit(1)
    finally:
        os._exit(0)


def _close_all_but(*kept: int) -> None:
    """The other workers' links above all: their ends must show."""
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, 1 << 20)

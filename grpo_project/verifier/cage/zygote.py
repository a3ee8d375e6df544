"""The caged process that forks once for each candidate. Started by exec, isolated once, one candidate at a time.

It knows neither expected values nor the candidates' code: ``wire.START`` brings limits and descriptors, the code lies
in the child's link. What every child needs is made ready here, once: whatever a child writes to first has to be copied.
"""

from __future__ import annotations

import gc
import importlib
import marshal
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from typing import Any

from grpo_project.verifier.cage import candidate, heap, isolation, kernel, machine, profile, seccomp
from grpo_project.verifier.cage.wire import KILL, LINK, MAPPED, START

PROCESSES = 10
"""Processes and threads, the zygote included. Each process may use the memory limit."""
NAMES = 16
"""Files and folders that a candidate may make where it has no file system of its own (``RLIMIT_FSIZE`` bounds each)."""
CHECKED = """array bisect calendar cmath collections copy csv ctypes dataclasses datetime decimal enum fractions
    functools hashlib heapq inspect io itertools json math numbers operator os pickle queue random re statistics string
    struct tempfile textwrap threading time typing unicodedata unittest uuid zlib"""
"""What programs import: where one of these that is installed can't be imported in the cage, the cage is not usable."""
FIXED = {
    resource.RLIMIT_FSIZE: 8 << 20,
    resource.RLIMIT_NOFILE: 64,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_STACK: 64 << 20,
}
"""The kernel's limits (setrlimit) that are the same for every candidate: put on the zygote, inherited by its children.

``RLIMIT_NPROC`` is the zygote's to set where it has a namespace of its own: elsewhere it counts every process of the
user, and no candidate makes any.
"""
PRELOADED = "bisect collections copy functools heapq itertools json math operator re string typing random"
"""What programs import most, loaded once in the zygote instead of in every child."""
_REHEARSALS = 2
_RIGHTS = struct.Struct("3i")
_RIGHTS_SPACE = socket.CMSG_SPACE(_RIGHTS.size)


def preload() -> None:
    """For Python programs. Before their first line chance is replaced by what the run's secret makes of it."""

    # ``random`` would have itself seeded after every fork (Lib/random.py, its last lines), which takes half as long as
    # the fork: a child seeds it where its program has the word in it.
    register, os.register_at_fork = os.register_at_fork, lambda **_: None
    os.urandom = candidate.urandom
    try:
        for name in PRELOADED.split():
            importlib.import_module(name)
    finally:
        os.register_at_fork = register
    candidate.replace_randomness()


def main(control_fd: int) -> None:
    control = socket.socket(fileno=control_fd)
    order = marshal.loads(control.recv(1 << 16))
    level, wanted = order["isolation"], order["profile"]
    if wanted["resident"] == profile.CANDIDATE:
        preload()
    if wanted["site"] is not None:
        sys.path.append(wanted["site"])
    for name in wanted["packages"]:
        importlib.import_module(name)
    resident = importlib.import_module(f"grpo_project.verifier.{wanted['resident']}")
    kernel.set_name("grpo-zygote")
    own_size = _address_space()  # there is no /proc in the cage
    machine.raise_oom_score(machine.OOM_CANDIDATE)
    installed = _installed(CHECKED) if order["check"] else []
    try:
        isolation.enter(level, profile.Profile(**wanted), order["scratch"], lambda: _ask_parent(control))
        for name in installed:
            importlib.import_module(name)
    except (OSError, ImportError) as error:
        control.send(marshal.dumps({"fault": str(error)}))
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    zygote = Zygote(control, level, own_size, resident)
    resident.warm_up()
    gc.collect()
    gc.freeze()
    for _ in range(_REHEARSALS):
        zygote.rehearse()
    if wanted["resident"] == profile.CANDIDATE:
        zygote.own_size += heap.settle()
    control.send(marshal.dumps({"ready": level}))
    zygote.run()


def _installed(names: str) -> list[str]:
    import importlib.util  # here: it would stay in every other zygote

    return [name for name in names.split() if importlib.util.find_spec(name)]


def _ask_parent(control: socket.socket) -> None:
    """Wait until the parent has written this process's user maps."""
    control.send(marshal.dumps({"maps": True}))
    if control.recv(64) != MAPPED:
        raise OSError("the parent could not write the user maps")


class Zygote:
    """The loop, and what a child takes over from it."""

    def __init__(self, control: socket.socket, level: str, own_size: int, resident: Any) -> None:
        """``own_size``: bytes of address space that the zygote maps, which come on top of a candidate's share."""
        self._resident = resident
        self._control = control
        self._level = level
        self.own_size = own_size
        fixed = FIXED | ({resource.RLIMIT_NPROC: PROCESSES} if level == isolation.NAMESPACES else {})
        for number, value in fixed.items():
            lowest = _at_most(value, number)
            resource.setrlimit(number, (lowest, lowest))
        # A child's way to hand over the descriptor on which this process is asked about its threads and files.
        self._from_child, self._to_zygote = socket.socketpair()
        self._descriptors = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], self._to_zygote.fileno() + 1)

    def run(self) -> None:
        """Until the trusted side is gone."""
        while True:
            message, ancillary, _, _ = self._control.recvmsg(64, _RIGHTS_SPACE)
            if not message:
                return
            if message == KILL:
                continue  # it crossed with the child's own end
            rights = ancillary[0][2]
            self._control.send(self._one_candidate(message, struct.unpack(f"{len(rights) // 4}i", rights)))
            gc.collect()  # free lists grow: a tuple that is shortened is freed into another one than it came from

    def rehearse(self) -> None:
        """A child without an order, so that all that the loop makes once is made before the heap is settled."""
        ours, theirs = socket.socketpair()
        ours.shutdown(socket.SHUT_WR)
        self._one_candidate(START.pack(2, 64 << 20), (theirs.detach(),))
        ours.close()

    def _one_candidate(self, limits: bytes, descriptors: tuple[int, ...]) -> bytes:
        try:
            pid = _fork()
        except OSError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            return marshal.dumps({"fault": f"fork: {error}"})
        if pid == 0:
            self._become_candidate(limits, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)  # the child's alone: when it closes its link, the trusted side sees it
        child = os.pidfd_open(pid)
        self._until_end(child, pid)
        os.close(child)
        _, status, usage = os.wait4(pid, 0)
        retire = not isolation.sweep(self._level)
        return marshal.dumps({"status": status, "cpu_s": usage.ru_utime + usage.ru_stime, "retire": retire})

    def _until_end(self, child: int, pid: int) -> None:
        """Answer what is asked about the child until it has ended, or end it."""
        supervision = self._from_child.fileno()
        names = 0

        def allowed(thread: bool) -> bool:
            nonlocal names
            if thread:
                return _threads(pid) < PROCESSES - 1
            names += 1
            return names <= NAMES

        while child not in (ready := select.select([child, self._control.fileno(), supervision], [], [])[0]):
            if self._control.fileno() in ready:
                self._control.recv(64)  # KILL, or the end of the stream: either way the child has to go
                signal.pidfd_send_signal(child, signal.SIGKILL)
                break
            if supervision == self._from_child.fileno():
                supervision = self._receive_supervision()
            else:
                seccomp.answer(supervision, allowed)
        if supervision == self._from_child.fileno() and select.select([supervision], [], [], 0)[0]:
            supervision = self._receive_supervision()
        if supervision != self._from_child.fileno():
            os.close(supervision)

    def _receive_supervision(self) -> int:
        return socket.recv_fds(self._from_child, 1, 1)[1][0]

    def _become_candidate(self, limits: bytes, descriptors: tuple[int, ...]) -> None:
        try:
            kernel.set_name("grpo-candidate")
            supervision = isolation.enter_child(self._level)
            if supervision is not None:
                socket.send_fds(self._to_zygote, [b"\0"], [supervision])
            # Not the zygote's own: flags of a shared description would tell the next candidate what this one set.
            nothing = os.open("/dev/null", os.O_RDWR)
            for number in range(3):
                os.dup2(descriptors[number + 1] if number < len(descriptors) - 1 else nothing, number)
            os.dup2(descriptors[0], LINK)
            os.closerange(LINK + 1, self._descriptors)
            os.setsid()
            cpu_s, memory_bytes = START.unpack(limits)
            cpu_s = _at_most(cpu_s, resource.RLIMIT_CPU)
            # A second between the two: the lower one's signal says what it was.
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_s - 1, cpu_s))
            memory_bytes = _at_most(memory_bytes + self.own_size, resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        except BaseException:  # noqa: BLE001 - a child that could not be caged must not live on as a second zygote
            os._exit(1)  # no hello was sent, so the trusted side knows that it was our fault
        self._resident.run()


def _threads(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2  # Landlock lets nobody open it; its links count the threads
    except OSError:
        return PROCESSES


def _address_space() -> int:
    with open("/proc/self/statm") as status:
        return int(status.read().split()[0]) * resource.getpagesize()


def _at_most(value: int, number: int) -> int:
    hard = resource.getrlimit(number)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _fork() -> int:
    """Fork, with patience: elsewhere on the machine a bomb may be going off, and it will be over soon."""
    for pause_s in (0.01, 0.1, 0.5, 2.0):
        try:
            return os.fork()
        except BlockingIOError:  # EAGAIN
            time.sleep(pause_s)
    return os.fork()

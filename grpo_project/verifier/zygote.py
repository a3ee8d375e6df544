"""The caged process that forks once for each candidate. Started by exec, isolated once, one candidate at a time.

It knows neither expected values nor the candidates' code: an order brings limits and descriptors, the code goes
straight to the child. ``main(control)`` speaks on a SEQPACKET socket:

    <- {"limits": ...} with descriptors [link] or [link, stdin, stdout]   fork a child
    <- b"kill"                                                            end the child now
    -> {"ready": level, ...}                                              once
    -> {"status": wait status, "cpu_s": s, "max_rss_kb": n, "retire": ?}  the child is gone, and all that it started;
                                                                          "retire": it left something behind
    -> {"fault": text}                                                    no child could be made
"""

from __future__ import annotations

import bisect  # noqa: F401 - from here on: what programs import most, loaded once instead of in every child
import collections  # noqa: F401
import copy  # noqa: F401
import functools  # noqa: F401
import gc
import heapq  # noqa: F401
import importlib
import itertools  # noqa: F401
import json  # noqa: F401
import marshal
import math  # noqa: F401
import operator  # noqa: F401
import os
import random
import re  # noqa: F401
import resource
import select
import signal
import socket
import string  # noqa: F401
import sys
import time
import typing  # noqa: F401
from typing import Any

from grpo_project.verifier import candidate, isolation

KILL, MAPPED = b"kill", b"mapped"
_DESCRIPTORS = 256
"""Files that a zygote may have open: few, because every child closes all of these numbers."""
_LINK = 3  # the child's descriptor of its link; 0 to 2 are the standard streams


_own_size = 0  # bytes of address space that the zygote itself maps, taken before the candidate's share


def _address_space() -> int:
    with open("/proc/self/statm") as status:
        return int(status.read().split()[0]) * resource.getpagesize()


def main(control_fd: int) -> None:
    global _own_size
    control = socket.socket(fileno=control_fd)
    order = marshal.loads(control.recv(1 << 16))
    if order["numpy_site"] is not None:
        sys.path.append(order["numpy_site"])
        importlib.import_module("numpy")
    _own_size = _address_space()
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    level = order["isolation"]
    try:
        isolation.enter(level, order["numpy_site"], lambda: _ask_parent(control))
    except OSError as error:
        control.send(marshal.dumps({"fault": str(error)}))
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    compile("pass", "<warm>", "exec")  # the first compile of a process costs 2.5 ms: not in every child
    gc.collect()
    gc.freeze()
    control.send(marshal.dumps({"ready": level}))
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 3)
        if not message:
            return  # the trusted side is gone
        if message == KILL:
            continue  # it crossed with the child's own end
        control.send(marshal.dumps(_one_candidate(control, level, marshal.loads(message), descriptors)))


def _ask_parent(control: socket.socket) -> None:
    """Wait until the parent has written this process's user maps."""
    control.send(marshal.dumps({"maps": True}))
    if control.recv(64) != MAPPED:
        raise OSError("the parent could not write the user maps")


def _one_candidate(
    control: socket.socket, level: str, limits: dict[str, int], descriptors: list[int]
) -> dict[str, Any]:
    try:
        pid = _fork()
    except OSError as error:
        for descriptor in descriptors:
            os.close(descriptor)
        return {"fault": f"fork: {error}"}
    if pid == 0:
        _become_candidate(level, limits, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)  # the child's alone: when it closes its link, the trusted side sees it
    child = os.pidfd_open(pid)
    try:
        watched: list[Any] = [child, control]
        readable = select.select(watched, [], [])[0]
        if child not in readable:
            control.recv(64)  # b"kill", or the end of the stream: either way the child has to go
            signal.pidfd_send_signal(child, signal.SIGKILL)
    finally:
        os.close(child)
    _, status, usage = os.wait4(pid, 0)
    retire = not isolation.sweep(level)
    cpu_s = usage.ru_utime + usage.ru_stime
    return {"status": status, "cpu_s": cpu_s, "max_rss_kb": usage.ru_maxrss, "retire": retire}


def _fork() -> int:
    """Fork, with patience: elsewhere on the machine a bomb may be going off, and it will be over soon."""
    for pause_s in (0.01, 0.1, 0.5, 2.0):
        try:
            return os.fork()
        except BlockingIOError:  # EAGAIN
            time.sleep(pause_s)
    return os.fork()


def _become_candidate(level: str, limits: dict[str, int], descriptors: list[int]) -> None:
    try:
        if len(descriptors) == 3:
            os.dup2(descriptors[1], 0)
            os.dup2(descriptors[2], 1)
        os.dup2(descriptors[0], _LINK)
        os.closerange(_LINK + 1, _DESCRIPTORS)
        os.setsid()
        _limit(level, limits)
        isolation.enter_child(level)
        random.seed()  # siblings must not share one sequence
        link = socket.socket(fileno=_LINK)
    except BaseException:  # noqa: BLE001 - a child that could not be caged must not live on as a second zygote
        os._exit(1)  # no hello was sent, so the trusted side knows that it was our fault
    candidate.run(link)


def _limit(level: str, limits: dict[str, int]) -> None:
    for name, value in limits.items():
        if name == "RLIMIT_NPROC" and level != isolation.NAMESPACES:
            continue  # elsewhere it counts every process of this user, and no candidate makes any
        number = getattr(resource, name)
        if name == "RLIMIT_AS":
            value += _own_size
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # A second between the limits of CPU time: the lower one's signal says what it was.
        resource.setrlimit(number, (value - (name == "RLIMIT_CPU"), value))

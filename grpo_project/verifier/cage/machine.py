"""What the machine does with our processes, as the kernel tells it: how many CPUs there are, who waits for one, who was
ended for want of memory. Loaded by every zygote, so without ``pathlib``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

OOM_WORKER, OOM_CANDIDATE = 200, 1000
"""The least ``oom_score_adj`` of a worker, of a candidate: short of memory, the kernel ends these before a trainer."""


def workers() -> int:
    """How many candidates to run at a time: one a core, of those that this process may use.

    Divided by the ranks that share the machine (``LOCAL_WORLD_SIZE``, of torchrun and accelerate), and no more than the
    CPU quota of the cgroup pays for: more of them would only wait for each other.
    """
    cpus = float(len(os.sched_getaffinity(0)))
    quota = cpu_quota("/sys/fs/cgroup", _text("/proc/self/cgroup"))
    if quota is not None:
        cpus = min(cpus, quota)
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(cpus) // (int(ranks) if ranks.isdigit() and int(ranks) > 0 else 1))


def cpu_quota(root: str, membership: str) -> float | None:
    """CPUs' worth of time that a cgroup gets, the narrowest of it and of those above it; ``None`` for no limit.

    ``membership`` is the text of ``/proc/PID/cgroup``. Version 2 has the quota in ``cpu.max``, version 1 in
    ``cpu.cfs_quota_us`` of the ``cpu`` hierarchy.
    """
    found = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += [_quota(*_text(f"{folder}/cpu.max").split()) for folder in _upwards(root, path)]
        elif "cpu" in controllers.split(","):
            for folder in (*_upwards(f"{root}/cpu", path), *_upwards(f"{root}/{controllers}", path)):
                found.append(_quota(_text(f"{folder}/cpu.cfs_quota_us"), _text(f"{folder}/cpu.cfs_period_us")))
    return min((quota for quota in found if quota is not None), default=None)


def _upwards(root: str, path: str) -> Iterator[str]:
    """The cgroup's folder and those above; in a container ``path`` may be the host's, and only the root be there."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield "/".join((root, *parts[:count]))


def _quota(quota: str = "", period: str = "") -> float | None:
    quota, period = quota.strip(), period.strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def run_queue_delay(pid: int) -> tuple[float, bool]:
    """Seconds that a process and all below it were ready to run and had no CPU; whether any of them is ready now.

    From ``/proc/PID/task/TID/schedstat`` (Documentation/scheduler/sched-stats.rst). What a thread waits for at the
    moment is added when it gets its CPU; therefore the second value.
    """
    delay, ready, processes = 0.0, False, [pid]
    while processes:
        tasks = f"/proc/{processes.pop()}/task"
        with contextlib.suppress(OSError):  # it may end meanwhile
            for thread in os.listdir(tasks):
                waited = _text(f"{tasks}/{thread}/schedstat").split()
                delay += int(waited[1]) * 1e-9 if len(waited) > 1 else 0.0
                ready |= _text(f"{tasks}/{thread}/stat").rpartition(")")[2].split()[:1] == ["R"]
                processes += map(int, _text(f"{tasks}/{thread}/children").split())
    return delay, ready


def oom_kills() -> int:
    """How many processes the kernel has ended for want of memory, of the machine or of a cgroup, since it started."""
    for line in _text("/proc/vmstat").splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0


def raise_oom_score(value: int) -> None:
    """Have the kernel end this process, and what it starts, rather than others. Raising it needs no privilege."""
    path = "/proc/self/oom_score_adj"
    with contextlib.suppress(OSError), open(path, "r+") as file:  # not there: nothing to choose
        adjusted = max(value, int(file.read()))
        file.seek(0)
        file.write(f"{adjusted}\n")


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""

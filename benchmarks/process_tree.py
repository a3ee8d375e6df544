"""Processes below a process, as the kernel tells of them: who they are, what CPU time and memory they have used."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_seconds(pid: int) -> list[float]:
    """User and system time so far of a process and all below it.

    The sums of each depth, the process's own first, and last that of those which have ended and were waited for.
    """
    levels, layer, ended = [], [pid], 0
    while layer:
        times = [ticks(process) for process in layer]
        levels.append(sum(own for own, _ in times))
        ended += sum(waited for _, waited in times)
        layer = [int(child) for parent in layer for child in children(parent)]
    return [count / os.sysconf("SC_CLK_TCK") for count in (*levels, ended)]


def cpu_by_name(pid: int) -> dict[str, float]:
    """User and system time so far of a process ("own"), of those below it by their names, and of the "ended" ones."""
    found = {"own": 0, "ended": 0}
    for process in (pid, *descendants(pid)):
        name = "own" if process == pid else Path(f"/proc/{process}/comm").read_text().strip()
        own, waited = ticks(process)
        found[name] = found.get(name, 0) + own
        found["ended"] += waited
    return {name: count / os.sysconf("SC_CLK_TCK") for name, count in found.items()}


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, parents first."""
    found, layer = [], [pid]
    while layer:
        layer = [int(child) for parent in layer for child in children(parent)]
        found += layer
    return found


def ticks(pid: int) -> tuple[int, int]:
    """Clock ticks of CPU that a process has used itself, and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

"""What the kernel says of other processes, from /proc. Elsewhere than on Linux nothing is found, and nothing killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def command_line(pid: int) -> str:
    """The command of a live process; empty for one that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def children(parent: int) -> list[int]:
    """Direct children of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue  # it ended meanwhile
        if int(fields[1]) == parent:
            found.append(int(folder.name))
    return found


def kill(pids: list[int], word: str, wait_s: float = 5.0) -> None:
    """SIGKILL those of ``pids`` whose command holds ``word`` (ids are used again), and wait until they are gone."""
    ours = [pid for pid in pids if word in command_line(pid)]
    for pid in ours:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + wait_s
    while any(word in command_line(pid) for pid in ours) and time.monotonic() < deadline:
        time.sleep(0.02)

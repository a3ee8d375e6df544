"""Finds the processes that a test wants to kill, by what /proc says of them."""

import os
import signal
from pathlib import Path


def find(*words: str) -> list[int]:
    """Processes whose command line holds every word."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
            except OSError:
                continue
            if all(word in command for word in words):
                found.append(int(folder.name))
    return found


def children(parent: int) -> list[int]:
    """Direct children of a process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(folder.name))
    return found


def send(number: signal.Signals, pids: list[int]) -> int:
    """Send a signal to each; returns how many were there to get it."""
    reached = 0
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        reached += 1
    return reached

"""``grpo serve`` in a process of its own, and what to ask it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def serve(*flags: str, token: str = "") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its address and process. It has to end by itself when it is asked to."""
    environment = {**os.environ, "GRPO_SERVE_TOKEN": token, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "grpo_project.cli", "serve", "--port", "0", *flags]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield process.stdout.readline().strip(), process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stdout.close()


def descendants(pid: int, name: str) -> list[int]:
    """Process ids below ``pid`` whose command is called ``name``."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue
            names[int(folder.name)] = text[text.index("(") + 1 : text.rindex(")")]
            children.setdefault(int(text[text.rindex(")") + 2 :].split()[1]), []).append(int(folder.name))
    found, below = [], [pid]
    while below:
        below += (own := children.get(below.pop(), []))
        found += [child for child in own if names.get(child) == name]
    return found


def increments(number: int) -> tuple[dict[str, Any], str, float]:
    """A problem's row, a completion, and the share of tests that it passes: 1, 0.5 or 0."""
    tests = [{"args": [1], "expected": 1 + number}, {"args": [2], "expected": 2 + number}]
    row = {"id": f"add-{number}", "prompt": f"Add {number}.", "entry_point": "f", "tests": tests}
    kind = number % 3
    body = (f"x + {number}", f"x + {number} if x == 1 else None", "None")[kind]
    return row, f"def f(x):\n    return {body}  # {number}\n", (1.0, 0.5, 0.0)[kind]

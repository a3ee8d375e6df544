"""The run's own record, append-only: what W&B, reports and plots show is projected from here.

``journal/metrics.jsonl`` holds one row for each step and kind, ``journal/events.jsonl`` what happened to the run.
A row is one ``write(2)`` before training goes on: it survives SIGKILL. Only ``flush`` (fsync) survives a power loss.
Nothing is rewritten to resume; readers (``run_directory``) take the newest attempt. Memory stays flat.
"""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from grpo_project.errors import JournalError
from grpo_project.record.durable import AppendFile, Reserve
from grpo_project.record.file_lock import FileLock
from grpo_project.record.json_line import encode
from grpo_project.record.run_directory import (
    MAX_ATTEMPT,
    MAX_STEP,
    RESERVED,
    RunPaths,
    lock_run,
    read_attempts,
    read_steps,
)


class Journal:
    """Appends to the journal of one run directory. One process writes it at a time.

    ``lock``: the run's lock, where this process holds it already; the journal releases it.

    Raises:
        ConfigError: another live process writes this run directory.
        JournalError: the journal can't be opened.
    """

    def __init__(self, output_dir: str | os.PathLike[str], attempt: int, lock: FileLock | None = None) -> None:
        self.paths = RunPaths(Path(output_dir))
        self.attempt = attempt
        self.last_step = -1
        """The highest step of a row of this attempt; -1 before the first."""
        self.after_row: Callable[[], None] | None = None
        """Called after each row; the W&B manager keeps its uploader alive with it."""
        self._closed = False
        try:
            self.paths.journal.mkdir(parents=True, exist_ok=True)
            self._lock = lock or lock_run(self.paths)
            self._reserve = Reserve(self.paths.root)
            self._reserve.fill()
            self._metrics = AppendFile(self.paths.metrics, self._reserve)
            self._events = AppendFile(self.paths.events, self._reserve)
        except OSError as error:
            raise JournalError(f"can't open the journal in {self.paths.journal}: {error}") from error

    def metrics(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Append a row. ``step`` is the trainer's, ``kind`` who measured it ("train", "eval", "curriculum", "user").

        A value named like one of the row's own fields (``RESERVED``) is kept under ``_values``.

        Raises:
            TypeError: a value that can't be recorded; nothing was written.
            ValueError: a negative step, or one that no 64-bit integer holds; nothing was written.
            JournalError: the disk refused it; ``DiskFullError`` for want of room.
        """
        step = operator.index(step)
        if not 0 <= step <= MAX_STEP:
            raise ValueError(f"a step is 0 or more, and at most {MAX_STEP}, not {step}")
        row: dict[str, Any] = {"attempt": self.attempt, "step": step, "time": round(time.time(), 3), "kind": kind}
        clashing = RESERVED & values.keys()
        if clashing:
            row.update((key, value) for key, value in values.items() if key not in clashing)
            row["_values"] = {key: values[key] for key in values if key in clashing}
        else:
            row.update(values)
        self._metrics.append(encode(row))
        self.last_step = max(self.last_step, step)
        if self.after_row is not None:
            self.after_row()

    def event(self, name: str, /, step: int | None = None, **fields: Any) -> None:
        """Append to the events: started, resumed, checkpoint, stage, outage, fault.

        Each attempt records ``started`` or ``resumed`` with the step that it goes on from (0 for a start anew): rows of
        earlier attempts beyond it no longer count.
        """
        self._events.append(encode_event(self.attempt, name, step, fields), closing=True)

    def flush(self) -> None:
        """Return once everything is on the disk itself (fsync). Fills the reserve again if it was used."""
        self._reserve.fill()
        self._metrics.sync()
        self._events.sync()

    def close(self) -> None:
        """Close the files and give the reserve back. Closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._metrics.close()
            self._events.close()
            self._reserve.remove()
        self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def next_attempt(output_dir: str | os.PathLike[str]) -> int:
    """The number of the next process start in this run directory; 0 for a new one."""
    paths = RunPaths(Path(output_dir))
    numbers = {*read_attempts(paths.events), *(attempt for attempt, _ in read_steps(paths.metrics))}
    return 1 + max((number for number in numbers if number < MAX_ATTEMPT), default=-1)


def append_event(output_dir: str | os.PathLike[str], attempt: int, name: str, /, **fields: Any) -> None:
    """Append one event from a process that does not own the journal (the uploader)."""
    file = AppendFile(RunPaths(Path(output_dir)).events, Reserve(Path(output_dir)))
    try:
        file.append(encode_event(attempt, name, None, fields), closing=True)
    finally:
        file.close()


def encode_event(attempt: int, name: str, step: int | None, fields: Mapping[str, Any]) -> bytes:
    return encode({"attempt": attempt, "step": step, "time": round(time.time(), 3), "event": name, **fields})

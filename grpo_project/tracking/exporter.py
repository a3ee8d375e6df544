"""The exporter: a process beside the trainer that projects the journal to one sink (TensorBoard, MLflow, Trackio).

It writes the steps that count, those of earlier starts included, and follows the trainer. Its standard input brings
``finish EXIT_CODE SECONDS``; its closing means that the trainer died. A sink that fails is opened again, with patience:
training never waits for it and never sees its exceptions. What is not there at the end is there after the next start.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo_project.record.file_lock import FileLock
from grpo_project.record.journal import append_event
from grpo_project.record.run_directory import Run, RunPaths, read_attempts, valid_until
from grpo_project.record.secrets import redact_text
from grpo_project.tracking.segments import SegmentRows
from grpo_project.tracking.sinks import SINKS, Sink, Target

TICK_S = 0.5
DRAIN_S = 60.0
BACKOFF_MAX_S = 60.0
EVENT = "exported_run"
"""The journal's event that holds a run's id at a sink."""


class Exporter:
    """Keeps one sink in step with the journal until the trainer has ended and all is there, or time is up."""

    def __init__(self, output_dir: Path, name: str, live: int, control: int) -> None:
        self.output_dir, self.name, self.live, self.control = output_dir, name, live, control
        self.trainer_pid = os.getppid()
        self.sink: Sink | None = None
        self.rows: SegmentRows | None = None
        self.end: tuple[bool, int] | None = None
        self.deadline = float("inf")
        self._open_at, self._failures = 0.0, 0

    def run(self) -> int:
        """Returns 0 when everything is at the sink, else 1."""
        lock = self._take_over()
        try:
            while time.monotonic() < self.deadline:
                self._read_command()
                try:
                    if self._advance():
                        return 0
                except Exception as error:  # noqa: BLE001 - the boundary of foreign libraries: whatever they raise is waited out
                    self._failed(error)
                wanted = [self.control] if self.end is None else []
                select.select(wanted, [], [], TICK_S)
            return 1
        finally:
            lock.release()

    def _advance(self) -> bool:
        """Project what is there now. Returns whether that was all, and the sink is closed."""
        if self.sink is None:
            if time.monotonic() < self._open_at:
                return False
            self.sink = self._open()
        assert self.rows is not None
        while batch := self.rows.poll(200):
            for row in batch:
                self.sink.write(row)
            self._failures = 0
        if self.end is None:
            self.sink.flush()
            return False
        complete, exit_code = self.end
        if complete:
            for row in self.rows.close():
                self.sink.write(row)
        self.sink.flush()
        self.sink.close(exit_code)
        return True

    def _open(self) -> Sink:
        identity = json.loads((RunPaths(self.output_dir).journal / f"export-{self.name}.json").read_bytes())
        known = [event for event in Run(self.output_dir).events(EVENT) if event.get("sink") == self.name]
        sink = SINKS[self.name](
            Target(
                self.output_dir,
                identity["project"],
                identity["name"],
                known=known[-1]["run_id"] if known else None,
                remember=lambda run_id: self._event(EVENT, run_id=run_id),
                config=identity["config"],
            )
        )
        attempts = read_attempts(RunPaths(self.output_dir).events)
        numbers = [number for number in attempts if number <= self.live]
        self.rows = SegmentRows(RunPaths(self.output_dir).metrics, numbers, valid_until(attempts), after=sink.last_step)
        return sink

    def _failed(self, error: Exception) -> None:
        reason = redact_text(f"{type(error).__name__}: {' '.join(str(error).split()):.300}")
        print(f"{self.name}: {reason}", file=sys.stderr, flush=True)
        if self._failures == 0:
            self._event("export_failed", reason=reason)
        self._failures += 1
        self._open_at = time.monotonic() + min(2.0 ** min(self._failures, 10) / 2, BACKOFF_MAX_S)
        self.sink = None

    def _read_command(self) -> None:
        """Obey the trainer's ``finish``, or finish because it is gone."""
        if self.end is not None:
            return
        if select.select([self.control], [], [], 0)[0]:
            words = os.read(self.control, 4096).split()
            if len(words) == 3:
                # After a failure the last step may lack something that the next attempt will still measure.
                self.end = (words[1] == b"0", int(words[1]))
                self.deadline = time.monotonic() + float(words[2])
                return
            self.end = (False, 1)
        elif os.getppid() != self.trainer_pid:
            self.end = (False, 1)
        if self.end is not None:
            self.deadline = time.monotonic() + DRAIN_S

    def _take_over(self) -> FileLock:
        """Wait for the exporter of an earlier start, which drains; it ends within ``DRAIN_S``."""
        while True:
            try:
                return FileLock(RunPaths(self.output_dir).journal / f"export-{self.name}.lock")
            except BlockingIOError:
                time.sleep(0.2)

    def _event(self, name: str, **fields: Any) -> None:
        append_event(self.output_dir, self.live, name, sink=self.name, **fields)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Project a run's journal to a sink (started by the trainer).")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("sink", choices=list(SINKS))
    parser.add_argument("--live", type=int, required=True, help="the attempt whose trainer started this process")
    arguments = parser.parse_args(argv)
    # A scheduler or Ctrl-C ends the whole job: the trainer decides what to do, and this process drains after it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return Exporter(arguments.output_dir, arguments.sink, arguments.live, sys.stdin.fileno()).run()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # a library's exit hooks may wait for a server that is gone

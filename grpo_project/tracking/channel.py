"""The uploader's side of one delivery process: starts it, reads its messages, and starts it again after any death."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grpo_project.record.secrets import redact_text
from grpo_project.tracking.processes import CLIENT_PROCESS, kill
from grpo_project.tracking.segments import Segment
from grpo_project.tracking.settings import Pace
from grpo_project.tracking.state import SegmentState

GIVE_UP_S = 24 * 3600.0
"""After so long without any progress the uploader leaves a segment to the next start or ``grpo sync``. Time, not a
number of failures: a night without the server is no reason to stop."""


class Channel:
    """Keeps one segment's delivery going until it is complete.

    Args:
        event: records an event (name, fields) in the journal.
    """

    def __init__(
        self,
        output_dir: Path,
        segment: Segment,
        state: SegmentState,
        pace: Pace,
        *,
        trainer_pid: int,
        event: Callable[..., None],
        log: Callable[[str], None],
    ) -> None:
        self.output_dir, self.segment, self.state, self.pace = output_dir, segment, state, pace
        self.trainer_pid, self.event, self.log = trainer_pid, event, log
        self.process: subprocess.Popen[bytes] | None = None
        self.finished = False
        self._end: tuple[bool, int] | None = None
        self._failures = 0
        self._start_at = 0.0
        self._message_at = 0.0
        self._buffers = {"stdout": b"", "stderr": b""}
        self._last_stderr = ""
        self._failure = ""

    def poll(self) -> bool:
        """Do what is due, without waiting. Returns whether the state changed."""
        if self.finished:
            return False
        if self.process is None:
            if time.monotonic() >= self._start_at:
                self._start()
            return False
        changed = self._read()
        if self.process.poll() is not None:
            changed = self._read() or changed
            self._handle_exit(self.process.returncode)
            return True
        if time.monotonic() - self._message_at > self.pace.silence_s:
            self._failure = f"frozen: no message for {self.pace.silence_s:.0f} s"
            self.kill()
            self._handle_exit(-signal.SIGKILL)
            return True
        return changed

    def end(self, close: bool, exit_code: int) -> None:
        """No more rows will come. ``close``: the last step is complete."""
        if self._end is None:
            self._end = (close, exit_code)
            self._send_end()
            self._start_at = min(self._start_at, time.monotonic() + self.pace.backoff_s)

    def kill(self) -> None:
        """End the delivery and its wandb-core at once. Rows that were not confirmed are delivered by the next one."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        # wandb-core has a session of its own and goes on sending for some seconds. What it sends between two answers
        # that the next client gets on opening the run would shift that client's lines.
        kill(self.state.core_pids, CLIENT_PROCESS)
        self.state.core_pids = []

    def _start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "grpo_project.tracking.delivery",
            str(self.output_dir),
            self.segment.run_id,
        ]
        command += ["--trainer-pid", str(self.trainer_pid), "--pace", json.dumps(asdict(self.pace))]
        pipe = subprocess.PIPE
        kill(self.state.core_pids, CLIENT_PROCESS)  # of an uploader that was killed
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        self._message_at = time.monotonic()
        self._failure = self._last_stderr = ""
        self._send_end()

    def _send_end(self) -> None:
        if self.process is not None and self._end is not None:
            assert self.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(b"end %d %d\n" % self._end)
                self.process.stdin.flush()

    def _read(self) -> bool:
        changed = False
        for line in self._lines("stderr"):
            self._last_stderr = redact_text(line)
            self.log(f"{self.segment.run_id}: {self._last_stderr}")
        for line in self._lines("stdout"):
            self._message_at = time.monotonic()
            changed = self._apply(json.loads(line)) or changed
        return changed

    def _lines(self, name: str) -> list[str]:
        """The whole lines that the process has written since the last call."""
        stream = getattr(self.process, name)
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(stream.fileno(), 65536):
                self._buffers[name] += chunk
        *lines, self._buffers[name] = self._buffers[name].split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines if line.strip()]

    def _apply(self, message: dict[str, Any]) -> bool:
        """Enter a message of the delivery into the state."""
        state = self.state
        if "alive" in message:
            return False
        if "opened" in message:
            state.opened = sorted({*state.opened, message["opened"]})
            state.url, state.core_pids = message["url"], message["core_pids"]
        if "delivered" in message:
            state.delivered, state.delivered_step = message["delivered"], message["delivered_step"]
        if "confirmed" in message:
            self._progressed()
            state.confirmed, state.confirmed_step = message["confirmed"], message["confirmed_step"]
            state.restart, state.late = message["restart"], message["late"]
        if "set_aside" in message:
            self._set_aside(message["step"], message["set_aside"], message["whole"])
        if "trouble" in message:
            self._trouble(message["trouble"])
        if "complete" in message:
            self._progressed()
            state.complete, state.read_back = message["complete"], message["read_back"]
            state.missing = message["missing"]
        if "failed" in message:
            self._failure = redact_text(message["failed"])
        return True

    def _set_aside(self, step: int, reason: str, whole: bool) -> None:
        """The client did not take all of a row: the others go on without it. Said once, however often it is tried."""
        if str(step) in self.state.set_aside:
            return
        self.state.set_aside[str(step)] = redact_text(reason)
        if whole:
            self.state.lost.append(step)
        self.event(
            "wandb_row_set_aside", run_id=self.segment.run_id, step=step, whole=whole, reason=redact_text(reason)
        )

    def _progressed(self) -> None:
        self._failures = 0
        if self.state.last_error is not None:
            self.event("wandb_recovered", run_id=self.segment.run_id, after=self.state.last_error)
            self.state.recovered()

    def _trouble(self, reason: str) -> None:
        if self.state.last_error is None:
            self.event("wandb_outage", run_id=self.segment.run_id, reason=redact_text(reason))
        self.state.failed(redact_text(reason))

    def _handle_exit(self, code: int) -> None:
        """The delivery has ended: it was done, or is to be started again."""
        self.kill()
        assert self.process is not None
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self.process = None
        self._buffers = {"stdout": b"", "stderr": b""}
        if code == 0:
            self.finished = True
            return
        died = f"killed by signal {-code}" if code < 0 else f"exit code {code}: {self._last_stderr}"
        reason = self._failure or died
        self._failures += 1
        self.state.restarts += 1
        self._trouble(reason)
        assert self.state.error_since is not None
        self.log(f"{self.segment.run_id}: delivery ended ({reason}); failure {self._failures} in a row")
        wait = min(self.pace.backoff_s * 2 ** min(self._failures - 1, 10), self.pace.backoff_max_s)
        self._start_at = time.monotonic() + wait
        if time.time() - self.state.error_since > GIVE_UP_S:
            self.finished = True
            self.event("wandb_gave_up", run_id=self.segment.run_id, reason=reason, failures=self._failures)

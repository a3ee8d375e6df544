"""Child processes: the uploader as the trainer sees it, and what the kernel says of any process (/proc, Linux only).

The trainer starts the uploader, starts it again when it was killed, and has it finish at the end. No thread: a dead
uploader is noticed when a row is written, and Popen costs a millisecond.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from grpo_project.record.journal import Journal
from grpo_project.tracking.settings import Pace

logger = logging.getLogger(__name__)

CLIENT_PROCESS = "wandb-core"
"""The client's own process, by which its command line is known (wandb/sdk/lib/service: the Go binary)."""
RESTART_LIMIT = 100
"""Times that a killed uploader is started again in one attempt."""
PATIENCE_S = 10.0
"""After so long at the end the user is told what is waited for."""


class UploaderProcess:
    """The uploader of one attempt. Construction starts it and does not wait for it."""

    def __init__(self, output_dir: Path, journal: Journal, pace: Pace) -> None:
        self.output_dir, self.journal, self.pace = output_dir, journal, pace
        self._owner = os.getpid()
        self._started = 0
        self._check_at = 0.0
        self._starting = threading.Lock()
        self._process = self._start()

    def keep_alive(self) -> None:
        """Start a dead uploader again. Called with every row, looks once a second."""
        now = time.monotonic()
        if now < self._check_at or os.getpid() != self._owner:
            return
        self._check_at = now + 1.0
        with self._starting:  # rows may come from several threads
            self._replace_dead(now)

    def drain(self, exit_code: int, timeout_s: float) -> None:
        """Have the uploader deliver the rest within ``timeout_s``; Ctrl-C leaves it for later."""
        try:
            self._wait(exit_code, timeout_s)
        except KeyboardInterrupt:
            logger.warning("W&B: not waiting any longer")
        self._close_pipe()
        try:
            self._process.wait(2.0)  # it writes the backup and its last state
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started += 1
        command = [sys.executable, "-m", "grpo_project.tracking.uploader", str(self.output_dir)]
        command += ["--live", str(self.journal.attempt), "--pace", json.dumps(asdict(self.pace))]
        self.output_dir.joinpath("wandb").mkdir(exist_ok=True)
        with (self.output_dir / "wandb" / "uploader.log").open("ab") as log:
            # A session of its own: Ctrl-C reaches the trainer only, and the uploader drains after it.
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"WANDB_PROGRAM": sys.argv[0], **os.environ},  # what W&B shows as the run's program
            )

    def _replace_dead(self, now: float) -> None:
        code = self._process.poll()
        if code is None or self._started > RESTART_LIMIT:
            return
        self._check_at = now + min(2.0 ** min(self._started, 6) / 2, 30.0)  # not over and over if it dies at once
        died = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        self.journal.event("wandb_uploader_restarted", reason=died, restarts=self._started)
        self._close_pipe()
        try:
            self._process = self._start()
        except (
            OSError
        ) as error:  # no memory or no process to spare just now: training goes on, the next row tries again
            self.journal.event("wandb_uploader_failed", reason=str(error))

    def _wait(self, exit_code: int, timeout_s: float) -> None:
        """Ask the uploader to finish and wait for it; one that was killed meanwhile is replaced while time is left."""
        began = time.monotonic()
        asked, patience = None, PATIENCE_S
        while (left := began + timeout_s - time.monotonic()) > 0:
            code = self._process.poll()
            if code is not None:
                if asked is self._process and code >= 0:
                    return  # it did what it could
                self._replace_dead(time.monotonic())
                if self._process.poll() is not None:
                    return  # the restart limit is reached
            if asked is not self._process:
                asked = self._process
                self._write(f"finish {exit_code} {left:.1f}\n")
            if timeout_s - left > patience:
                patience = timeout_s
                logger.warning("W&B: waiting for the last rows, at most %.0f s (Ctrl-C: leave them for later)", left)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(min(left, 0.5))

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: the loop that called sees it
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()

    def _close_pipe(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


def command_line(pid: int) -> str:
    """The command of a live process; empty for one that is gone or a zombie, and elsewhere than on Linux."""
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

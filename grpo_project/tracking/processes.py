"""Child processes: uploader and exporters as the trainer sees them, and what the kernel says of any process (/proc).

The trainer starts one, starts it again when it was killed, and has it finish at the end. No thread: a dead one is
noticed when a row is written, and Popen costs a millisecond.
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
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grpo_project.record.durable import write_atomically
from grpo_project.record.journal import Journal
from grpo_project.tracking.settings import Pace

logger = logging.getLogger(__name__)

CLIENT_PROCESS = "wandb-core"
"""The client's own process, by which its command line is known (wandb/sdk/lib/service: the Go binary)."""
RESTART_LIMIT = 100
"""Times that a killed process is started again in one attempt."""
PATIENCE_S = 10.0
"""After so long at the end the user is told what is waited for."""


class ProjectionProcess:
    """A process that projects the journal for one attempt. Construction starts it and does not wait for it.

    Args:
        target: where it projects to, for messages and events.
        command: a module of this package and its arguments.
        log: where its output goes.
    """

    def __init__(self, journal: Journal, target: str, command: Sequence[str], log: Path) -> None:
        self.journal, self.target, self.command, self.log = journal, target, command, log
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
        """Have the rest delivered within ``timeout_s``; Ctrl-C leaves it for later."""
        try:
            self._wait(exit_code, timeout_s)
        except KeyboardInterrupt:
            logger.warning("%s: not waiting any longer", self.target)
        self._close_pipe()
        try:
            self._process.wait(2.0)  # it writes the backup and its last state
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started += 1
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the trainer only, and this process drains after it.
            return subprocess.Popen(
                [sys.executable, "-m", *self.command],
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
        self.journal.event("projection_restarted", target=self.target, reason=died, restarts=self._started)
        self._close_pipe()
        try:
            self._process = self._start()
        except OSError as error:
            # No memory or no process to spare just now: training goes on, the next row tries again.
            self.journal.event("projection_failed", target=self.target, reason=str(error))

    def _wait(self, exit_code: int, timeout_s: float) -> None:
        """Ask the process to finish and wait for it; one that was killed meanwhile is replaced while time is left."""
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
                logger.warning(
                    "%s: waiting for the last rows, at most %.0f s (Ctrl-C: leave them for later)", self.target, left
                )
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


def uploader(output_dir: Path, journal: Journal, pace: Pace) -> ProjectionProcess:
    """The process that projects to W&B."""
    command = ["grpo_project.tracking.uploader", str(output_dir), "--live", str(journal.attempt)]
    command += ["--pace", json.dumps(asdict(pace))]
    return ProjectionProcess(journal, "W&B", command, output_dir / "wandb" / "uploader.log")


def exporter(output_dir: Path, journal: Journal, sink: str, identity: Mapping[str, Any]) -> ProjectionProcess:
    """The process that projects to one of ``sinks.SINKS``. ``identity``: project, name and config."""
    command = ["grpo_project.tracking.exporter", str(output_dir), sink, "--live", str(journal.attempt)]
    identity_file = output_dir / "journal" / f"export-{sink}.json"  # a command line has no room for any configuration
    write_atomically(identity_file, json.dumps(identity).encode(), through_power_loss=False)
    return ProjectionProcess(journal, sink, command, output_dir / "journal" / f"export-{sink}.log")


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

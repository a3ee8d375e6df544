"""The uploader: a process beside the trainer that projects the journal to W&B, one delivery process a segment.

It holds the lock of the projection, keeps deliveries going through any failure, writes ``wandb_sync_state.json`` and
``wandb_backup/``, and when the trainer has ended or died, drains with a bound and leaves the rest for later. It does
not import wandb. Its standard input brings ``finish EXIT_CODE SECONDS``; its closing means that the trainer died.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grpo_project.errors import JournalError, TrackingError
from grpo_project.record.file_lock import FileLock
from grpo_project.record.journal import append_event
from grpo_project.record.run_directory import RunPaths
from grpo_project.tracking.channel import Channel
from grpo_project.tracking.segments import Segment, read_segments
from grpo_project.tracking.settings import Pace
from grpo_project.tracking.state import pending_rows, read_state, write_backup, write_state

EXIT_PENDING = 3
TICK_S = 0.25
LOG_LIMIT = 1_000_000
HANDOVER_S = 30.0


class Uploader:
    """Delivers every segment of a run directory: the live one at once, older ones with pending rows beside it.

    Args:
        live: the attempt whose trainer is at work, or None to upload what is there and end (``grpo sync``).
        control: a file descriptor that brings the trainer's command.
        changed: called after every change of the state.
    """

    def __init__(
        self,
        output_dir: Path,
        pace: Pace,
        *,
        live: int | None = None,
        control: int | None = None,
        changed: Callable[[Uploader], None] = lambda _: None,
    ) -> None:
        self.output_dir, self.pace, self.live, self.control = output_dir, pace, live, control
        self.changed = changed
        self.paths = RunPaths(output_dir)
        self.trainer_pid = os.getppid() if live is not None else 0
        self.lock = take_over(self.paths)
        self.state = read_state(output_dir)
        self.deadline: float | None = None
        self._end: tuple[bool, int] | None = None
        self._received = b""
        self._dirty = False
        self._written_at = self._backup_at = 0.0
        self.segments = read_segments(output_dir)
        known = {segment.run_id for segment in self.segments}
        self.state.segments = {name: state for name, state in self.state.segments.items() if name in known}
        self.channels = [self._channel(segment) for segment in self.segments]

    def run(self, seconds: float = float("inf")) -> int:
        """Work until everything is delivered or time is up. Returns 0 when nothing is pending, else EXIT_PENDING.

        Args:
            seconds: the limit of an uploader without a live trainer; with one, the trainer's end sets it.
        """
        self.state.uploader_restarts += self.state.uploader_pid is not None  # the last one did not leave, it was killed
        self.state.mode, self.state.uploader_pid = "online", os.getpid()
        self.state.rows, self.state.last_step, self.state.next = None, None, ""
        self._keep(lambda: write_state(self.output_dir, self.state))
        if self.live is None:
            self._finish(close=True, exit_code=0, seconds=seconds)
        while True:
            self._read_command()
            changed = any([channel.poll() for channel in self._active()])
            self._publish(changed)
            if self._over():
                break
            select.select([] if self.control is None else [self.control], [], [], TICK_S)
        return self._leave()

    def _channel(self, segment: Segment) -> Channel:
        state = self.state.of(segment)
        live = self.live is not None and self.live in segment.attempts
        channel = Channel(
            *(self.output_dir, segment, state, self.pace),
            trainer_pid=self.trainer_pid if live else 0,
            event=self._event,
            log=self._log,
        )
        if live:
            state.complete, state.read_back = False, None
            return channel
        if not state.complete and not state.opened:
            # An attempt that died before its first row leaves no W&B run behind.
            state.complete = next(pending_rows(self.output_dir, segment, state), None) is None
        channel.finished = state.complete
        channel.end(close=True, exit_code=0)
        return channel

    def _active(self) -> list[Channel]:
        """The live channel and one of the others: at most two copies of the client run at a time."""
        open_ones = [channel for channel in self.channels if not channel.finished]
        live = [channel for channel in open_ones if channel.trainer_pid]
        return live + [channel for channel in open_ones if not channel.trainer_pid][:1]

    def _read_command(self) -> None:
        """Obey the trainer's ``finish``, or finish because it is gone."""
        if self.control is None or self._end is not None:
            return
        gone = False
        if select.select([self.control], [], [], 0)[0]:
            chunk = os.read(self.control, 4096)
            self._received += chunk
            if b"\n" in self._received:
                _, exit_code, seconds = self._received.split(b"\n")[0].split()
                # After a failure the last step may lack something that the next attempt will still measure.
                self._finish(close=exit_code == b"0", exit_code=int(exit_code), seconds=float(seconds))
                return
            gone = not chunk
        if gone or os.getppid() != self.trainer_pid:  # a forked child of the trainer may hold the pipe open
            self._log("the trainer is gone")
            self._finish(close=False, exit_code=1, seconds=self.pace.drain_s)

    def _finish(self, close: bool, exit_code: int, seconds: float) -> None:
        self._end = (close, exit_code)
        self.control = None  # at its end it would be readable for ever, and the loop would spin
        self.deadline = time.monotonic() + seconds
        for channel in self.channels:
            channel.end(close, exit_code)

    def _publish(self, changed: bool) -> None:
        """Write the state, at most twice a second, and the backup while something is wrong."""
        now = time.monotonic()
        if changed:
            self._dirty = True
            self.changed(self)
        if self._dirty and now - self._written_at > 0.5:
            self._written_at, self._dirty = now, False
            self._keep(lambda: write_state(self.output_dir, self.state))
        troubled = any(
            state.error_since is not None and time.time() - state.error_since > self.pace.backup_s
            for state in self.state.segments.values()
        )
        if (troubled or self.paths.backup.is_dir()) and now - self._backup_at > self.pace.backup_s:
            self._backup_at = now
            self._keep(lambda: write_backup(self.output_dir, self.segments, self.state))

    def _over(self) -> bool:
        if all(channel.finished for channel in self.channels) and self._end is not None:
            return True
        if self.lock.lost() or handover(self.paths).exists():
            self._log("another uploader takes over")
            return True
        return self.deadline is not None and time.monotonic() > self.deadline

    def _leave(self) -> int:
        for channel in self.channels:
            channel.kill()
            if not channel.finished and channel.state.last_error is None:
                channel.state.failed("time was up before W&B had confirmed the rest")
        if self.lock.lost():
            return EXIT_PENDING  # the run directory was cleared: write nothing into the new run
        self._keep(lambda: write_backup(self.output_dir, self.segments, self.state))
        self.state.uploader_pid = None
        self._keep(lambda: write_state(self.output_dir, self.state))
        self.lock.release()
        done = all(state.complete and not state.missing for state in self.state.segments.values())
        return 0 if done else EXIT_PENDING

    def _event(self, name: str, **fields: Any) -> None:
        attempts = [attempt for segment in self.segments for attempt in segment.attempts]
        self._keep(lambda: append_event(self.output_dir, max(attempts, default=0), name, **fields))

    def _keep(self, write: Callable[[], None]) -> None:
        """Write something that the journal and the server know too: a full disk must not stop the delivery."""
        try:
            write()
        except (OSError, JournalError) as error:
            self._log(f"not written: {error}")

    def _log(self, text: str) -> None:
        path = self.paths.wandb / "uploader.log"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with contextlib.suppress(OSError):  # a full disk: what happens matters more than what is said of it
            mode = "a" if not path.exists() or path.stat().st_size < LOG_LIMIT else "w"
            with path.open(mode, encoding="utf-8") as file:
                file.write(f"{stamp} {text}\n")


def handover(paths: RunPaths) -> Path:
    """The file by which a new uploader asks the one that still drains for the lock."""
    return paths.wandb / "uploader.handover"


def take_over(paths: RunPaths) -> FileLock:
    """Become the one uploader of the run directory; one that still drains an earlier attempt makes way.

    Raises:
        TrackingError: another uploader does not make way.
    """
    deadline = time.monotonic() + HANDOVER_S
    while True:
        try:
            lock = FileLock(paths.wandb / "uploader.lock")
            handover(paths).unlink(missing_ok=True)
            return lock
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise TrackingError(
                    f"another uploader works on {paths.root} and does not end; try again later"
                ) from error
            handover(paths).touch()
            time.sleep(0.2)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Project a run's journal to W&B (started by the trainer).")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--live", type=int, required=True, help="the attempt whose trainer started this process")
    parser.add_argument("--pace", type=json.loads, default={})
    arguments = parser.parse_args(argv)
    # A scheduler or Ctrl-C ends the whole job: the trainer decides what to do, and this process drains after it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return Uploader(arguments.output_dir, Pace(**arguments.pace), live=arguments.live, control=sys.stdin.fileno()).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

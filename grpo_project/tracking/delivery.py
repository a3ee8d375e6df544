"""A process that delivers one segment: hands its rows to the W&B client and has the server confirm them.

The only place that imports wandb. The uploader starts it, restarts it after any death, and reads its messages from
standard output: one JSON object a line. Standard input brings one command, once no more rows will come
(``end CLOSE EXIT_CODE``: CLOSE is 1 when the last step is complete); without the uploader it kills itself.

One mapping makes repetition harmless: a row's W&B step is the trainer's step, its line in the history is its number.
After any death the run is opened again with the same id, and delivery goes on from the server's own last step.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from grpo_project.record.run_directory import RunPaths
from grpo_project.tracking.client_rows import log_row
from grpo_project.tracking.processes import CLIENT_PROCESS, children, kill
from grpo_project.tracking.segments import STEP_METRIC, Row, Segment, SegmentRows, read_segments, segment_rows
from grpo_project.tracking.server import ReadBack, ServerWatch, describe, is_closed, read_back, sample_values
from grpo_project.tracking.settings import Pace, base_url
from grpo_project.tracking.state import SegmentState, read_state

CLOSE_TRIES = 3
CLOSED_WITHIN_S = 5.0
EXIT_FAILED = 1
EXIT_STALLED = 3
# The client reads these for itself (wandb/sdk/wandb_settings.py, `_load_from_env`) and would contradict the segment.
OWNED_VARIABLES = (
    *("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_RESUME_FROM", "WANDB_FORK_FROM", "WANDB_MODE", "WANDB_NAME"),
    *("WANDB_RUN_GROUP", "WANDB_PROJECT", "WANDB_SERVICE", "WANDB_DISABLED"),
)


class Stalled(Exception):
    """The server answers but does not get the rows."""


class Delivery:
    """Delivers the rows of ``segment`` until told the end, then proves it."""

    def __init__(self, output_dir: Path, segment: Segment, state: SegmentState, pace: Pace, trainer_pid: int) -> None:
        self.output_dir, self.segment, self.state, self.pace = output_dir, segment, state, pace
        self.trainer_pid = trainer_pid
        self.end: tuple[bool, int] | None = None
        self.sent: collections.deque[tuple[int, Row]] = collections.deque()
        """Not confirmed yet, without their values; each with the step that the server must show."""
        self.sent_step = -1
        self.lost = list(state.lost)
        """Steps of rows that the client did not take at all."""
        self.confirmed_step = state.confirmed_step
        self.progress_at = time.monotonic()

    def work(self) -> None:
        """
        Raises:
            Stalled, and whatever the client raises.
        """
        import wandb

        reopened = self.state.opened != []
        self.run = self.open(wandb)
        self.report_opened()
        # `run.step` reads 0 until the first log; `starting_step` is the server's last step and one (wandb_run.py:1525).
        start = int(self.run.starting_step)
        self.watch = ServerWatch(self.run.path, min(1.0, self.pace.confirm_s))
        self.watch.start()
        # Only what the server still has counts as delivered: it may have lost what it had confirmed.
        trusted = reopened and start > self.state.confirmed_step
        rows = self.rows(self.state if trusted else SegmentState(self.segment.run_id))
        asked_at = 0.0
        while True:
            self.read_command()
            free = self.pace.window - len(self.sent)
            batch = rows.poll(min(200, free)) if free > 0 else []
            if not batch and self.end is not None and self.end[0]:
                batch = rows.close()
            self.log_rows(batch, start)
            if self.end is not None and not batch and free > 0:
                break
            now = time.monotonic()
            if self.sent and now - asked_at > self.pace.confirm_s:
                asked_at = now
                self.watch.ask()
            self.check_confirmed()
            report_alive()
            if not batch:
                time.sleep(0.25)
        self.finish(incomplete=rows.open_rows > 0)

    def open(self, wandb: Any) -> Any:
        """Open the W&B run, a new one or where the server stands."""
        segment = self.segment
        run = wandb.init(
            id=segment.run_id,
            # Without it the client appends to, or overwrites, a run that exists; "must" would refuse a new one.
            resume="allow",
            project=segment.project,
            entity=segment.entity,
            name=None if self.state.opened else segment.name,  # a name that the user changed since is kept
            group=segment.group,
            config=segment.config,
            dir=os.environ.get("WANDB_DIR") or str(self.output_dir),
            settings=self.settings(wandb),
        )
        # Charts are drawn over the trainer's step and not over W&B's own counter, whatever the rows are.
        run.define_metric(STEP_METRIC)
        run.define_metric("*", step_metric=STEP_METRIC)
        return run

    def settings(self, wandb: Any) -> Any:
        live = self.trainer_pid > 0
        return wandb.Settings(
            silent=True,
            console="off",
            # The journal is the record. Without a transaction log a `wandb sync` has nothing that it could double.
            x_skip_transaction_log=True,
            init_timeout=self.pace.init_s,
            finish_timeout=self.pace.finish_s,
            # Whole seconds: wandb-core cuts it to an integer and takes 0 for its default of 15.
            x_file_stream_transmit_interval=1,
            x_file_stream_retry_wait_max_seconds=4,
            x_file_stream_timeout_seconds=10,
            # System metrics are those of the training process, and there are none when a dead run is uploaded later.
            x_disable_stats=not live,
            x_stats_pid=self.trainer_pid if live else os.getpid(),
        )

    def rows(self, known: SegmentState) -> SegmentRows:
        return segment_rows(
            *(self.output_dir, self.segment),
            offset=known.restart,
            number=known.confirmed,
            after=known.confirmed_step,
            late=known.late,
        )

    def log_rows(self, batch: list[Row], start: int) -> None:
        """Give rows to the client, except those below ``start``: the server has them from an earlier delivery."""
        import wandb

        for row in batch:
            if row.step >= start:
                taken, reason = log_row(wandb, self.run, row)
                if not taken:
                    self.lost.append(row.step)
                if reason is not None:
                    report(set_aside=reason, step=row.step, whole=not taken)
                if taken:
                    self.sent_step = row.step
            else:
                self.sent_step = row.step
            # A row that the client did not take is done with once the server has those before it.
            self.sent.append((self.sent_step, Row(row.step, row.time, {}, row.number, row.restart, row.late)))
        if batch:
            self.watch.last_step = max(self.watch.last_step, start - 1)
            report(delivered=batch[-1].number, delivered_step=batch[-1].step)

    def check_confirmed(self) -> None:
        """
        Raises:
            Stalled: the server answers, and the rows do not arrive.
        """
        confirmed = None
        while self.sent and self.sent[0][0] <= self.watch.last_step:
            _, confirmed = self.sent.popleft()
        now = time.monotonic()
        if confirmed is not None:
            report(
                confirmed=confirmed.number,
                confirmed_step=confirmed.step,
                restart=confirmed.restart,
                late=confirmed.late,
            )
        if confirmed is not None or not self.sent:
            self.progress_at = now
        elif self.watch.error is not None and now - self.watch.answered_at > self.pace.confirm_s:
            report(trouble=f"no answer from {base_url()}: {self.watch.error}")
        elif self.watch.answered_at - max(self.progress_at, self.watch.answering_since) > self.pace.stall_s:
            raise Stalled(f"the server answers, but has step {self.watch.last_step} and not step {self.sent[-1][0]}")

    def finish(self, incomplete: bool) -> None:
        """Have everything confirmed and, unless a later attempt may still add to the last row, read it back."""
        assert self.end is not None
        # First the confirmation: `run.finish()` gives up in an outage, returns at once after a fatal status, and raises
        # in neither case. It is no proof of anything.
        self.progress_at = time.monotonic()
        while self.sent:
            self.watch.ask()
            self.check_confirmed()
            report_alive()
            time.sleep(0.1)
        self.close_run(self.end[1])
        if incomplete:
            report(complete=False, read_back=None, missing=[])
        else:
            found = self.read_back()
            report(complete=True, read_back=found.text, missing=found.missing)

    def close_run(self, exit_code: int) -> None:
        """End the W&B run; again where the server did not take note of it: an outage can swallow the end alone.

        After ``CLOSE_TRIES`` the run is left to W&B, which takes it for crashed. Its rows are all there.
        """
        import wandb

        for last_try in (False,) * (CLOSE_TRIES - 1) + (True,):
            self.run.finish(exit_code=exit_code)
            if last_try or is_closed(self.run.path, CLOSED_WITHIN_S, report_alive):
                return
            self.run = self.open(wandb)
            self.report_opened()

    def report_opened(self) -> None:
        report(opened=self.segment.attempts[-1], url=self.run.url, core_pids=children(os.getpid()))

    def read_back(self) -> ReadBack:
        """Compare the server's history with the journal."""
        expected: set[int] = set()
        rows = self.rows(SegmentState(self.segment.run_id))
        while batch := rows.poll(1000):
            expected.update(row.step for row in batch)
        expected.update(row.step for row in rows.close())
        expected -= set(self.lost)
        journal = RunPaths(self.output_dir).metrics
        return read_back(self.run.path, expected, sample_values(journal, self.segment.attempts, expected), report_alive)

    def read_command(self) -> None:
        """The uploader's ``end``, if it has come; without waiting."""
        while select.select([sys.stdin], [], [], 0)[0]:
            line = sys.stdin.readline()
            if not line:
                die()  # the uploader is gone: another one may already be at work
            word, close, exit_code = line.split()
            assert word == "end"
            self.end = (close == "1", int(exit_code))


def report(**message: Any) -> None:
    """Send a message to the uploader."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def report_alive() -> None:
    report(alive=1)


def watch_parent(parent: int) -> None:
    """Kill this process and its wandb-core once the uploader is gone, even while the client blocks."""
    while os.getppid() == parent:
        time.sleep(0.5)
    die()


def die() -> None:
    """Kill wandb-core, which would go on sending for some seconds, and then this process."""
    kill(children(os.getpid()), CLIENT_PROCESS, wait_s=0)
    os.kill(os.getpid(), signal.SIGKILL)


def private_stdout() -> None:
    """Keep standard output for messages: what libraries print goes to standard error."""
    messages = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(messages, "w", encoding="utf-8")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Deliver one segment to W&B (started by the uploader).")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("run_id")
    parser.add_argument("--trainer-pid", type=int, default=0, help="0: the trainer does not run any more")
    parser.add_argument("--pace", type=json.loads, default={})
    arguments = parser.parse_args(argv)
    private_stdout()
    threading.Thread(target=watch_parent, args=(os.getppid(),), daemon=True).start()
    for name in OWNED_VARIABLES:
        os.environ.pop(name, None)
    segment = next(found for found in read_segments(arguments.output_dir) if found.run_id == arguments.run_id)
    state = read_state(arguments.output_dir).of(segment)
    delivery = Delivery(arguments.output_dir, segment, state, Pace(**arguments.pace), arguments.trainer_pid)
    try:
        delivery.work()
    except Stalled as error:
        report(failed=str(error))
        return EXIT_STALLED
    except Exception as error:  # noqa: BLE001 - the process boundary: whatever the client raises is the uploader's to judge
        report(failed=describe(error))
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Not sys.exit: the client's atexit hook (wandb/sdk/lib/service) would wait for a dead or frozen wandb-core.
    os._exit(code)

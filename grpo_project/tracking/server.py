"""What the W&B server itself says of a run: its last step while rows are delivered, its history at the end.

Nothing that the client does locally proves delivery: not ``finish()``, not an exit code of 0.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable

from grpo_project.tracking.segments import STEP_METRIC

READ_BACK_LIMIT = 50_000
"""Rows up to which the whole history is read back at the end; beyond that the server's last step must do."""


class ServerWatch(threading.Thread):
    """Asks the server for the run's last step, in a thread because the client retries for minutes in an outage."""

    def __init__(self, path: str, every_s: float) -> None:
        super().__init__(daemon=True)
        self._path, self._every_s = path, every_s
        self._wanted = threading.Event()
        self.last_step = -1
        self.answered_at = 0.0
        self.answering_since = 0.0
        self.error: str | None = None

    def ask(self) -> None:
        self._wanted.set()

    def run(self) -> None:
        import wandb

        run = None
        while True:
            self._wanted.wait()
            try:
                run = run or wandb.Api(timeout=10).run(self._path)
                last_step = run.lastHistoryStep  # asks anew at each access (wandb/apis/public/runs.py:1749)
            except Exception as error:  # noqa: BLE001 - the client raises many types; any of them means "no answer"
                self.error = describe(error)
            else:
                self.last_step = max(self.last_step, int(last_step))
                self.answered_at = time.monotonic()
                if self.error is not None or not self.answering_since:
                    self.error, self.answering_since = None, self.answered_at
                self._wanted.clear()
            time.sleep(self._every_s)


def read_back(path: str, expected: set[int], alive: Callable[[], None]) -> str:
    """Compare the steps of a run on the server with those of the journal: "exact", or what differs.

    Args:
        path: the run as entity/project/id.
        alive: called now and then, as a sign of life.
    """
    import wandb

    if len(expected) > READ_BACK_LIMIT:
        return f"last step only: {len(expected)} rows are too many to read back"
    seen: collections.Counter[int] = collections.Counter()
    for row in wandb.Api(timeout=20).run(path).scan_history(use_cache=False):
        step = int(row["_step"])
        if int(row[STEP_METRIC]) != step:
            return f"step {step} carries the trainer's step {row[STEP_METRIC]}"
        seen[step] += 1
        if len(seen) % 1000 == 0:
            alive()
    return compare_steps(expected, seen)


def is_closed(path: str, within_s: float, alive: Callable[[], None]) -> bool:
    """Whether the server shows the run as ended, now or within so many seconds. An outage counts as a no."""
    import wandb

    deadline = time.monotonic() + within_s
    while True:
        alive()
        try:
            if wandb.Api(timeout=10).run(path).state != "running":
                return True
        except (ValueError, wandb.errors.CommError, OSError):
            pass  # no answer is no evidence
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)


def compare_steps(expected: set[int], seen: collections.Counter[int]) -> str:
    """Say how the steps on the server differ from those of the journal; "exact" if they don't."""
    missing = sorted(expected - seen.keys())
    doubled = sorted(step for step, count in seen.items() if count > 1)
    beyond = sorted(seen.keys() - expected)
    if not (missing or doubled or beyond):
        return "exact"
    findings = (("missing", missing), ("more than once", doubled), ("not in the journal any more", beyond))
    return "; ".join(f"{what}: {len(steps)} ({ranges(steps)})" for what, steps in findings if steps)


def ranges(steps: list[int]) -> str:
    """The first few of sorted ``steps``, for people."""
    return ", ".join(map(str, steps[:10])) + (", ..." if len(steps) > 10 else "")


def describe(error: BaseException) -> str:
    """One line on an exception of the client."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text:.300}" if text else type(error).__name__

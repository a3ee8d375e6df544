"""What the W&B server itself says of a run: its last step while rows are delivered, its history at the end.

Nothing that the client does locally proves delivery: not ``finish()``, not an exit code of 0.
"""

from __future__ import annotations

import collections
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_project.record.run_directory import RESERVED, read_records
from grpo_project.tracking.client_rows import client_name
from grpo_project.tracking.segments import STEP_METRIC

READ_BACK_LIMIT = 50_000
"""Rows up to which the whole history is read back at the end; of a longer one only the sampled rows."""
SAMPLED_ROWS = 200
"""So many rows are compared value by value."""


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


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the comparison of a run on the server with the journal found.

    ``text``: "exact", or what differs, for people. ``missing``: steps that the server lacks, as far as that was read.
    """

    text: str
    missing: list[int]


Sampled = dict[int, list[dict[str, float]]]
"""By step: the numbers of its journal rows, one dictionary an attempt."""


def sample_values(metrics: Path, attempts: list[int], expected: set[int]) -> Sampled:
    """The numbers of some rows over the whole of a run, its first and last among them."""
    steps = sorted(expected)
    stride = max(1, len(steps) // SAMPLED_ROWS)
    chosen = {*steps[::stride], *steps[-1:]}
    found: dict[int, dict[int, dict[str, float]]] = {}
    for record in read_records(metrics):
        if record.step in chosen and record.attempt in attempts:
            numbers = {
                client_name(key): float(value)
                for key, value in {**record.values, **record.values.get("_values", {})}.items()
                if type(value) in (float, int, bool) and key not in RESERVED and not key.startswith("_")
            }
            found.setdefault(record.step, {}).setdefault(record.attempt, {}).update(numbers)
    return {step: list(rows.values()) for step, rows in found.items()}


def read_back(path: str, expected: set[int], sampled: Sampled, alive: Callable[[], None]) -> ReadBack:
    """Compare the history of a run on the server with the journal: each step once, and the values of a sample of rows.

    Args:
        path: the run as entity/project/id.
        alive: called now and then, as a sign of life.
    """
    import wandb

    run = wandb.Api(timeout=20).run(path)
    if len(expected) > READ_BACK_LIMIT:
        return read_back_sample(run, expected, sampled, alive)
    seen: collections.Counter[int] = collections.Counter()
    wrong: list[int] = []
    for row in run.scan_history(use_cache=False):
        step = int(row["_step"])
        seen[step] += 1
        if row.get(STEP_METRIC) != step or not agrees(row, sampled.get(step, [])):
            wrong.append(step)
        if len(seen) % 1000 == 0:
            alive()
    return compare(expected, seen, wrong)


def read_back_sample(run: Any, expected: set[int], sampled: Sampled, alive: Callable[[], None]) -> ReadBack:
    """The same for a history that is too long to be read: the sampled rows alone."""
    missing, wrong = [], []
    for step in sorted(sampled):
        alive()
        rows = list(run.scan_history(min_step=step, max_step=step + 1, page_size=1, use_cache=False))
        if not rows:
            missing.append(step)
        elif not agrees(rows[0], sampled[step]):
            wrong.append(step)
    found = compare(set(sampled), collections.Counter(sampled.keys() - set(missing)), wrong)
    return ReadBack(f"{len(sampled)} of {len(expected)} rows compared: {found.text}", missing)


def agrees(row: Mapping[str, Any], known: list[dict[str, float]]) -> bool:
    """Whether a row of the server holds the journal's numbers.

    Several attempts may have measured the same step, and the server keeps the one that was delivered first: a value of
    any of them is right. What all of them have must be there.
    """
    names = {name for numbers in known for name in numbers}
    for name in names:
        values = [numbers[name] for numbers in known if name in numbers]
        if name not in row:
            if len(values) == len(known):
                return False
        elif not any(same_number(row[name], value) for value in values):
            return False
    return True


def same_number(found: Any, value: float) -> bool:
    """NaN and the infinities come as texts from the server."""
    try:
        number = float(found)
    except (TypeError, ValueError):
        return False
    return math.isclose(number, value, rel_tol=1e-12) or (math.isnan(number) and math.isnan(value))


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


def compare(expected: set[int], seen: collections.Counter[int], wrong: list[int]) -> ReadBack:
    """Say how the server differs from the journal."""
    missing = sorted(expected - seen.keys())
    doubled = sorted(step for step, count in seen.items() if count > 1)
    beyond = sorted(seen.keys() - expected)
    findings = (
        *(("missing", missing), ("more than once", doubled), ("not in the journal any more", beyond)),
        ("with other values", sorted(wrong)),
    )
    texts = [f"{what}: {len(steps)} ({ranges(steps)})" for what, steps in findings if steps]
    return ReadBack("; ".join(texts) or "exact", missing)


def ranges(steps: list[int]) -> str:
    """The first few of sorted ``steps``, for people."""
    return ", ".join(map(str, steps[:10])) + (", ..." if len(steps) > 10 else "")


def describe(error: BaseException) -> str:
    """One line on an exception of the client."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text:.300}" if text else type(error).__name__

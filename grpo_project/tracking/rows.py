"""From the journal to W&B's rows: one for each step, whatever kinds of metrics it has, in rising order of step.

A step is complete once a later step appears, or once nobody can add to it any more (``close``). So a row waits for the
next step: what the trainer, the evaluation and the curriculum say of one step arrives as one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_project.record.json_line import decode
from grpo_project.record.run_directory import RESERVED

STEP_METRIC = "_trainer_step"


@dataclass(slots=True)
class Row:
    """One W&B row. ``number``: how many rows of the segment end with it. ``restart``: the byte of the journal from
    which a reader finds every later row."""

    step: int
    time: float
    values: dict[str, Any]
    number: int = 0
    restart: int = 0


class SegmentRows:
    """Tails the journal for the rows of one segment. Memory: one step.

    Args:
        attempts: whose rows count.
        valid_steps: for an attempt that a later one cut short, the last step that counts.
        offset: where to begin, with ``number`` rows and the step ``after`` before it (a confirmed ``Row.restart``).
    """

    def __init__(
        self,
        metrics: Path,
        attempts: list[int],
        valid_steps: Mapping[int, int],
        *,
        offset: int = 0,
        number: int = 0,
        after: int = -1,
    ) -> None:
        self._path = metrics
        self._attempts = frozenset(attempts)
        self._valid = valid_steps
        self._offset = offset
        self._number = number
        self._last = after
        self._open: Row | None = None
        self.late = 0
        """Journal rows that came for a step already complete. They stay in the journal; W&B can't take them."""

    def poll(self, limit: int) -> list[Row]:
        """Up to ``limit`` complete rows that are there now."""
        rows: list[Row] = []
        if not self._path.exists():
            return rows
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while len(rows) < limit and (line := file.readline()).endswith(b"\n"):
                begin, self._offset = self._offset, self._offset + len(line)
                row = self._take(line, begin)
                if row is not None:
                    rows.append(row)
        return rows

    def close(self) -> list[Row]:
        """The last row, now that nobody will add to it (none or one)."""
        row, self._open = self._open, None
        return [] if row is None else [self._complete(row, self._offset)]

    @property
    def held(self) -> int:
        """Rows that wait for the step to be complete: 0 or 1."""
        return int(self._open is not None)

    def _take(self, line: bytes, begin: int) -> Row | None:
        """Add a line of the journal; returns the step that it completes."""
        try:
            record = decode(line)
            attempt, step, time = int(record["attempt"]), int(record["step"]), float(record["time"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None  # Run.damage reports it
        if attempt not in self._attempts or step > self._valid.get(attempt, step):
            return None
        if step <= self._last or (self._open is not None and step < self._open.step):
            self.late += 1
            return None
        done = None
        if self._open is not None and step > self._open.step:
            done = self._complete(self._open, begin)
            self._open = None
        if self._open is None:
            self._open = Row(step, time, {})
        values = {key: value for key, value in record.items() if key not in RESERVED}
        self._open.values.update(values, **record.get("_values", {}))
        return done

    def _complete(self, row: Row, restart: int) -> Row:
        self._number += 1
        self._last = row.step
        row.number, row.restart = self._number, restart
        return row

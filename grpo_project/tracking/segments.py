"""Which W&B runs a run directory projects to, which attempts belong to each, and the rows of each.

Each attempt that is tracked appends one ``wandb_run`` event to the journal. Attempts with the same run id form a
segment. So the identity of every W&B run survives the loss of all other files, and an offline run knows its ids before
any upload.

A segment's rows are the journal's, one for each step, whatever kinds of metrics it has, in rising order of step. A step
is complete once a later step appears, or once nobody can add to it any more (``close``). So a row waits for the next
step: what the trainer, the evaluation and the curriculum record of one step arrives as one row.
"""

from __future__ import annotations

import os
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from grpo_project.errors import TrackingError
from grpo_project.record.journal import append_event
from grpo_project.record.run_directory import (
    RESERVED,
    Attempt,
    RunPaths,
    parse_record,
    read_attempts,
    read_records,
    valid_until,
)
from grpo_project.tracking.settings import DEFAULT_PROJECT, RESUME_ENVIRONMENT

POLICIES = ("new", "same")
REMOVED_POLICIES = {"fork": "new", "rewind": "same"}
"""Previews of W&B that older versions offered, with what a run that was started with one is now."""
EVENT = "wandb_run"
STEP_METRIC = "_trainer_step"


@dataclass(slots=True)
class Segment:
    """One W&B run.

    ``branch_step``: the last step that the parent's rows count for; None for the first segment.
    ``attempts``: the process starts whose rows it holds, the newest last.
    """

    run_id: str
    project: str
    name: str
    group: str
    policy: str = "new"
    entity: str | None = None
    parent_id: str | None = None
    branch_step: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    attempts: list[int] = field(default_factory=list)


def read_segments(output_dir: str | os.PathLike[str]) -> list[Segment]:
    """The segments of a run directory, the oldest first. The last ``wandb_run`` event of an attempt counts."""
    latest: dict[int, dict[str, Any]] = {}
    for record in read_records(RunPaths(Path(output_dir)).events):
        if record.values.get("event") == EVENT and is_identity(record.values):
            latest[record.attempt] = record.values
    known = {entry.name for entry in fields(Segment)} - {"attempts"}
    segments: dict[str, Segment] = {}
    for attempt, event in sorted(latest.items()):
        recorded = {key: value for key, value in event.items() if key in known}
        recorded["policy"] = REMOVED_POLICIES.get(recorded["policy"], recorded["policy"])
        segment = segments.setdefault(recorded["run_id"], Segment(**recorded))
        segment.policy = recorded["policy"]
        segment.attempts.append(attempt)
    return list(segments.values())


def is_identity(event: Mapping[str, Any]) -> bool:
    """Whether an event names a W&B run in full. A damaged one does not; its attempt then belongs to no run yet."""
    texts = all(
        isinstance(event.get(name), str) and event[name] for name in ("run_id", "project", "name", "group", "policy")
    )
    optional = all(isinstance(event.get(name), str | None) for name in ("entity", "parent_id"))
    branch = isinstance(event.get("branch_step"), int | None)
    return texts and optional and branch and isinstance(event.get("config", {}), dict)


def choose_policy(asked: str | None, force_new: bool, environment: Mapping[str, str] = os.environ) -> str:
    """How a resumed run continues in W&B: ``force_new``, then ``asked``, then the environment, then "new".

    In the environment WANDB_RESUME says so, and a WANDB_RUN_ID alone means the same run (it is how a job script asks
    for one run over several starts).

    Raises:
        TrackingError: there is no such policy.
    """
    if asked is not None and asked not in POLICIES:
        removed = ", which was a preview of W&B's and is no longer offered" if asked in REMOVED_POLICIES else ""
        raise TrackingError(f"--wandb_resume is {asked!r}{removed}; it can be {' or '.join(POLICIES)}")
    if force_new:
        return "new"
    if asked is not None:
        return asked
    variable = environment.get("WANDB_RESUME")
    if variable:
        if variable not in RESUME_ENVIRONMENT:
            raise TrackingError(f"WANDB_RESUME is {variable!r}; it can be {', '.join(RESUME_ENVIRONMENT)}")
        return RESUME_ENVIRONMENT[variable]
    return "same" if environment.get("WANDB_RUN_ID") else "new"


def plan_segment(
    output_dir: Path,
    attempt: int,
    resume_step: int | None,
    policy: str,
    *,
    project: str | None,
    name: str | None,
    config: Mapping[str, Any],
    force_new: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Segment:
    """The W&B run of an attempt that is about to start. Nothing is written; ``record_segment`` does."""
    earlier = [segment for segment in read_segments(output_dir) if attempt not in segment.attempts]
    asked_id = None if force_new else environment.get("WANDB_RUN_ID")
    project = project or environment.get("WANDB_PROJECT") or DEFAULT_PROJECT
    entity = environment.get("WANDB_ENTITY")
    if not earlier:
        name = name or environment.get("WANDB_NAME") or output_dir.resolve().name
        run_id = asked_id or new_run_id()
        group = environment.get("WANDB_RUN_GROUP") or f"{name}-{run_id}"
        return Segment(run_id, project, name, group, "new", entity, None, None, dict(config))
    first, parent = earlier[0], earlier[-1]
    taken = {segment.run_id for segment in earlier}
    if policy == "same" and asked_id is not None and asked_id not in taken:
        policy = "new"  # the id names another run than those of this directory
    if policy == "same":
        chosen = next((segment for segment in earlier if segment.run_id == asked_id), parent)
        return replace(chosen, policy=policy, attempts=[])
    run_id = new_run_id() if asked_id is None else asked_id if asked_id not in taken else f"{asked_id}-{attempt}"
    name = f"{name or first.name}-attempt{attempt}"
    branch_step = resume_step or 0
    return Segment(
        run_id,
        project,
        name,
        first.group,
        policy,
        entity,
        parent.run_id,
        branch_step,
        {**config, "parent_run_id": parent.run_id, "branch_step": branch_step},
    )


def check_name(what: str, name: str) -> None:
    """
    Raises:
        TrackingError: W&B would refuse ``name``, and rows would wait for ever.
    """
    if not name.strip() or len(name) > 128 or set(name) & set("/\\#?%:"):
        raise TrackingError(f"{what} is {name!r}; W&B takes 1 to 128 characters without any of / \\ # ? % :")


def record_segment(output_dir: Path, attempt: int, segment: Segment) -> None:
    """Append the ``wandb_run`` event that makes ``segment`` the W&B run of ``attempt``."""
    identity = {entry.name: getattr(segment, entry.name) for entry in fields(segment) if entry.name != "attempts"}
    append_event(output_dir, attempt, EVENT, **identity)


def adopt_segments(output_dir: Path, project: str | None, opened: set[str]) -> None:
    """Give a W&B run to attempts that were never tracked, and ``project`` to runs that nothing was uploaded of yet.

    Args:
        opened: ids of the W&B runs that exist on the server.
    """
    segments = read_segments(output_dir)
    if not segments:
        attempts = sorted(read_attempts(RunPaths(output_dir).events))
        planned = plan_segment(output_dir, -1, None, "new", project=project, name=None, config={})
        for attempt in attempts:
            record_segment(output_dir, attempt, replace(planned, policy="same" if attempt else "new"))
    for segment in segments:
        if project is not None and segment.project != project and segment.run_id not in opened:
            for attempt in segment.attempts:
                record_segment(output_dir, attempt, replace(segment, project=project))


def rebuild_segments(output_dir: Path) -> None:
    """Give every segment a W&B run that does not exist yet, so that the whole projection is made anew."""
    segments = read_segments(output_dir)
    renamed: dict[str | None, str] = {segment.run_id: new_run_id() for segment in segments}
    for segment in segments:
        rebuilt = replace(segment, run_id=renamed[segment.run_id])
        if segment.parent_id is not None:
            rebuilt.parent_id = renamed[segment.parent_id]
            rebuilt.config = {**segment.config, "parent_run_id": rebuilt.parent_id}
        for attempt in segment.attempts:
            record_segment(output_dir, attempt, rebuilt)


def new_run_id() -> str:
    """Eight letters and digits, as the client makes them (wandb/sdk/lib/runid.py, ``generate_id``)."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


@dataclass(slots=True)
class Row:
    """One W&B row. ``number``: how many rows of the segment end with it. ``restart``: the byte of the journal from
    which a reader finds every later row."""

    step: int
    time: float
    values: dict[str, Any]
    number: int = 0
    restart: int = 0
    late: int = 0
    """How many journal rows before ``restart`` came too late for their step."""


class SegmentRows:
    """Tails the journal for the rows of one segment. Memory: one step.

    Args:
        attempts: whose rows count.
        valid_steps: for an attempt that a later one cut short, the last step that counts.
        offset: where to begin (a confirmed ``Row.restart``), with ``number`` rows, the step ``after`` and ``late``
            late ones before it.
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
        late: int = 0,
    ) -> None:
        self._path = metrics
        self._attempts = frozenset(attempts)
        self._valid = valid_steps
        self._offset = offset
        self._number = number
        self._last = after
        self._open: Row | None = None
        self.late = late
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
                row = self._add(line, begin)
                if row is not None:
                    rows.append(row)
        return rows

    def close(self) -> list[Row]:
        """The last row, now that nobody will add to it (none or one)."""
        row, self._open = self._open, None
        return [] if row is None else [self._complete(row, self._offset)]

    @property
    def open_rows(self) -> int:
        """Rows that wait for the step to be complete: 0 or 1."""
        return int(self._open is not None)

    def _add(self, line: bytes, begin: int) -> Row | None:
        """Add a line of the journal; returns the step that it completes."""
        try:
            record = parse_record(line)
        except ValueError:
            return None  # Run.damage reports it
        attempt, step, time = record["attempt"], record["step"], float(record["time"])
        if step is None or attempt not in self._attempts or step > self._valid.get(attempt, step):
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
        row.number, row.restart, row.late = self._number, restart, self.late
        return row


def segment_rows(
    output_dir: Path, segment: Segment, *, offset: int = 0, number: int = 0, after: int = -1, late: int = 0
) -> SegmentRows:
    """The rows of ``segment``; for an attempt that a later one of it cut short, up to the step that still counts."""
    paths = RunPaths(output_dir)
    known = read_attempts(paths.events)
    limits = valid_until({attempt: known.get(attempt, Attempt(attempt)) for attempt in segment.attempts})
    return SegmentRows(paths.metrics, segment.attempts, limits, offset=offset, number=number, after=after, late=late)

"""What is known about the projection to W&B: ``wandb_sync_state.json``, ``wandb_backup/``, ``sync_status``.

All of it can be rebuilt from the journal and the server; nothing here is needed to lose no row.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from grpo_project.errors import DiskFullError
from grpo_project.record.durable import write_atomically
from grpo_project.record.journal import Journal
from grpo_project.record.json_line import encode
from grpo_project.record.run_directory import Run, RunPaths, read_steps
from grpo_project.tracking.processes import command_line
from grpo_project.tracking.segments import Row, Segment, SegmentRows, read_segments, segment_rows

BACKUP_LIMIT = 10_000
"""At most so many files in ``wandb_backup``; the journal has every row anyway."""
_BACKUP_NAME = re.compile(r"step_(\d{6,})\.json")


@dataclass(slots=True)
class SegmentState:
    """How far one W&B run has come.

    delivered: rows handed to the W&B client. confirmed: rows at or below the last step that the server itself reported.
    late: journal rows that came for a step that was sent already (several threads, a forked child); W&B takes steps in
    rising order only. lost: steps of rows that the client did not take at all. set_aside: why, by step, a row or a part
    of it is not in W&B. missing: steps that the server turned out to lack. The journal has all of them.
    restart: the byte of the journal from which a reader finds every row after the confirmed ones.
    read_back: None until the end; then "exact", or what differs.
    """

    run_id: str
    delivered: int = 0
    delivered_step: int = -1
    confirmed: int = 0
    confirmed_step: int = -1
    restart: int = 0
    late: int = 0
    lost: list[int] = field(default_factory=list)
    set_aside: dict[str, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    complete: bool = False
    read_back: str | None = None
    opened: list[int] = field(default_factory=list)
    url: str | None = None
    last_error: str | None = None
    error_since: float | None = None
    restarts: int = 0
    core_pids: list[int] = field(default_factory=list)
    """The client's own processes; they outlive their parent by some seconds unless killed."""

    def failed(self, error: str) -> None:
        """Note an error; since when is kept over repetitions."""
        self.last_error = error
        self.error_since = self.error_since or round(time.time(), 3)

    def recovered(self) -> None:
        self.last_error = self.error_since = None


@dataclass(slots=True)
class SyncState:
    """The content of ``wandb_sync_state.json``. ``mode``: online, offline, disabled."""

    mode: str = "offline"
    reason: str = ""
    updated: float = 0.0
    uploader_pid: int | None = None
    uploader_restarts: int = 0
    last_step: int | None = None
    """While nothing is uploaded: the newest step of the journal, and how many steps it has."""
    rows: int | None = None
    next: str = ""
    """What to do, for people."""
    segments: dict[str, SegmentState] = field(default_factory=dict)

    def of(self, segment: Segment) -> SegmentState:
        return self.segments.setdefault(segment.run_id, SegmentState(segment.run_id))


def read_state(output_dir: Path) -> SyncState:
    """The recorded state; an empty one where there is none or it is damaged (all of it can be found out again)."""
    try:
        recorded = json.loads(RunPaths(output_dir).sync_state.read_text(encoding="utf-8"))
        segments = {
            run_id: SegmentState(**_known(SegmentState, entry))
            for run_id, entry in recorded.get("segments", {}).items()
        }
        return SyncState(**{**_known(SyncState, recorded), "segments": segments})
    except (OSError, ValueError, TypeError, AttributeError):
        return SyncState()


def write_state(output_dir: Path, state: SyncState) -> None:
    state.updated = round(time.time(), 3)
    write_atomically(
        RunPaths(output_dir).sync_state, json.dumps(asdict(state), indent=2).encode() + b"\n", through_power_loss=False
    )


class LocalState:
    """Keeps ``wandb_sync_state.json`` up to date while nothing is uploaded: where the run stands, and what to do."""

    EVERY_S = 10.0

    def __init__(self, output_dir: Path, journal: Journal) -> None:
        self.output_dir, self.journal = output_dir, journal
        self._written_at = -self.EVERY_S
        steps = {step for _, step in read_steps(journal.paths.metrics)}  # of earlier starts
        self._rows, self._last_step = len(steps), max(steps, default=-1)

    def after_row(self) -> None:
        """Called with every row."""
        if self.journal.last_step > self._last_step:  # a step that is done again is none more
            self._rows, self._last_step = self._rows + 1, self.journal.last_step
        now = time.monotonic()
        if now - self._written_at >= self.EVERY_S:
            self._written_at = now
            self.write()

    def write(self) -> None:
        """Say what is there now. A full disk leaves the old state: nothing depends on it."""
        state = read_state(self.output_dir)
        state.rows, state.last_step = self._rows, self._last_step if self._rows else None
        state.next = f"upload with: grpo sync {self.output_dir}"
        with contextlib.suppress(OSError, DiskFullError):
            write_state(self.output_dir, state)


def pending_rows(output_dir: Path, segment: Segment, state: SegmentState) -> Iterator[Row]:
    """The rows of a segment that the server has not confirmed, the one whose step may still grow too."""
    rows = unconfirmed(output_dir, segment, state)
    while batch := rows.poll(1000):
        yield from batch
    yield from rows.close()


def unconfirmed(output_dir: Path, segment: Segment, state: SegmentState) -> SegmentRows:
    """A reader that goes on where the confirmed rows end."""
    return segment_rows(
        *(output_dir, segment),
        offset=state.restart,
        number=state.confirmed,
        after=state.confirmed_step,
        late=state.late,
    )


def sync_status(output_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Where the projection stands, counted now: rows in the journal, delivered, confirmed, pending, by segment.

    ``state``: disabled, offline, uploading, complete, or incomplete (no uploader is at work; `grpo sync` goes on).
    """
    root = Path(output_dir)
    state = read_state(root)
    segments = [_segment_status(root, segment, state.of(segment)) for segment in read_segments(root)]
    pending = sum(segment["pending"] for segment in segments)
    missing = sum(len(segment["missing"]) for segment in segments)
    errors = [segment for segment in segments if segment["last_error"]]
    return {
        "state": _summary(state, pending + missing),
        "mode": state.mode,
        "reason": state.reason,
        "rows": sum(segment["rows"] for segment in segments),
        "delivered": sum(segment["delivered"] for segment in segments),
        "confirmed": sum(segment["confirmed"] for segment in segments),
        "pending": pending,
        "missing": missing,
        "set_aside": sum(len(segment["set_aside"]) for segment in segments),
        "late": sum(segment["late"] for segment in segments),
        "rejected": len(Run(root).events("rejected")),
        "last_error": errors[-1]["last_error"] if errors else None,
        "error_since": errors[-1]["error_since"] if errors else None,
        "uploader_alive": uploader_alive(state),
        "uploader_restarts": state.uploader_restarts,
        "backup_files": len(list(backup_files(root))),
        "segments": segments,
    }


def uploader_alive(state: SyncState) -> bool:
    """Whether the uploader that wrote ``state`` still runs (on this machine)."""
    return state.uploader_pid is not None and "tracking.uploader" in command_line(state.uploader_pid)


def write_backup(output_dir: Path, segments: list[Segment], state: SyncState, limit: int = BACKUP_LIMIT) -> None:
    """One file for each step that W&B has not confirmed; files of confirmed steps go."""
    folder = RunPaths(output_dir).backup
    wanted: dict[int, dict[str, Any]] = {}
    for segment in reversed(segments):  # where two segments lack the same step, the newer one's row
        for row in pending_rows(output_dir, segment, state.of(segment)):
            if len(wanted) == limit:
                break
            content = {"step": row.step, "time": row.time, "run_id": segment.run_id, "data": row.values}
            wanted.setdefault(row.step, content)
    there = dict(backup_files(output_dir))
    for step in there.keys() - wanted.keys():
        there[step].unlink(missing_ok=True)
    if not wanted:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        return
    folder.mkdir(exist_ok=True)
    for step in wanted.keys() - there.keys():
        write_atomically(folder / f"step_{step:06d}.json", encode(wanted[step]), through_power_loss=False)


def backup_files(output_dir: Path) -> Iterator[tuple[int, Path]]:
    folder = RunPaths(output_dir).backup
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _BACKUP_NAME.fullmatch(path.name)
        if match:
            yield int(match[1]), path


def _segment_status(root: Path, segment: Segment, state: SegmentState) -> dict[str, Any]:
    rows = unconfirmed(root, segment, state)
    pending = 0
    while batch := rows.poll(1000):
        pending += len(batch)
    pending += len(rows.close())
    not_there = len(state.missing) + sum(step <= state.confirmed_step for step in state.lost)
    return {
        **{key: value for key, value in asdict(state).items() if key not in ("restart", "opened", "core_pids")},
        "project": segment.project,
        "name": segment.name,
        "policy": segment.policy,
        "attempts": segment.attempts,
        "parent_id": segment.parent_id,
        "branch_step": segment.branch_step,
        "rows": state.confirmed + pending,
        "confirmed": state.confirmed - not_there,
        "late": rows.late,
        "pending": pending,
    }


def _summary(state: SyncState, pending: int) -> str:
    if state.mode == "disabled":
        return "disabled"
    if uploader_alive(state):
        return "uploading"
    finished = not pending and all(segment.complete for segment in state.segments.values())
    if state.segments and finished and any(segment.complete for segment in state.segments.values()):
        return "complete"
    return "offline" if state.mode == "offline" else "incomplete"


def _known(kind: type, recorded: dict[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in fields(kind)}
    return {key: value for key, value in recorded.items() if key in names}

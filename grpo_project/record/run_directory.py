"""The run directory: where each file lies, and ``Run``, which reads the journal as everybody should see it.

A run that was resumed has rows of several attempts. Rows of an earlier attempt beyond the step that a later one went on
from are superseded; for each step and kind the newest attempt counts. Torn lines and foreign garbage are passed over
and reported, never guessed at. ``output_dir`` may belong to a run that is still going.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from grpo_project.errors import ConfigError
from grpo_project.record.file_lock import FileLock
from grpo_project.record.json_line import decode

RESERVED = frozenset({"attempt", "step", "time", "kind", "_values"})
"""Fields of every row. A metric of such a name is found under ``_values``."""
MAIN_METRIC = "eval_avg_test_pass_rate"
"""The metric of an evaluation's row that curves, summaries and the choice of the best model go by."""

MAX_ATTEMPT, MAX_STEP = 1_000_000, 2**63 - 1
_ROW_START = re.compile(rb'\{"attempt":(\d{1,7}),"step":(\d{1,19}),')
RUN_CONTENTS = (
    *("run.json", "journal", "samples", "evaluations", "checkpoint-*", "rejected-checkpoints"),
    *("report.html", "samples.html"),
    *("wandb_sync_state.json", "wandb_backup", "wandb", "tensorboard"),
)
"""What a run writes beside the model itself, as patterns of names."""
MODEL_FILES = (
    *("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json"),
    *(
        "adapter_config.json",
        "adapter_model*.safetensors",
        "tokenizer*",
        "special_tokens_map.json",
        "added_tokens.json",
    ),
    *("vocab.*", "merges.txt", "chat_template*", "training_args.bin", "README.md"),
)
"""What version 0.1.0 wrote as the model of a finished run; later ones record the names in ``run.json``."""
OVERWRITTEN = ".overwritten"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Names of the files in a run directory that belong to the journal and its projection."""

    root: Path

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def metrics(self) -> Path:
        return self.journal / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.journal / "events.jsonl"

    @property
    def sync_state(self) -> Path:
        return self.root / "wandb_sync_state.json"

    @property
    def backup(self) -> Path:
        return self.root / "wandb_backup"

    @property
    def wandb(self) -> Path:
        return self.root / "wandb"


class Damage(NamedTuple):
    """A line that could not be read. ``offset`` in bytes from the start of the file."""

    file: Path
    line: int
    offset: int
    reason: str
    excerpt: str


class Record(NamedTuple):
    """One readable line and the byte where it ends."""

    attempt: int
    step: int | None
    values: dict[str, Any]
    end: int


@dataclass(slots=True)
class Attempt:
    """One process start. ``resume_step``: the last step that it took over; None where nothing tells."""

    number: int
    started: float | None = None
    resume_step: int | None = None
    last_step: int | None = None
    rows: int = 0


class Run:
    """Reads a run directory. Every call reads the files as they are now."""

    def __init__(self, output_dir: str | os.PathLike[str]) -> None:
        self.paths = RunPaths(Path(output_dir))

    @classmethod
    def open(cls, output_dir: str | os.PathLike[str]) -> Run:
        """
        Raises:
            ConfigError: there is no journal in ``output_dir``.
        """
        run = cls(output_dir)
        if not run.paths.journal.is_dir():
            raise ConfigError(f"{run.paths.root} is not a run directory: it has no {run.paths.journal.name}/ folder")
        return run

    def metrics(
        self,
        kind: str | None = None,
        columns: Sequence[str] | None = None,
        damage: list[Damage] | None = None,
    ) -> list[dict[str, Any]]:
        """The canonical rows by step: one for each step and kind.

        Args:
            columns: only these metrics (saves memory).
            damage: lines that can't be read are added to it.
        """
        rows: dict[tuple[int, str], dict[str, Any]] = {}
        wanted = None if columns is None else ("attempt", "step", "time", "kind", *columns)
        attempts = read_attempts(self.paths.events)
        names: dict[str, str] = {}
        for record in read_records(self.paths.metrics, damage=damage):
            count_row(attempts, record.attempt, record.step or 0)
            row = record.values
            if kind is not None and row.get("kind") != kind:
                continue
            if wanted is not None:
                row = {key: row[key] for key in wanted if key in row}
            else:  # one string for each name, not one for each row: a third of the memory
                row = {names.setdefault(key, key): value for key, value in row.items()}
            merge_row(rows, row)
        last_valid = valid_until(attempts)
        kept = (key for key, row in rows.items() if key[0] <= last_valid.get(row["attempt"], key[0]))
        return [rows[key] for key in sorted(kept, key=lambda key: key[0])]

    def all_rows(self) -> Iterator[dict[str, Any]]:
        """Every readable row of every attempt in the order of writing, superseded ones too."""
        for record in read_records(self.paths.metrics):
            yield record.values

    def events(self, name: str | None = None, damage: list[Damage] | None = None) -> list[dict[str, Any]]:
        """The events in the order of writing; ``name`` selects. ``damage`` as in ``metrics``."""
        return [
            record.values
            for record in read_records(self.paths.events, damage=damage)
            if name is None or record.values.get("event") == name
        ]

    @property
    def attempts(self) -> list[Attempt]:
        """One entry for each process start."""
        attempts = read_attempts(self.paths.events)
        for number, step in read_steps(self.paths.metrics):
            count_row(attempts, number, step)
        return [attempts[number] for number in sorted(attempts)]

    @property
    def last_step(self) -> int | None:
        """The newest step that counts, or None before the first row."""
        attempts = {attempt.number: attempt for attempt in self.attempts}
        limits = valid_until(attempts)
        ends = [
            min(attempt.last_step, limits.get(attempt.number, attempt.last_step))
            for attempt in attempts.values()
            if attempt.last_step is not None
        ]
        return max(ends, default=None)

    @property
    def damage(self) -> list[Damage]:
        """Lines that can't be read, in both files."""
        damage: list[Damage] = []
        for path in (self.paths.events, self.paths.metrics):
            for _ in read_records(path, damage=damage):
                pass
        return damage


def lock_run(paths: RunPaths) -> FileLock:
    """Become the one process that writes this run directory.

    Raises:
        ConfigError: another live process writes it.
    """
    try:
        return FileLock(paths.journal / "lock")
    except BlockingIOError as error:
        raise ConfigError(
            f"{paths.root} is being written by another process that is still alive; "
            "wait for it, stop it, or choose another --output_dir"
        ) from error


def put_aside_run(output_dir: Path, model_files: Iterable[str] | None) -> Path:
    """Move what an earlier run wrote, and nothing else that lies there, into ``.overwritten`` and return that folder.

    ``model_files``: the names of its final model's files, as it recorded them; ``None`` where it recorded none.
    """
    folder = output_dir / OVERWRITTEN
    shutil.rmtree(folder, ignore_errors=True)  # of a start that was killed while it deleted
    folder.mkdir(parents=True)
    patterns = [*RUN_CONTENTS, *(MODEL_FILES if model_files is None else map(glob.escape, model_files))]
    for path in {path for pattern in patterns for path in output_dir.glob(pattern)}:
        path.rename(folder / path.name)
    return folder


def read_records(path: Path, *, start: int = 0, damage: list[Damage] | None = None) -> Iterator[Record]:
    """The readable records of a journal file from the byte ``start`` on; the others go to ``damage``.

    A last line without an end is left alone: it may still be growing, so it is ``damage`` but never a record.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for number, line in enumerate(file, start=1):
            begin, end = end, end + len(line)
            reason = "torn: the line has no end"
            if line.endswith(b"\n"):
                try:
                    values = parse_record(line)
                    yield Record(values["attempt"], values["step"], values, end)
                    continue
                except ValueError as error:
                    reason = f"not a record: {error!s:.100}"
            if damage is not None and line.strip():
                damage.append(Damage(path, number, begin, reason, line[:80].decode("utf-8", "replace")))


def parse_record(line: bytes) -> dict[str, Any]:
    """A row or an event with the fields that every reader counts on.

    Raises:
        ValueError: it is neither, whatever was done to the line.
    """
    try:
        values = decode(line)
    except RecursionError as error:
        raise ValueError("nested without end") from error
    if not _is_count(values.get("attempt"), MAX_ATTEMPT):
        raise ValueError(f"attempt is {values.get('attempt')!r:.30}")
    step = values.get("step")
    if not _is_count(step, MAX_STEP) and not (step is None and "event" in values):
        raise ValueError(f"step is {step!r:.30}")
    for name, kind in (_EVENT_FIELDS if "event" in values else _ROW_FIELDS).items():
        if name in values and (not isinstance(values[name], kind) or isinstance(values[name], bool)):
            raise ValueError(f"{name} is {values[name]!r:.30}")
    values.setdefault("step", None)
    values.setdefault("time", 0.0)
    return values


_EVENT_FIELDS: dict[str, Any] = {"time": int | float, "event": str}
_ROW_FIELDS: dict[str, Any] = {"time": int | float, "kind": str, "_values": dict}


def _is_count(value: Any, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit


def read_attempts(events: Path) -> dict[int, Attempt]:
    """Every attempt that the events tell of, with the step that it went on from."""
    attempts: dict[int, Attempt] = {}
    for record in read_records(events):
        attempt = attempts.setdefault(record.attempt, Attempt(record.attempt))
        if record.values.get("event") in ("started", "resumed"):
            attempt.started = attempt.started or record.values.get("time")
            attempt.resume_step = attempt.resume_step if record.step is None else record.step
    return attempts


def read_steps(path: Path) -> Iterator[tuple[int, int]]:
    """Attempt and step of each row of metrics: a tenth of the time of reading the values too."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            found = _ROW_START.match(line)
            if found is not None and line.endswith(b"}\n"):
                attempt, step = int(found[1]), int(found[2])
                if attempt <= MAX_ATTEMPT and step <= MAX_STEP:
                    yield attempt, step


def count_row(attempts: dict[int, Attempt], number: int, step: int) -> None:
    """Take a row of metrics into its attempt's account; infers the resume step where no event told it."""
    attempt = attempts.get(number) or attempts.setdefault(number, Attempt(number))
    if attempt.resume_step is None:
        attempt.resume_step = step - 1 if number else 0
    attempt.last_step = step if attempt.last_step is None else max(attempt.last_step, step)
    attempt.rows += 1


def valid_until(attempts: dict[int, Attempt]) -> dict[int, int]:
    """The last step of each attempt that still counts; an attempt that nothing cut short is absent."""
    limits: dict[int, int] = {}
    limit: int | None = None
    for number in sorted(attempts, reverse=True):
        if limit is not None:
            limits[number] = limit
        resumed = attempts[number].resume_step
        if number > 0 and resumed is not None:
            limit = resumed if limit is None else min(limit, resumed)
    return limits


def merge_row(rows: dict[tuple[int, str], dict[str, Any]], row: dict[str, Any]) -> None:
    """Put ``row`` at its step and kind: a newer attempt replaces, the same attempt adds, an older one is dropped."""
    key = (row["step"], row.get("kind", ""))
    known = rows.get(key)
    if known is None or known["attempt"] < row["attempt"]:
        rows[key] = row
    elif known["attempt"] == row["attempt"]:
        known.update(row)

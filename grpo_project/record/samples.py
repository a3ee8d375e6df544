"""Every training completion with its verdict, reward and advantage, below ``samples/``.

A step's rows are one line of a growing file (``aNNN_NNNNNN.jsonl``), written before training goes on: they survive
SIGKILL. A file that is full, or left behind by an earlier attempt, is sealed into a Parquet shard of the same name and
then removed. A kill in between leaves both, and the shard counts.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from grpo_project.errors import JournalError
from grpo_project.record.durable import TEMPORARY, AppendFile, Reserve
from grpo_project.record.shards import (
    DAMAGED,
    JUDGED_COMPLETION,
    UNREADABLE,
    count_rows,
    read_rows,
    set_aside,
    to_table,
    write_shard,
)

logger = logging.getLogger("grpo_project")

FOLDER = "samples"
REWARDS = pa.map_(pa.string(), pa.float64())
"""Each reward function's value by its name, without weights. Null where an older version wrote the file."""
SCHEMA = pa.schema([*JUDGED_COMPLETION, ("reward", pa.float64()), ("rewards", REWARDS), ("advantage", pa.float64())])
SHARD_ROWS = 1024  # a tenth of a second to seal; four times as many make files 3% smaller
SHARD_BYTES = 32 * 2**20  # of JSON: bounds the memory that sealing takes
NAME = re.compile(r"a(\d+)_(\d+)\.(jsonl|parquet)")


class SampleStore:
    """Appends the completions of one attempt. One process writes a run directory at a time.

    Args:
        output_dir: the run directory.
        attempt: which process start this is.
        keep: rows that stay on disk, newest first; 0 keeps all. Whole shards are removed, so up to an eighth more
            stays, or ``SHARD_ROWS``, whichever is less.

    Raises:
        JournalError: the folder can't be written.
    """

    def __init__(self, output_dir: str | os.PathLike[str], attempt: int, *, keep: int = 0) -> None:
        self.folder = Path(output_dir) / FOLDER
        self.attempt = attempt
        self.keep = keep
        self.shard_rows = min(SHARD_ROWS, max(1, keep // 8)) if keep else SHARD_ROWS
        self._reserve = Reserve(Path(output_dir))
        self._tail: AppendFile | None = None
        self._tail_rows = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(f"*{TEMPORARY}"):
                leftover.unlink()
        except OSError as error:
            raise JournalError(f"can't write {self.folder}: {error}") from error
        self._number = 1 + max((n for a, n in map(_key, _every_file(self.folder)) if a == attempt), default=-1)
        self._sealed: dict[Path, int] = {}
        for shard in _files(self.folder, "parquet"):
            self._count(shard)
        for tail in _files(self.folder, "jsonl"):
            self._seal(tail)
        self._drop_oldest()

    def append(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add completions generated for ``step`` (the optimizer step that trains on them first).

        Rows have the columns of ``SCHEMA`` without ``attempt`` and ``step``.

        Raises:
            JournalError: the disk refused them; ``DiskFullError`` for want of room.
            ValueError: a row with an unknown column.
        """
        full = [{"attempt": self.attempt, "step": step, **row} for row in rows]
        unknown = {name for row in full for name in row} - set(SCHEMA.names)
        if unknown:
            raise ValueError(f"unknown columns {sorted(unknown)}; a row has {SCHEMA.names}")
        tail = self._open_tail()
        line = json.dumps(full, separators=(",", ":")).encode("ascii") + b"\n"
        tail.append(line)
        self._tail_rows += len(full)
        if self._tail_rows >= self.shard_rows or tail.size >= SHARD_BYTES:
            self._close_tail()

    def close(self) -> None:
        """Seal what is open. Closing twice is fine."""
        if self._tail is not None:
            self._close_tail()

    def __enter__(self) -> SampleStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open_tail(self) -> AppendFile:
        if self._tail is None:
            path = self.folder / f"a{self.attempt:03d}_{self._number:06d}.jsonl"
            try:
                self._tail = AppendFile(path, self._reserve, new=True)
            except OSError as error:
                raise JournalError(f"can't write {path}: {error}") from error
            self._number += 1
        return self._tail

    def _close_tail(self) -> None:
        assert self._tail is not None
        self._tail.close()
        path = self._tail.path
        self._tail, self._tail_rows = None, 0
        self._seal(path)
        self._drop_oldest()

    def _seal(self, tail: Path) -> None:
        """Turn a finished tail into a shard; a tail whose shard is there already, or that is empty, just goes.

        Nothing is lost where that fails: the rows are in the tail, and the next start tries again.
        """
        shard = tail.with_suffix(".parquet")
        try:
            if shard not in self._sealed:
                table, fault = _tail_table(tail)
                if len(table):
                    write_shard(shard, table)
                    self._count(shard)
                if fault is not None:
                    set_aside(tail, fault)
                    return
            tail.unlink()
        except (OSError, JournalError) as error:
            logger.warning("%s is not made into a shard yet: %s", tail, error)

    def _count(self, shard: Path) -> None:
        """Take a shard into the account; one that can't be read goes aside, and its tail counts again."""
        try:
            self._sealed[shard] = count_rows(shard)
        except JournalError as error:
            set_aside(shard, str(error))

    def _drop_oldest(self) -> None:
        while self.keep and len(self._sealed) > 1:
            oldest = min(self._sealed, key=_key)
            if sum(self._sealed.values()) - self._sealed[oldest] < self.keep:
                return
            oldest.unlink(missing_ok=True)
            del self._sealed[oldest]


def read_samples(
    output_dir: str | os.PathLike[str],
    only_canonical: bool = True,
    where: pc.Expression | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The completions by step.

    Args:
        only_canonical: without rows that a resume superseded; otherwise those of every attempt.
        where: only rows for which this holds, e.g. ``pyarrow.compute.field("level") == "expert"``. Unneeded shards
            are not loaded.
        columns: only these, beside attempt and step.

    What can't be read is passed over with a warning that names it.
    """
    folder = Path(output_dir) / FOLDER
    shards = _files(folder, "parquet")
    sealed = {path.stem for path in shards}
    tails = []
    for tail in _files(folder, "jsonl"):
        if tail.stem not in sealed:
            table, fault = _tail_table(tail)
            tails.append(table)
            if fault is not None:
                logger.warning("%s can't be read in full: %.200s", tail, fault)
    return read_rows(output_dir, shards, tails, SCHEMA, only_canonical=only_canonical, where=where, columns=columns)


def _tail_table(tail: Path) -> tuple[pa.Table, str | None]:
    """The rows of the whole lines, and why some of them could not be read (None: all could).

    A torn last line is no fault: it is the step that a kill interrupted.
    """
    with tail.open("rb") as file:
        lines = [line for line in file if line.endswith(b"\n") and line.strip()]
    try:
        return to_table((row for line in lines for row in json.loads(line)), SCHEMA), None
    except UNREADABLE:
        tables, fault = [SCHEMA.empty_table()], None
        for number, line in enumerate(lines, start=1):
            try:
                tables.append(to_table(json.loads(line), SCHEMA))
            except UNREADABLE as error:
                fault = fault or f"line {number}: {error!r:.200}"
        return pa.concat_tables(tables), fault


def _every_file(folder: Path) -> list[Path]:
    """Also what was set aside: a number is never given twice."""
    return [
        path for kind in ("jsonl", "parquet") for place in (folder, folder / DAMAGED) for path in _files(place, kind)
    ]


def _files(folder: Path, kind: str) -> list[Path]:
    found = (path for path in folder.glob(f"*.{kind}") if NAME.fullmatch(path.name))
    return sorted(found, key=_key)


def _key(path: Path) -> tuple[int, int]:
    """(attempt, number) of a shard or tail."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2])

"""Every training completion with its verdict, reward and advantage, below ``samples/``.

A step's rows are one line of a growing file (``aNNN_NNNNNN.jsonl``), written before training goes on: they survive
SIGKILL. A file that is full, or left behind by an earlier attempt, is sealed into a Parquet shard of the same name and
then removed. A kill in between leaves both, and the shard counts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from grpo_project.errors import JournalError
from grpo_project.record.shards import JUDGED_COMPLETION, TEMPORARY, count_rows, read_rows, to_table, write_shard

FOLDER = "samples"
SCHEMA = pa.schema([*JUDGED_COMPLETION, ("reward", pa.float64()), ("advantage", pa.float64())])
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
        self._tail: BinaryIO | None = None
        self._tail_rows = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(f"*{TEMPORARY}"):
                leftover.unlink()
        except OSError as error:
            raise JournalError(f"can't write {self.folder}: {error}") from error
        for tail in _files(self.folder, "jsonl"):
            self._seal(tail)
        self._number = 1 + max((n for a, n in map(_key, _files(self.folder, "parquet")) if a == attempt), default=-1)
        self._sealed = {path: count_rows(path) for path in _files(self.folder, "parquet")}
        self._drop_oldest()

    def append(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add completions generated for ``step`` (the optimizer step that trains on them first).

        Rows have the columns of ``SCHEMA`` without ``attempt`` and ``step``.

        Raises:
            JournalError: the disk refused them.
            ValueError: a row with an unknown column.
        """
        full = [{"attempt": self.attempt, "step": step, **row} for row in rows]
        unknown = {name for row in full for name in row} - set(SCHEMA.names)
        if unknown:
            raise ValueError(f"unknown columns {sorted(unknown)}; a row has {SCHEMA.names}")
        tail = self._open_tail()
        line = json.dumps(full, separators=(",", ":")).encode("ascii") + b"\n"
        try:
            written = tail.write(line)
        except OSError as error:
            raise JournalError(f"can't write {tail.name}: {error}") from error
        if written != len(line):
            raise JournalError(f"can't write {tail.name}: only {written} of {len(line)} bytes fitted; disk full?")
        self._tail_rows += len(full)
        if self._tail_rows >= self.shard_rows or tail.tell() >= SHARD_BYTES:
            self._close_tail()

    def close(self) -> None:
        """Seal what is open. Closing twice is fine."""
        if self._tail is not None:
            self._close_tail()

    def __enter__(self) -> SampleStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open_tail(self) -> BinaryIO:
        if self._tail is None:
            path = self.folder / f"a{self.attempt:03d}_{self._number:06d}.jsonl"
            try:
                self._tail = path.open("xb", buffering=0)
            except OSError as error:
                raise JournalError(f"can't write {path}: {error}") from error
            self._number += 1
        return self._tail

    def _close_tail(self) -> None:
        assert self._tail is not None
        self._tail.close()
        path = Path(self._tail.name)
        self._tail, self._tail_rows = None, 0
        shard = self._seal(path)
        if shard is not None:
            self._sealed[shard] = count_rows(shard)
        self._drop_oldest()

    def _seal(self, tail: Path) -> Path | None:
        """Turn a finished tail into a shard; a tail whose shard is there already, or that is empty, just goes."""
        shard = tail.with_suffix(".parquet")
        if not shard.exists() and (rows := list(_tail_rows(tail))):
            write_shard(shard, to_table(rows, SCHEMA))
        tail.unlink()
        return shard if shard.exists() else None

    def _drop_oldest(self) -> None:
        while self.keep and len(self._sealed) > 1:
            oldest = min(self._sealed, key=_key)
            if sum(self._sealed.values()) - self._sealed[oldest] < self.keep:
                return
            oldest.unlink()
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

    Raises:
        JournalError: a shard is damaged.
    """
    folder = Path(output_dir) / FOLDER
    shards = _files(folder, "parquet")
    sealed = {path.stem for path in shards}
    tails = [to_table(_tail_rows(tail), SCHEMA) for tail in _files(folder, "jsonl") if tail.stem not in sealed]
    return read_rows(output_dir, shards, tails, SCHEMA, only_canonical=only_canonical, where=where, columns=columns)


def _tail_rows(tail: Path) -> Iterator[dict[str, Any]]:
    """The rows of the whole lines; a torn last line is the step that a kill interrupted."""
    with tail.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield from json.loads(line)


def _files(folder: Path, kind: str) -> list[Path]:
    found = (path for path in folder.glob(f"*.{kind}") if NAME.fullmatch(path.name))
    return sorted(found, key=_key)


def _key(path: Path) -> tuple[int, int]:
    """(attempt, number) of a shard or tail."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2])

"""Parquet files of judged completions: one row layout, written whole or not at all, read as the journal counts.

Both stores (``samples``, ``evaluations``) name their files by attempt, never overwrite one, and leave it to the reader
to pass over what a resume has superseded.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from grpo_project.errors import JournalError
from grpo_project.record.durable import Reserve, flush, write_atomically
from grpo_project.record.journal import append_event
from grpo_project.record.run_directory import Attempt, RunPaths, read_attempts, valid_until
from grpo_project.verifier.verdict import Status, TestResult, Verdict

TEST_RESULT = pa.struct(
    [(name, pa.string()) for name in ("status", "message", "input", "expected", "got")] + [("cpu_s", pa.float64())]
)

JUDGED_COMPLETION: list[tuple[str, pa.DataType]] = [
    ("attempt", pa.int32()),
    ("step", pa.int64()),
    ("problem_id", pa.string()),
    ("level", pa.string()),
    ("prompt", pa.string()),
    ("completion", pa.string()),
    ("code", pa.string()),
    ("status", pa.string()),
    ("passed", pa.int32()),
    ("total", pa.int32()),
    ("tests", pa.list_(TEST_RESULT)),
    ("message", pa.string()),
    ("weak", pa.bool_()),
    ("cpu_s", pa.float64()),
]
"""The columns that both stores share. Null where an older version wrote a file without the column."""

logger = logging.getLogger("grpo_project")

_TEST_FIELDS = tuple(field.name for field in TEST_RESULT)
_VERDICT_FIELDS = ("code", "status", "passed", "total", "message", "weak", "cpu_s")

DAMAGED = "damaged"
"""The folder, beside the files of a store, of what could not be read."""
UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError),
    pa.ArrowException,
)
"""What reading a damaged Parquet file or line raises: pyarrow has no type of its own for it."""
ZSTD_LEVEL = 6  # within 3% of level 9 in half of its time, measured in benchmarks/bench_evaluation.py


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """The columns that a verdict fills: the one form in which a verdict and its tests are kept on disk."""
    tests = [{name: getattr(test, name) for name in _TEST_FIELDS} for test in verdict.tests]
    columns = {name: getattr(verdict, name) for name in _VERDICT_FIELDS}
    return {**columns, "status": verdict.status.value, "tests": [{**t, "status": t["status"].value} for t in tests]}


def verdict_from_row(row: Mapping[str, Any]) -> Verdict:
    """The verdict that ``verdict_row`` wrote. Which job it was, and how long that waited, is not kept.

    Raises:
        KeyError, ValueError: a row of another shape.
    """
    tests = tuple(TestResult(**{**test, "status": Status(test["status"])}) for test in row["tests"])
    columns = {name: row[name] for name in _VERDICT_FIELDS}
    return Verdict(job_id="", problem_id=row["problem_id"], **{**columns, "status": Status(row["status"])}, tests=tests)


def to_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table; a column that a row lacks is null.

    Raises:
        ValueError: a row has a column that the schema does not know.
    """
    rows = [dict(row) for row in rows]
    unknown = {name for row in rows for name in row} - set(schema.names)
    if unknown:
        raise ValueError(f"unknown columns {sorted(unknown)}; a row has {schema.names}")
    try:
        return pa.Table.from_pylist(rows, schema=schema)
    except UnicodeEncodeError:  # rare, and looking at every text beforehand would double the cost of a shard
        return pa.Table.from_pylist([_storable(row) for row in rows], schema=schema)


def write_shard(path: Path, table: pa.Table, reserve: Reserve | None = None) -> None:
    """Write ``path`` so that it is there in full, on the disk itself, or not at all.

    Args:
        reserve: where to take room from on a full disk.

    Raises:
        JournalError: the file exists already, or the disk refused it; ``DiskFullError`` for want of room.
    """
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd", compression_level=ZSTD_LEVEL)
    try:
        if path.exists():
            raise JournalError(f"{path} exists already; a shard is never overwritten")
        write_atomically(path, content.getvalue().to_pybytes(), reserve=reserve)
        flush(path.parent)
    except OSError as error:
        raise JournalError(f"can't write {path}: {error}") from error


def count_rows(path: Path) -> int:
    """How many rows a shard holds. Raises ``JournalError`` if it can't be read."""
    try:
        return pq.read_metadata(path).num_rows
    except UNREADABLE as error:
        raise JournalError(f"can't read {path}: {error}") from error


def set_aside(path: Path, reason: str) -> None:
    """Move a piece that can't be read into ``damaged/`` beside it, where no reader looks, and say so.

    What is kept here is for people: it must never keep a run from going on. The move is an event of the run's journal.
    """
    output_dir, kept = path.parent.parent, _free_name(path.parent / DAMAGED / path.name)
    try:
        kept.parent.mkdir(exist_ok=True)
        path.rename(kept)
        logger.warning("%s can't be read (%.200s); it was set aside as %s", path, reason, kept)
        if RunPaths(output_dir).journal.is_dir():
            attempt = max(read_attempts(RunPaths(output_dir).events), default=0)
            names = {"file": str(path.relative_to(output_dir)), "kept_as": str(kept.relative_to(output_dir))}
            append_event(output_dir, attempt, "record_set_aside", **names, reason=reason)
    except (OSError, JournalError) as error:
        logger.warning("%s can't be read (%.200s), nor set aside (%s)", path, reason, error)


def _free_name(path: Path) -> Path:
    """``path``, or with a number behind it where an earlier piece has the name."""
    names = (path.with_name(path.name + f".{number}" * bool(number)) for number in itertools.count())
    return next(name for name in names if not name.exists())


def read_rows(
    output_dir: str | os.PathLike[str],
    shards: Iterable[Path],
    unsealed: Iterable[pa.Table],
    schema: pa.Schema,
    *,
    only_canonical: bool,
    where: pc.Expression | None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """All rows for which ``where`` holds, by step; those of one step in the order in which they were written.

    ``columns`` beside attempt and step: only these are loaded, and ``where`` can speak of them alone.

    A shard that can't be read is passed over with a warning that names it.

    Raises:
        ValueError: ``where`` speaks of a column that is not there.
    """
    shards, unsealed = list(shards), list(unsealed)
    if columns is not None:
        schema = pa.schema([field for field in schema if field.name in {"attempt", "step", *columns}])
        unsealed = [table.select(schema.names) for table in unsealed]
    if where is not None:
        schema.empty_table().filter(where)  # a column that is not there is a mistake, not damage of every shard
    key_columns = pa.schema([schema.field("attempt"), schema.field("step")])
    kept = [schema.empty_table(), *(table if where is None else table.filter(where) for table in unsealed)]
    keys = [key_columns.empty_table(), *(table.select(key_columns.names) for table in unsealed)]
    for path in shards:
        try:
            found, keys_there = _read(path, schema, where), _read(path, key_columns)
        except UNREADABLE as error:
            logger.warning("%s can't be read and is passed over: %.200s", path, error)
        else:
            kept.append(found)
            keys.append(keys_there)
    table = pa.concat_tables(kept)
    if only_canonical:
        table = _canonical(table, pa.concat_tables(keys), output_dir)
    row = pa.array(range(len(table)), pa.int64())
    order = [("step", "ascending"), ("attempt", "ascending"), ("_row", "ascending")]
    return table.take(pc.sort_indices(table.append_column("_row", row), sort_keys=order))


def _read(path: Path, schema: pa.Schema, where: pc.Expression | None = None) -> pa.Table:
    """Rows without an attempt and a step are nobody's. Raises what is in ``UNREADABLE`` for a damaged file."""
    table = pq.read_table(path, schema=schema, filters=where)
    table.validate(full=True)
    return table.filter(pc.field("attempt").is_valid() & pc.field("step").is_valid())


def _canonical(table: pa.Table, keys: pa.Table, output_dir: str | os.PathLike[str]) -> pa.Table:
    """Without the rows that a resume superseded: they lie beyond the step that a later attempt went on from.

    Which step that is the journal's events tell; for a folder without a journal it is inferred from the rows. ``keys``
    are attempt and step of every row, whether selected or not.
    """
    attempts = read_attempts(RunPaths(Path(output_dir)).events)
    for first in keys.group_by("attempt").aggregate([("step", "min")]).to_pylist():
        attempt = attempts.setdefault(first["attempt"], Attempt(first["attempt"]))
        if attempt.resume_step is None:
            attempt.resume_step = first["step_min"] - 1 if attempt.number else 0
    limits = valid_until(attempts)
    winner: dict[int, int] = {}
    for key in keys.group_by(["step", "attempt"]).aggregate([]).to_pylist():
        step, number = key["step"], key["attempt"]
        if step <= limits.get(number, step):
            winner[step] = max(winner.get(step, -1), number)
    pairs = zip(table["step"].to_pylist(), table["attempt"].to_pylist(), strict=True)
    return table.filter(pa.array([winner.get(step) == number for step, number in pairs], pa.bool_()))


def _storable(value: Any) -> Any:
    """Lone surrogates, which a program's output may hold, have no UTF-8; they are kept as escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {name: _storable(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [_storable(item) for item in value]
    return value

"""Every evaluated problem with its completions, code and per-test results, below ``evaluations/``.

One Parquet file for each evaluation (``step_NNNNNNNN_aNNN.parquet``), written whole after the evaluation and never
overwritten: an evaluation that was killed leaves nothing, and the resumed run does it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from grpo_project.errors import JournalError
from grpo_project.record.durable import TEMPORARY, Reserve
from grpo_project.record.shards import (
    JUDGED_COMPLETION,
    read_rows,
    to_table,
    verdict_from_row,
    verdict_row,
    write_shard,
)
from grpo_project.verifier.verdict import Verdict

FOLDER = "evaluations"
SCHEMA = pa.schema(
    [
        *JUDGED_COMPLETION,
        ("source", pa.string()),
        ("sample", pa.int32()),
        ("tokens", pa.int32()),
        ("truncated", pa.bool_()),
    ]
)
NAME = re.compile(r"step_(\d+)_a(\d+)\.parquet")


@dataclass(frozen=True, slots=True)
class CompletionRecord:
    """One completion, judged. ``sample`` counts the completions of a problem from 0."""

    problem_id: str
    level: str
    source: str
    sample: int
    prompt: str
    completion: str
    tokens: int
    """Generated tokens, the end token included."""
    truncated: bool
    """The token limit came before the end token."""
    verdict: Verdict

    def to_row(self) -> dict[str, Any]:
        """The row on disk; the store adds step and attempt."""
        columns = {name: getattr(self, name) for name in _OWN_COLUMNS}
        return {**columns, **verdict_row(self.verdict)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> CompletionRecord:
        """The inverse of ``to_row``. Raises ``KeyError`` or ``ValueError`` for a row of another shape."""
        return cls(**{name: row[name] for name in _OWN_COLUMNS}, verdict=verdict_from_row(row))


_OWN_COLUMNS = tuple(field.name for field in fields(CompletionRecord) if field.name != "verdict")


class EvaluationStore:
    """Writes the evaluations of one attempt.

    Args:
        output_dir: the run directory.
        attempt: which process start this is. Default: the one after the newest in the folder.

    Raises:
        JournalError: the folder can't be written.
    """

    def __init__(self, output_dir: str | os.PathLike[str], attempt: int | None = None) -> None:
        self.folder = Path(output_dir) / FOLDER
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(f"*{TEMPORARY}"):
                leftover.unlink()
        except OSError as error:
            raise JournalError(f"can't write {self.folder}: {error}") from error
        newest = max((number for number, _ in map(_key, _files(self.folder))), default=-1)
        self.attempt = newest + 1 if attempt is None else attempt

    def write(self, step: int, records: Iterable[CompletionRecord]) -> Path:
        """Keep one evaluation.

        Raises:
            JournalError: this attempt has evaluated ``step`` already, or the disk refused it (``DiskFullError``: for
                want of room).
        """
        path = self.folder / f"step_{step:08d}_a{self.attempt:03d}.parquet"
        rows = [{"attempt": self.attempt, "step": step, **record.to_row()} for record in records]
        write_shard(path, to_table(rows, SCHEMA), Reserve(self.folder.parent))
        return path


def read_evaluations(
    output_dir: str | os.PathLike[str],
    only_canonical: bool = True,
    where: pc.Expression | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The evaluated completions by step; see ``samples.read_samples`` for the arguments."""
    files = _files(Path(output_dir) / FOLDER)
    return read_rows(output_dir, files, [], SCHEMA, only_canonical=only_canonical, where=where, columns=columns)


def _files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*.parquet") if NAME.fullmatch(path.name)), key=_key)


def _key(path: Path) -> tuple[int, int]:
    """(attempt, step) of a file."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    return int(match[2]), int(match[1])

"""An evaluation on disk: what was asked, each batch as it is judged, and at the end all records and numbers.

    settings.json   what was asked
    completions.jsonl   one line a completion as it ends; those of a batch that a kill cut short are only judged again
    batches.jsonl   one line a batch as it is judged
    evaluations/    every completion as Parquet, once all are there (`grpo samples FOLDER --evaluations` shows them)
    result.json     the metrics, written last

A folder belongs to one question: another model, data set or setting has another name, so nothing is ever mixed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from grpo_project.errors import JournalError
from grpo_project.evaluation.result import EvaluationResult
from grpo_project.record.durable import AppendFile
from grpo_project.record.evaluations import CompletionRecord, EvaluationStore
from grpo_project.record.shards import UNREADABLE

logger = logging.getLogger("grpo_project")


class SavedEvaluation:
    """The folder of one evaluation below ``parent``.

    Args:
        name: for people; the folder's name starts with it.
        settings: everything that decides the outcome, JSON-able.
    """

    def __init__(self, parent: str | os.PathLike[str], name: str, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True, indent=2)
        self.folder = Path(parent) / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "settings.json").write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise JournalError(f"can't write {self.folder}: {error}") from error
        self._completions = self.folder / "completions.jsonl"
        self._batches = self.folder / "batches.jsonl"
        self._result = self.folder / "result.json"

    def finished_batches(self) -> dict[int, list[CompletionRecord]]:
        """The batches that need not be done again; one whose line can't be read is."""

        def read(line: Any) -> tuple[int, list[CompletionRecord]]:
            return int(line["batch"]), [CompletionRecord.from_row(row) for row in line["records"]]

        return dict(_readable(self._batches, read))

    def kept_completions(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Text, tokens and truncated by problem id and sample: what was generated, judged or not."""

        def read(line: Any) -> tuple[tuple[str, int], dict[str, Any]]:
            return (line.pop("problem_id"), line.pop("sample")), line

        return dict(_readable(self._completions, read))

    def append(self, batch: int, records: Sequence[CompletionRecord]) -> None:
        """Keep a judged batch. Raises ``JournalError`` if the disk refuses it."""
        _append(self._batches, {"batch": batch, "records": [record.to_row() for record in records]})

    def keep(self, problem_id: str, sample: int, *, text: str, tokens: int, truncated: bool) -> None:
        """Keep a completion that has ended. Raises ``JournalError`` if the disk refuses it."""
        found = {"problem_id": problem_id, "sample": sample, "text": text, "tokens": tokens, "truncated": truncated}
        _append(self._completions, found)

    @property
    def complete(self) -> bool:
        return self._result.exists()

    def finish(self, result: EvaluationResult) -> None:
        """Write the records and the numbers."""
        if not (self.folder / "evaluations").exists():  # written by a start that was killed before `result.json`
            EvaluationStore(self.folder, attempt=0).write(result.step, result.records)
        text = json.dumps({**result.metrics(), "rates": result.rates}, indent=2)
        self._result.write_text(text + "\n", encoding="utf-8")
        self._completions.unlink(missing_ok=True)  # all of them are judged


T = TypeVar("T")


def _readable(path: Path, read: Callable[[Any], T]) -> list[T]:
    """``read`` of each line of a file; a torn last one is cut off, one that can't be read is passed over and named."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    found = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            found.append(read(json.loads(line)))
        except UNREADABLE as error:
            logger.warning("%s: line %d can't be read (%.100r) and is done again", path, number, error)
    return found


def _append(path: Path, line: Mapping[str, Any]) -> None:
    try:
        file = AppendFile(path)
    except OSError as error:
        raise JournalError(f"can't write {path}: {error}") from error
    try:
        file.append(json.dumps(line).encode("ascii") + b"\n")
    finally:
        file.close()

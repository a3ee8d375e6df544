"""An evaluation on disk: what was asked, each batch as it is judged, and at the end all records and numbers.

    settings.json   what was asked
    batches.jsonl   one line a batch as it is judged; a kill loses at most the running batch
    evaluations/    every completion as Parquet, once all are there (`grpo samples FOLDER --evaluations` shows them)
    result.json     the metrics, written last

A folder belongs to one question: another model, data set or setting has another name, so nothing is ever mixed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_project.errors import JournalError
from grpo_project.evaluation.result import EvaluationResult
from grpo_project.record.evaluations import CompletionRecord, EvaluationStore


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
        self._batches = self.folder / "batches.jsonl"
        self._result = self.folder / "result.json"

    def finished_batches(self) -> dict[int, list[CompletionRecord]]:
        """The batches that need not be done again; a torn last line is cut off."""
        if not self._batches.exists():
            return {}
        content = self._batches.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self._batches, len(whole))
        lines = map(json.loads, whole.splitlines())
        return {line["batch"]: [CompletionRecord.from_row(row) for row in line["records"]] for line in lines}

    def append(self, batch: int, records: Sequence[CompletionRecord]) -> None:
        """Keep a judged batch. Raises ``JournalError`` if the disk refuses it."""
        line = json.dumps({"batch": batch, "records": [record.to_row() for record in records]}) + "\n"
        try:
            with self._batches.open("ab", buffering=0) as file:
                file.write(line.encode("ascii"))
        except OSError as error:
            raise JournalError(f"can't write {self._batches}: {error}") from error

    @property
    def complete(self) -> bool:
        return self._result.exists()

    def finish(self, result: EvaluationResult) -> None:
        """Write the records and the numbers."""
        if not (self.folder / "evaluations").exists():  # written by a start that was killed before `result.json`
            EvaluationStore(self.folder, attempt=0).write(result.step, result.records)
        text = json.dumps({**result.metrics(), "rates": result.rates}, indent=2)
        self._result.write_text(text + "\n", encoding="utf-8")

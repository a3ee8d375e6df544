"""All runs below a folder, one line each: state, step, pass rate, model, data, age."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from grpo_project.errors import UserError
from grpo_project.reports import headline
from grpo_project.reports.run_reader import MAIN, RunReader

DEPTH = 4
"""Folders below the given one that are looked into."""
STATES = {"running": "green", "finished": "green", "killed": "red", "failed": "red", "interrupted": "yellow"}


def find_runs(folder: Path) -> Iterator[Path]:
    """Run directories at or below ``folder``; inside of one no other is looked for."""
    for name, inner, _ in os.walk(folder):
        path = Path(name)
        inner[:] = sorted(i for i in inner if not i.startswith(".") and not i.startswith("checkpoint-"))
        if (path / "journal").is_dir():
            inner.clear()
            yield path
        elif len(path.relative_to(folder).parts) >= DEPTH:
            inner.clear()


def run_rows(folder: Path) -> list[dict[str, Any]]:
    """What ``grpo runs`` tells of each run, as plain values, the newest first; a damaged run has an ``error``."""
    rows = []
    for path in find_runs(folder):
        try:
            rows.append(run_row(RunReader.open(path)))
        except UserError as error:
            rows.append({"folder": str(path), "updated": 0.0, "error": str(error)})
    return sorted(rows, key=lambda row: -row["updated"])


def run_row(reader: RunReader) -> dict[str, Any]:
    last = reader.evaluations[-1] if reader.evaluations else {}
    data = {} if reader.record is None else reader.record.content.get("data", {}).get("train", {})
    return {
        "folder": str(reader.folder),
        "status": reader.status,
        "step": reader.last_step,
        "max_steps": reader.max_steps,
        "pass_rate": last.get(MAIN),
        "low": last.get(f"{MAIN}_low"),
        "high": last.get(f"{MAIN}_high"),
        "model": reader.config.get("run", {}).get("model_name") or ("embedded" if reader.config else None),
        "data": data.get("source"),
        "updated": headline.updated(reader),
    }


def runs_table(rows: list[dict[str, Any]], folder: Path) -> Table:
    """The same for people; runs are named from ``folder`` on."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("run", overflow="fold", min_width=12)
    for heading in ("state", "step", "pass rate", "model", "data", "age"):
        table.add_column(heading, justify="right" if heading in ("step", "age") else "left", no_wrap=True)
    for row in rows:
        name = Text(os.path.relpath(row["folder"], folder))
        if "error" in row:
            table.add_row(name, Text("damaged", style="red"), "", "", Text(row["error"]))
            continue
        table.add_row(name, *(Text(text, style) for text, style in cells(row)))
    return table


def cells(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A run's texts with their styles."""
    yield row["status"], STATES.get(row["status"], "")
    yield f"{row['step']:,}" + (f" / {row['max_steps']:,}" if row["max_steps"] else ""), ""
    rate = "-" if row["pass_rate"] is None else f"{row['pass_rate']:.3f}"
    yield rate if row["low"] is None else f"{rate} [{row['low']:.2f}, {row['high']:.2f}]", ""
    yield Path(row["model"]).name if row["model"] else "-", ""
    yield Path(row["data"]).name if row["data"] else "-", ""
    yield headline.age(max(0.0, time.time() - row["updated"])), ""

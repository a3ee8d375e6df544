"""Rows of tables: Parquet, CSV, and data sets of the Hugging Face hub (``hub:org/name:config@split``)."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from grpo_project.errors import DataError

CONNECT_TIMEOUT_S = 3.0
HUB = "hub:"
PARQUET_MAGIC = b"PAR1"
_HUB_NAME = re.compile(r"hub:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.-]+))?")


def table_rows(source: str) -> Iterator[tuple[int, dict[str, Any]]] | None:
    """``(row number from 1, row)`` of a table, without empty cells; ``None`` where ``source`` is none.

    Raises:
        DataError: it can't be read, or the hub can't be reached.
    """
    if source.startswith(HUB):
        return _numbered(_hub_rows(source))
    path = Path(source)
    if path.suffix.lower() in (".csv", ".tsv") and path.is_file():
        return _numbered(_csv_rows(path))
    return _numbered(_parquet_rows(path)) if _is_parquet(path) else None


def _is_parquet(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) == PARQUET_MAGIC
    except OSError:
        return False  # the reader of files has a message for it


def _numbered(rows: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate((_without_nulls(row) for row in rows), start=1)


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: the Parquet file can't be read ({error}); fetch it again") from error


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    """Cells that hold a JSON list or object are read as such; all else is text, numbers by JSON's rules too."""
    csv.field_size_limit(1 << 28)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: can't be read as CSV in UTF-8 ({error})") from error
    if not rows:
        raise DataError(f"{path}: is empty; the first line names the columns, each other line is a problem")
    if any(None in row for row in rows):
        number = next(i for i, row in enumerate(rows, start=2) if None in row)
        raise DataError(f"{path}: line {number} or so has more cells than the first line; quote cells that hold commas")
    return [{name: _cell(name, value) for name, value in row.items() if value not in (None, "")} for row in rows]


def _cell(name: str, text: str) -> Any:
    if text[:1] in "[{" or name in ("complexity", "time_limit_s", "memory_limit_mb"):
        try:
            return json.loads(text)
        except ValueError:
            return text  # the fields' own checks tell
    return text


def _hub_rows(source: str) -> list[dict[str, Any]]:
    parts = _HUB_NAME.fullmatch(source)
    if parts is None:
        raise DataError(f"{source}: write hub:org/name, hub:org/name:config or hub:org/name@split")
    if importlib.util.find_spec("datasets") is None:
        raise DataError(f"{source}: the package datasets is not installed; pip install datasets")
    if reason := offline_because():  # the local cache may have it; without a network nothing is to be waited for
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    import datasets

    datasets.disable_progress_bars()
    name, split = parts["name"], parts["split"] or "train"
    try:
        return list(datasets.load_dataset(name, parts["config"], split=split))
    except Exception as error:  # the boundary of a foreign library: whatever it raises, the set is not there
        why = reason or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise DataError(
            f"{source}: the data set can't be loaded ({why}); give the path of a file instead (Parquet, JSON, CSV)"
        ) from error


def offline_because() -> str:
    """Why the hub can't be reached from here; empty where it can, or where a proxy hides it."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").lower() in ("1", "on", "yes", "true"):
            return f"{name} is set"
    if any(os.environ.get(name) or os.environ.get(name.lower()) for name in ("HTTPS_PROXY", "ALL_PROXY")):
        return ""
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    host, port = address.hostname or "huggingface.co", address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return f"{host} can't be reached: {error.strerror or error}"
    return ""

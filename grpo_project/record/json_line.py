"""One line of a journal: strict JSON, so that jq, DuckDB and JavaScript read it as well as Python.

JSON has no NaN and no infinities. They are written as the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` (the
mapping of Protocol Buffers' JSON) and read back as floats. numpy and torch scalars are recognised by what they can do,
so that neither library is imported here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells for W&B's table view, for example sample completions. Cells are strings, numbers or None."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __post_init__(self) -> None:
        wrong = next((row for row in self.rows if len(row) != len(self.columns)), None)
        if wrong is not None:
            raise ValueError(f"a table row has {len(wrong)} cells for {len(self.columns)} columns: {list(wrong)!r:.80}")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between bin edges (one edge more than counts), as ``numpy.histogram`` returns them."""

    counts: Sequence[float]
    edges: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"a histogram of {len(self.counts)} counts needs one edge more, not {len(self.edges)}")


def encode(record: Mapping[str, Any]) -> bytes:
    """``record`` as one line, newline included.

    Raises:
        TypeError: a value that JSON can't say; the message names its type.
    """
    try:
        text = json.dumps(record, allow_nan=False, default=plain, separators=(",", ":"))
    except ValueError:  # a NaN or an infinity: rare, so only then is every value looked at
        text = json.dumps(plain(record), allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The inverse of ``encode``.

    Raises:
        ValueError: not a JSON object.
    """
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    if b'"NaN"' in line or b'Infinity"' in line:
        return _restore(record)
    return record


def plain(value: Any) -> Any:
    """``value`` in the types of JSON.

    Raises:
        TypeError: there is no such form.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return _plain_float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Table):
        return {"_type": "table", "columns": list(value.columns), "rows": [plain(row) for row in value.rows]}
    if isinstance(value, Histogram):
        return {"_type": "histogram", "counts": plain(value.counts), "edges": plain(value.edges)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    return _plain_foreign(value)


def _plain_float(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _plain_foreign(value: Any) -> Any:
    """numpy and torch values, and the wandb objects of a script that uses wandb itself."""
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        listed = value.tolist()  # numpy and torch: a Python scalar for a scalar, nested lists for an array
        if not hasattr(listed, "dtype") and not isinstance(listed, complex):
            return plain(listed)
    if type(value).__module__.startswith("wandb."):
        if hasattr(value, "histogram") and hasattr(value, "bins"):
            return plain(Histogram(list(value.histogram), list(value.bins)))
        if hasattr(value, "columns") and hasattr(value, "data"):
            return plain(Table(value.columns, value.data))
    raise TypeError(f"a value of type {type(value).__module__}.{type(value).__qualname__} can't be recorded")


def _restore(value: Any) -> Any:
    if isinstance(value, str):
        return _NON_FINITE.get(value, value)
    if isinstance(value, dict):
        return {key: _restore(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore(item) for item in value]
    return value

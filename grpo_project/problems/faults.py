"""Collects what is wrong with a data file, so that it is told at once and not a row at a time."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from grpo_project.errors import DataError

MAX_SHOWN = 20
ALIKE = 3
"""So many rows with the same fault are one line."""
RIGHT_ROW = (
    '{"id": "add-1", "prompt": "Add a and b.", "entry_point": "add", "tests": [{"args": [1, 2], "expected": 3}]}'
)


class Faults:
    """The faults of one file. Readers set ``row`` (from 1) before they look at a row."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.row: int | None = None
        self._rows: set[int | None] = set()
        self._found: dict[tuple[str | None, str, str], list[int | None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, field: str | None, wrong: str, fix: str) -> None:
        """Record one fault of the present row: which field, what is wrong with it, how to put it right."""
        self._count += 1
        self._rows.add(self.row)
        self._found.setdefault((field, wrong, fix), []).append(self.row)

    def raise_if_any(self) -> None:
        """Raise one ``DataError`` that lists the faults, if there are any; what is wrong with many rows is one line."""
        if not self._count:
            return
        lines = self._lines()
        if len(lines) == 1:
            raise DataError(f"{self.source}: {lines[0]}")
        shown = [f"{self.source}: {self._count} faults in {len(self._rows)} rows, nothing was loaded"]
        shown += [f"  {line}" for line in lines[:MAX_SHOWN]]
        if any(len(rows) >= ALIKE for rows in self._found.values()):
            shown.append(f"  a right row: {RIGHT_ROW} (docs/problem-format.md)")
        if len(lines) > MAX_SHOWN:
            shown.append(f"  ... and {len(lines) - MAX_SHOWN} more")
        raise DataError("\n".join(shown))

    def _lines(self) -> list[str]:
        lines: list[tuple[int, str]] = []
        for (field, wrong, fix), rows in self._found.items():
            part = field and f"field {field}"
            if len(rows) >= ALIKE:
                lines.append((-1, f"{part or 'the row'} in {len(rows):,} rows, first in row {rows[0]}: {wrong}; {fix}"))
                continue
            for row in rows:
                place = ", ".join(found for found in (row and f"row {row}", part) if found)
                lines.append((row or 0, f"{place}: {wrong}; {fix}" if place else f"{wrong}; {fix}"))
        return [line for _, line in sorted(lines, key=lambda entry: entry[0])]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A fix for an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


_JSON_TYPES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def json_type(value: Any) -> str:
    """What a parsed JSON value is called in a message."""
    return _JSON_TYPES.get(type(value), "a number")

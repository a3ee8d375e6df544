"""Collects what is wrong with a data file, so that it is told at once and not a row at a time."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from grpo_project.errors import DataError

MAX_SHOWN = 20


class Faults:
    """The faults of one file. Readers set ``row`` (from 1) before they look at a row."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.row: int | None = None
        self._rows: set[int | None] = set()
        self._messages: list[str] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, field: str | None, wrong: str, fix: str) -> None:
        """Record one fault of the present row: which field, what is wrong with it, how to put it right."""
        self._count += 1
        self._rows.add(self.row)
        if len(self._messages) < MAX_SHOWN:
            place = ", ".join(part for part in (self.row and f"row {self.row}", field and f"field {field}") if part)
            self._messages.append(f"{place}: {wrong}; {fix}" if place else f"{wrong}; {fix}")

    def raise_if_any(self) -> None:
        """Raise one ``DataError`` that lists the faults, if there are any."""
        if not self._count:
            return
        if self._count == 1:
            raise DataError(f"{self.source}: {self._messages[0]}")
        lines = [f"{self.source}: {self._count} faults in {len(self._rows)} rows, nothing was loaded"]
        lines += [f"  {message}" for message in self._messages]
        if self._count > MAX_SHOWN:
            lines.append(f"  ... and {self._count - MAX_SHOWN} more")
        raise DataError("\n".join(lines))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A fix for an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


_JSON_TYPES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def json_type(value: Any) -> str:
    """What a parsed JSON value is called in a message."""
    return _JSON_TYPES.get(type(value), "a number")

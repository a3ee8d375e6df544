"""Makes a foreign row native where nothing has to be guessed: names of columns, ids, forms of tests, other columns."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from typing import Any

from grpo_project.errors import ConfigError
from grpo_project.problems.faults import Faults

LONGEST_TAG = 60
NEAR = 0.8


def parse_columns(text: str | None) -> dict[str, str]:
    """``prompt=question,tests=cases`` -> the native field of each column: ``{"question": "prompt", ...}``.

    Raises:
        ConfigError: it is not written like that.
    """
    if not text:
        return {}
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(field.strip() and equals and column.strip() for field, equals, column in pairs):
        raise ConfigError(
            f"--dataset_columns {text}: write FIELD=COLUMN pairs, such as prompt=question,tests=test_cases"
        )
    return {column.strip(): field.strip() for field, _, column in pairs}


def renamed(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row with its columns under their native names; a column that already has the name gives way."""
    taken = {field for column, field in columns.items() if column in row}
    kept = {name: value for name, value in row.items() if name not in columns and name not in taken}
    return kept | {field: row[column] for column, field in columns.items() if column in row}


def nativelike(row: dict[str, Any], number: int) -> dict[str, Any]:
    """The row with an id (its number, where it has none) and with tests as objects (asserts may be plain texts)."""
    identity = row.get("id")
    if identity is None or (isinstance(identity, int) and not isinstance(identity, bool)):
        row = row | {"id": f"row-{number}" if identity is None else str(identity)}
    tests = row.get("tests")
    if isinstance(tests, str):
        try:
            tests = json.loads(tests)
        except ValueError:
            tests = [tests]
    if isinstance(tests, list):
        row = row | {"tests": [_test(test) for test in tests]}
    return row


def _test(test: Any) -> Any:
    if not isinstance(test, str):
        return test
    return {"check": test} if "def check(" in test else {"assert": test}


def with_tags(row: dict[str, Any], fields: Collection[str], faults: Faults) -> dict[str, Any]:
    """The row without columns that the format does not know: short values become tags (``source:leetcode``).

    What looks like a field that is misspelt, and lacks, is a fault.
    """
    tags: list[str] = []
    for name in sorted(row.keys() - fields):
        near = difflib.get_close_matches(name, fields, n=1, cutoff=NEAR)
        if near and near[0] not in row:
            faults.add(name, "is not a field of this format", f"did you mean {near[0]!r}?")
        elif isinstance(row[name], str | int | float) and 0 < len(str(row[name])) <= LONGEST_TAG:
            tags.append(f"{name}:{row[name]}".replace("\n", " "))
    known = {name: value for name, value in row.items() if name in fields}
    if tags and (known.get("tags") is None or isinstance(known["tags"], list)):
        known["tags"] = [*(known.get("tags") or []), *tags]
    return known

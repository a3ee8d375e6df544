"""Completions that pass for reasons which may not be the problem's: what a person should look at first.

Signs, not proofs. A program that holds several of its tests' own values has perhaps learned the tests; one that is far
shorter than all others which solve its problem has perhaps found a gap in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from grpo_project.verifier.verdict import Status

MIN_LITERALS = 2
"""Expected values of different tests that a program must hold."""
MIN_COMPARED = 4
MUCH_SHORTER = 0.4
MAX_SUSPECTS = 12
TRIVIAL = re.compile(r"-?\d|True|False|None|''|\"\"|\[\]|\{\}|\(\)|-?\d\.0")
"""Values that turn up in any program."""

Row = Mapping[str, Any]


def find_suspects(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Solved completions with a sign, the strongest first: ``{"index": of the completion, "signs": [...]}``."""
    rows = list(rows)
    lengths: dict[str, list[int]] = {}
    for row in rows:
        if row["status"] == Status.PASSED and row["code"]:
            lengths.setdefault(row["problem_id"], []).append(len(row["code"]))
    found: list[tuple[int, dict[str, Any]]] = []
    seen = set()
    for index, row in enumerate(rows):
        if row["status"] != Status.PASSED or not row["code"] or (row["problem_id"], row["code"]) in seen:
            continue
        seen.add((row["problem_id"], row["code"]))
        literals = literals_of_tests(row)
        signs = []
        if len(literals) >= MIN_LITERALS:
            signs.append(f"holds what {len(literals)} of its tests expect: {', '.join(literals[:3])}")
        others, usual = lengths[row["problem_id"]], median(lengths[row["problem_id"]])
        if len(others) >= MIN_COMPARED and len(row["code"]) < MUCH_SHORTER * usual:
            signs.append(f"{len(row['code'])} characters, where programs that solve this problem have {usual:.0f}")
        if signs:
            found.append((len(literals) + len(signs), {"index": index, "signs": signs}))
    found.sort(key=lambda suspect: -suspect[0])
    return [suspect for _, suspect in found[:MAX_SUSPECTS]]


def literals_of_tests(row: Row) -> list[str]:
    """Expected values of the tests that stand in the code as they are, and not in the prompt.

    Text is searched, nothing is parsed: a model's program must not be able to harm whoever looks at it.
    """
    expected = {test["expected"] for test in row["tests"] or () if test["expected"]}
    candidates = (value for value in expected if len(value) > 1 and not TRIVIAL.fullmatch(value))
    return sorted(value for value in candidates if stands_in(value, row["code"]) and value not in row["prompt"])


def stands_in(value: str, code: str) -> bool:
    """Whether ``value`` is in ``code`` by itself, not as a part of a longer number or name."""
    start = code.find(value)
    while start >= 0:
        before, after = code[start - 1 : start], code[start + len(value) : start + len(value) + 1]
        if not (before.isalnum() or before in ("_", ".")) and not (after.isalnum() or after in ("_", ".")):
            return True
        start = code.find(value, start + 1)
    return False

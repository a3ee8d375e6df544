"""What the training completions say as a whole: which groups teach, how completions fail, which look too good.

A long run has millions of completions and gigabytes of text. Counts are taken over all of them from small columns;
what needs messages or code looks at the steps since the last evaluations and at some before (``read_closely``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from grpo_project.record.samples import SCHEMA, read_samples
from grpo_project.reports.curves import Columns, bucket_means
from grpo_project.verifier.verdict import Status

SMALL = tuple(
    name for name in ("problem_id", "level", "status", "passed", "total", "reward", "weak") if name in SCHEMA.names
)
CLOSE_STEPS = 120
"""Steps whose completions are read with text; those before the last two evaluations are chosen evenly."""
LOADING = "loading the program: "
MAX_KINDS = 40
MIN_LITERALS = 2
"""Expected values of different tests that a program must hold."""
MIN_COMPARED = 4
MUCH_SHORTER = 0.4
MAX_SUSPECTS = 12
TRIVIAL = re.compile(r"-?\d|True|False|None|''|\"\"|\[\]|\{\}|\(\)|-?\d\.0")
"""Values that turn up in any program."""

Row = Mapping[str, Any]


def read_small(folder: Path) -> pa.Table:
    """The counting completions of a run without their texts; empty where there are none."""
    return read_samples(folder, columns=SMALL)


def groups_by_outcome(table: pa.Table) -> Columns:
    """Shares of each step's groups: ``solved`` by every completion, ``mixed``, ``hopeless`` (solved by none)."""
    if not len(table):
        return {}
    solved = pc.equal(table["passed"], table["total"]).cast(pa.int8())
    groups = table.select(["step", "problem_id"]).append_column("solved", solved)
    groups = groups.group_by(["step", "problem_id"]).aggregate([("solved", "min"), ("solved", "max")])
    counts: dict[int, Counter[str]] = {}
    for step, worst, best in zip(*(groups[n].to_pylist() for n in ("step", "solved_min", "solved_max")), strict=True):
        counts.setdefault(step, Counter())["solved" if worst else "mixed" if best else "hopeless"] += 1
    return shares(counts, ("solved", "mixed", "hopeless"))


def outcomes(table: pa.Table) -> Columns:
    """Shares of each step's completions by status."""
    found = table.group_by(["step", "status"]).aggregate([("status", "count")])
    counts: dict[int, Counter[str]] = {}
    for step, status, n in zip(*(found[c].to_pylist() for c in ("step", "status", "status_count")), strict=True):
        counts.setdefault(step, Counter())[status] = n
    seen = {status for counter in counts.values() for status in counter}
    return shares(counts, [status.value for status in Status if status.value in seen])


def shares(counts: Mapping[int, Counter[str]], names: Iterable[str]) -> Columns:
    names = list(names)
    rows: list[dict[str, float]] = []
    for step, counter in sorted(counts.items()):
        total = counter.total()
        rows.append({"step": step, **{name: counter[name] / total for name in names}})
    columns = bucket_means(rows, names)
    return {name: [round(value, 4) for value in column] for name, column in columns.items()}


def weak_share(table: pa.Table) -> float | None:
    """Share of completions whose verdict had to be reached inside their own process; ``None`` if it isn't recorded."""
    if "weak" not in table.column_names or not (known := table["weak"].drop_null()):
        return None
    return pc.mean(known.cast(pa.float64())).as_py()


def close_steps(table: pa.Table, evaluated: list[int]) -> list[int]:
    """Steps to look at closely: the newest, back to before the last evaluation but one, and some of those before."""
    steps = sorted(set(table["step"].to_pylist()))
    since = evaluated[-3] if len(evaluated) > 2 else -1
    recent = [step for step in steps if step > since][-CLOSE_STEPS * 2 // 3 :]
    early = [step for step in steps if not recent or step < recent[0]]
    wanted = CLOSE_STEPS - len(recent)
    if len(early) > wanted:
        early = [early[len(early) * i // wanted] for i in range(wanted)]
    return early + recent


def read_closely(folder: Path, steps: list[int]) -> list[dict[str, Any]]:
    """The completions of these steps with everything that was kept of them."""
    return read_samples(folder, where=pc.field("step").isin(steps)).to_pylist() if steps else []


def failure_kinds(rows: Iterable[Row], since: int) -> list[dict[str, Any]]:
    """Kinds of failure with their shares of the completions up to the step ``since`` and after it, with an example.

    The most frequent first; a kind that is only found after ``since`` is ``new``.
    """
    found: dict[str, dict[str, Any]] = {}
    totals = Counter[bool]()
    for row in rows:
        late = row["step"] > since
        totals[late] += 1
        if (kind := failure_kind(row)) is None:
            continue
        entry = found.setdefault(
            kind, {"kind": kind, "before": 0, "after": 0, "first_step": row["step"], "example": ""}
        )
        entry["after" if late else "before"] += 1
        entry["example"] = entry["example"] or message_of(row)[:200]
    for entry in found.values():
        entry["new"] = bool(totals[False]) and not entry["before"]
        entry["before_share"] = entry["before"] / totals[False] if totals[False] else None
        entry["after_share"] = entry["after"] / totals[True] if totals[True] else None
    return sorted(found.values(), key=lambda entry: -(entry["before"] + entry["after"]))[:MAX_KINDS]


def failure_kind(row: Row) -> str | None:
    """``wrong answer``, the exception's name, ``no code`` ...; ``None`` for a completion that passed."""
    status = row["status"]
    if status == Status.PASSED:
        return None
    if status == Status.FAILED:
        return "some tests wrong" if row["passed"] else "all tests wrong"
    if status != Status.ERROR:
        return str(status).replace("_", " ")
    named = re.match(rf"(?:{LOADING})?([A-Za-z_][\w.]*)", message_of(row))
    return named[1] if named else "error"


def message_of(row: Row) -> str:
    """The message of the first test that did not pass."""
    failing = (test for test in row["tests"] or () if test["status"] != Status.PASSED)
    return next((test["message"] or "" for test in failing), "")


def find_suspects(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Solved completions with a sign, the strongest first: ``{"index": of the completion, "signs": [...]}``.

    Signs, not proofs. A program that has several of its tests' own values in it has perhaps learned the tests; one that
    is far shorter than all others which solve its problem has perhaps found a gap in them.
    """
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

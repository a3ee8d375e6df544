"""Groups of completions to look at side by side: which ones, and what is shown of each.

A group is what GRPO compares: the completions of one problem drawn at one step. The page can't hold all of a run, so a
few of each sort are chosen; ``CHOICE`` says which in words, and the page repeats it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from grpo_project.record.run_record import RunRecord
from grpo_project.record.samples import read_samples
from grpo_project.verifier.verdict import Status

PER_SORT = 6
MAX_BYTES = 600_000
"""Of all chosen groups' texts together."""
MAX_TEXT = 6_000
"""Characters of one prompt or program."""
MAX_CELL = 400
"""Characters of a test's input, expected and got."""
CHOICE = (
    f"Up to {PER_SORT} groups of each sort: the newest; mixed ones with the widest spread of rewards; hopeless ones; "
    "solved ones; and all with a suspect. Of the steps that were read closely, the newest first."
)

Row = Mapping[str, Any]
Group = list[Row]


def split_into_groups(rows: Iterable[Row], size: int | None) -> list[Group]:
    """Completions by group, in the order of writing. ``size``: completions of a group, if it is known."""
    groups: list[Group] = []
    for row in rows:
        last = groups[-1] if groups else None
        same = last is not None and (last[0]["step"], last[0]["problem_id"]) == (row["step"], row["problem_id"])
        if last is not None and same and (size is None or len(last) < size):
            last.append(row)
        else:
            groups.append([row])
    return groups


def groups_of(folder: Path, steps: Sequence[int]) -> dict[tuple[int, str], list[Group]]:
    """The whole groups of these steps, by step and problem."""
    rows = read_samples(folder, where=pc.field("step").isin(sorted(set(steps)))).to_pylist()
    found: dict[tuple[int, str], list[Group]] = {}
    for group in split_into_groups(rows, group_size(folder)):
        found.setdefault((group[0]["step"], group[0]["problem_id"]), []).append(group)
    return found


def group_size(folder: Path) -> int | None:
    """Completions of a group as run.json tells it."""
    record = RunRecord.read(folder)
    return None if record is None else record.content["config"].get("grpo", {}).get("num_generations")


def sort_of(group: Group) -> str:
    solved = sum(row["status"] == Status.PASSED for row in group)
    return "solved" if solved == len(group) else "mixed" if solved else "hopeless"


def choose(groups: Sequence[Group], suspicious: set[int]) -> list[int]:
    """Indices of the groups to show, by step."""
    newest_first = range(len(groups) - 1, -1, -1)
    last_step = groups[-1][0]["step"] if groups else None
    chosen = set(suspicious)
    chosen.update([i for i in newest_first if groups[i][0]["step"] == last_step][:PER_SORT])
    mixed = [i for i in newest_first if sort_of(groups[i]) == "mixed"]
    chosen.update(sorted(mixed, key=lambda i: -spread(groups[i]))[:PER_SORT])  # stable: of equal ones the newest
    for sort in ("hopeless", "solved"):
        chosen.update([i for i in newest_first if sort_of(groups[i]) == sort][:PER_SORT])
    return sorted(chosen)


def spread(group: Group) -> float:
    rewards = [row["reward"] for row in group if row.get("reward") is not None]
    return max(rewards) - min(rewards) if rewards else 0.0


def show_groups(groups: Sequence[Group], chosen: Sequence[int], signs: Mapping[int, list[str]]) -> list[dict[str, Any]]:
    """The chosen groups as the page takes them, newest first, as many as ``MAX_BYTES`` allow.

    ``signs``: what is suspicious, by the identity (``id``) of a row.
    """
    shown: list[dict[str, Any]] = []
    room = MAX_BYTES
    for index in reversed(chosen):
        group = groups[index]
        entry = {
            "step": group[0]["step"],
            "problem": group[0]["problem_id"],
            "level": group[0]["level"],
            "sort": sort_of(group),
            "prompt": clipped(group[0]["prompt"]),
            "completions": [show_completion(row, last_solved(groups[:index], row), signs) for row in group],
        }
        room -= len(repr(entry))
        if room < 0 and shown:
            break
        shown.append(entry)
    return shown


def show_completion(row: Row, earlier: Row | None, signs: Mapping[int, list[str]]) -> dict[str, Any]:
    """One completion: numbers, code, every test's outcome, the first failing test, the change since it was solved."""
    tests = row["tests"] or []
    failing = next((test for test in tests if test["status"] != Status.PASSED), None)
    names = ("status", "message", "input", "expected", "got")
    return {
        "reward": row.get("reward"),
        "advantage": row.get("advantage"),
        "status": row["status"],
        "passed": row["passed"],
        "total": row["total"],
        "truncated": row.get("truncated"),
        "code": clipped(row["code"] if row["code"] is not None else row["completion"]),
        "is_code": row["code"] is not None,
        "tests": [test["status"] for test in tests],
        "inputs": [clipped(test["input"], 80) for test in tests],
        "failing": None if failing is None else {name: clipped(failing[name], MAX_CELL) for name in names},
        "signs": signs.get(id(row), []),
        "difference": None if earlier is None else difference(earlier, row),
        "solved_at": None if earlier is None else earlier["step"],
    }


def last_solved(before: Sequence[Group], row: Row) -> Row | None:
    """The newest completion before this group that solved the same problem, for one that does not."""
    if row["status"] == Status.PASSED:
        return None
    for group in reversed(before):
        if group[0]["problem_id"] == row["problem_id"] and group[0]["step"] < row["step"]:
            for other in group:
                if other["status"] == Status.PASSED:
                    return other
    return None


def difference(before: Row, after: Row) -> str:
    """A unified diff from one completion's code to another's."""
    old, new = ((row["code"] or row["completion"]).splitlines() for row in (before, after))
    lines = difflib.unified_diff(old, new, f"step {before['step']}", f"step {after['step']}", lineterm="", n=2)
    return clipped("\n".join(lines) or "(the same code)")


def clipped(text: str | None, limit: int = MAX_TEXT) -> str:
    """The beginning of a text, with a note of how much is left out."""
    text = text or ""
    return text if len(text) <= limit else f"{text[:limit]} ... ({len(text) - limit:,} more characters)"

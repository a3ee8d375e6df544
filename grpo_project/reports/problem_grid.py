"""Every evaluated problem by time: pass rates as a grid, and what the model wrote for each at first and at last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from grpo_project.problems.problem import LEVELS
from grpo_project.record.evaluations import read_evaluations
from grpo_project.reports.groups import difference, show_completion

MAX_PROBLEMS = 250
MAX_EVALUATIONS = 80
MAX_BYTES = 500_000
"""Of the texts of all problems together."""


def problem_grid(folder: Path) -> dict[str, Any] | None:
    """Pass rates of each problem (rows, by level and id) at each evaluated step (columns); ``None`` without any.

    Of more than ``MAX_EVALUATIONS`` some are left out evenly, never the first and the last; of more than
    ``MAX_PROBLEMS`` the same share of each level. ``left_out`` says how many.
    """
    table = read_evaluations(folder, columns=("problem_id", "level", "passed", "total"))
    if not len(table):
        return None
    rate = pc.divide(table["passed"].cast(pa.float64()), table["total"].cast(pa.float64()))
    table = table.select(["step", "problem_id", "level"]).append_column("rate", rate)
    means = table.group_by(["step", "problem_id", "level"]).aggregate([("rate", "mean")])
    levels = dict(zip(means["problem_id"].to_pylist(), means["level"].to_pylist(), strict=True))
    problems = evenly(sorted(levels, key=lambda name: (level_order(levels[name]), name)), MAX_PROBLEMS)
    all_steps = sorted(set(means["step"].to_pylist()))
    steps = evenly(all_steps, MAX_EVALUATIONS)
    row_of, column_of = ({name: i for i, name in enumerate(names)} for names in (problems, steps))
    cells = [
        [column_of[step], row_of[problem], round(value, 3)]
        for step, problem, value in zip(
            *(means[n].to_pylist() for n in ("step", "problem_id", "rate_mean")), strict=True
        )
        if step in column_of and problem in row_of
    ]
    return {
        "steps": steps,
        "problems": problems,
        "levels": [levels[name] for name in problems],
        "cells": cells,
        "left_out": {"problems": len(levels) - len(problems), "evaluations": len(all_steps) - len(steps)},
        "details": details(folder, problems, all_steps[0], all_steps[-1]),
    }


def details(folder: Path, problems: list[str], first: int, last: int) -> dict[str, Any]:
    """By problem: the prompt, and its first completion at the first and at the last evaluation, as room allows."""
    wanted = pc.field("step").isin([first, last]) & (pc.field("sample") == 0)
    rows: dict[tuple[str, int], Mapping[str, Any]] = {
        (row["problem_id"], row["step"]): row for row in read_evaluations(folder, where=wanted).to_pylist()
    }
    found: dict[str, Any] = {}
    room = MAX_BYTES
    for problem in problems:
        before, after = rows.get((problem, first)), rows.get((problem, last))
        newest = after or before
        if newest is None:
            continue
        entry = {
            "prompt": newest["prompt"][:4000],
            "first": None if before is None else {"step": first, **show_completion(before, None, {})},
            "last": None if after is None or first == last else {"step": last, **show_completion(after, None, {})},
            "difference": None if before is None or after is None or first == last else difference(before, after),
        }
        room -= len(repr(entry))
        if room < 0:
            break
        found[problem] = entry
    return found


def level_order(level: str) -> tuple[int, str]:
    return (LEVELS.index(level), "") if level in LEVELS else (len(LEVELS), level)


def evenly(items: list[Any], limit: int) -> list[Any]:
    """At most ``limit`` of them, evenly chosen, the first and the last included."""
    if len(items) <= limit:
        return items
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]

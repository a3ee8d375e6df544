"""The curves of a page from the journal's rows: held-out pass rates, every metric of training, where the time goes.

Long curves are thinned: every bucket keeps its lowest and its highest value, so that a spike of one step among 100,000
stays visible, which a mean per bucket or every n-th row would hide. Quantities that are stacked upon each other share
their steps, so they are averaged per bucket instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grpo_project.durations import show_duration
from grpo_project.evaluation.result import levels_of
from grpo_project.record.run_directory import RESERVED
from grpo_project.reports.run_reader import MAIN, RunReader

MAX_CURVES = 100
"""Of one run: who logs more metrics of their own finds the rest in the journal."""
TIME = "time/"
"""Prefix of the metrics that part a step's seconds: ``time/generation``, ``time/loss`` ..."""
BESIDE_THE_STEP = ("optimizer", "save", "evaluation")
"""Parts that TRL's ``step_time`` does not hold: it ends with the backward pass."""
PASS_AT = re.compile(r"eval/pass@(\d+)")
MAX_POINTS = 500
"""Of a curve on the page: one for two pixels of the widest chart."""

Points = list[tuple[float, float]]
"""(step, value), by step."""

NUMBERS = frozenset({int, float})

Columns = dict[str, list[float]]
"""One list a name; those of a table are equally long."""


def held_out(reader: RunReader) -> dict[str, Any] | None:
    """Pass rate with its interval, pass@k, and by level, at each evaluation; ``None`` before the first."""
    rows = reader.evaluations
    if not rows:
        return None
    last = rows[-1]
    kept = {step for step, _ in thin(finite(rows, MAIN))}  # one choice for all curves: a band needs the same steps
    rows = [row for row in rows if row["step"] in kept]
    ks = sorted({int(match[1]) for row in rows for name in row if (match := PASS_AT.fullmatch(name))})
    levels = list(dict.fromkeys(level for row in (last, *rows) for level in levels_of(row)))
    return {
        "rate": pairs(finite(rows, MAIN)),
        "low": pairs(finite(rows, f"{MAIN}_low")),
        "high": pairs(finite(rows, f"{MAIN}_high")),
        "pass_at": {f"pass@{k}": pairs(finite(rows, f"eval/pass@{k}")) for k in ks},
        "levels": {level: pairs(finite(rows, f"eval/{level}/test_pass_rate")) for level in levels},
        "problems": last.get("eval/problems"),
        "source": last.get("eval/source"),
    }


def training_curves(reader: RunReader) -> dict[str, Any]:
    """Every numeric metric of the training rows by its name in the journal, thinned."""
    found = {name: finite(reader.training, name) for name in metric_names(reader)[:MAX_CURVES]}
    return {name: pairs(thin(points)) for name, points in found.items() if points}


def smoothed_reward(reader: RunReader) -> dict[str, Any]:
    """The reward's moving mean; its window grows with the run."""
    points = finite(reader.training, "reward")
    window = max(5, len(points) // 50)
    return {"window": window, "curve": pairs(thin(smooth(points, window)))}


def time_parts(reader: RunReader) -> Columns:
    """Seconds of a step by what they went to. Where rows part them, what is left of ``step_time`` is ``other``."""
    names = [name for name in metric_names(reader) if name.startswith(TIME)]
    rows = []
    for row in reader.training:
        if "step_time" in row:
            parts = {name.removeprefix(TIME): row[name] for name in names if name in row}
            within = sum(value for name, value in parts.items() if name not in BESIDE_THE_STEP)
            rest = max(0.0, row["step_time"] - within)
            rows.append({"step": row["step"], **parts, "other" if names else "whole step": rest})
    shown = dict.fromkeys(name for row in rows for name in row if name != "step")
    return {name: rounded(column) for name, column in bucket_means(rows, list(shown)).items()}


def time_in_all(reader: RunReader) -> str:
    """``In all 132 s in steps, 14 s in 11 evaluations, 2 s in 9 checkpoints.``: what the rows that count took."""
    evaluations, saves = finite(reader.evaluations, "eval/seconds"), reader.events("checkpoint")
    kinds = {
        "in steps": [value for _, value in finite(reader.training, "step_time")],
        f"in {len(evaluations)} evaluations": [value for _, value in evaluations],
        f"in {len(saves)} checkpoints": [event.get("seconds", 0.0) for event in saves],
    }
    return "In all " + ", ".join(f"{show_duration(sum(s))} {kind}" for kind, s in kinds.items() if s) + "."


def metric_names(reader: RunReader) -> list[str]:
    """Names of the metrics of training rows, as some of the first and the last rows have them."""
    rows = (*reader.training[:50], *reader.training[-50:])
    return [name for name in dict.fromkeys(name for row in rows for name in row) if name not in RESERVED]


def tokens_per_second(reader: RunReader) -> Points:
    """Trained tokens a second: the growth of ``num_tokens`` over ``step_time``, within one process start."""
    points: Points = []
    for before, row in zip(reader.training, reader.training[1:], strict=False):
        seconds, tokens = row.get("step_time"), row.get("num_tokens")
        follows = before["attempt"] == row["attempt"] and before["step"] + 1 == row["step"]
        if seconds and tokens is not None and before.get("num_tokens") is not None and follows:
            points.append((row["step"], (tokens - before["num_tokens"]) / seconds))
    return points


def pairs(points: Points) -> list[list[float]]:
    """Two lists, steps and values, as the page takes them."""
    return [[step for step, _ in points], rounded([value for _, value in points])]


def rounded(values: list[float]) -> list[float]:
    """Six significant digits: a third of the bytes, and more than a chart shows."""
    return [float(f"{value:.6g}") for value in values]


def thin(points: Sequence[tuple[float, float]], limit: int = MAX_POINTS) -> Points:
    """At most ``limit`` of the points: the first, the last, and the extremes of equally many points in between."""
    if len(points) <= limit:
        return list(points)
    inner, buckets = points[1:-1], (limit - 2) // 2
    kept = [points[0]]
    for number in range(buckets):
        bucket = inner[len(inner) * number // buckets : len(inner) * (number + 1) // buckets]
        extremes = {min(bucket, key=lambda point: point[1]), max(bucket, key=lambda point: point[1])}
        kept.extend(sorted(extremes))
    kept.append(points[-1])
    return kept


def finite(rows: Iterable[Mapping[str, Any]], name: str) -> Points:
    """The points of one metric; rows without it, and values that are no finite number, are left out."""
    # Exact types instead of isinstance: a third of the time where a run has 100,000 rows, and True is no number here.
    return [
        (row["step"], float(value))
        for row in rows
        if type(value := row.get(name, math.nan)) in NUMBERS and math.isfinite(value)
    ]


def smooth(points: Sequence[tuple[float, float]], window: int) -> Points:
    """The mean of each point and the ``window - 1`` before it (fewer at the beginning)."""
    found: Points = []
    total = 0.0
    for index, (step, value) in enumerate(points):
        total += value
        if index >= window:
            total -= points[index - window][1]
        found.append((step, total / min(index + 1, window)))
    return found


def bucket_means(rows: Sequence[Mapping[str, float]], names: Sequence[str], limit: int = MAX_POINTS) -> Columns:
    """Rows with ``step`` and ``names`` as columns, averaged over equally many rows where there are more than ``limit``.

    A bucket stands at its last step. A name that a row lacks counts as 0 in it.
    """
    buckets = min(len(rows), limit)
    columns: Columns = {name: [] for name in ("step", *names)}
    for number in range(buckets):
        bucket = rows[len(rows) * number // buckets : len(rows) * (number + 1) // buckets]
        columns["step"].append(bucket[-1]["step"])
        for name in names:
            columns[name].append(sum(row.get(name, 0.0) for row in bucket) / len(bucket))
    return columns

"""Fewer points for a curve that the eye reads alike: every bucket keeps its lowest and its highest value.

A spike of one step among 100,000 stays visible, which a mean per bucket or every n-th row would hide. Quantities that
are stacked upon each other share their steps, so they are averaged per bucket instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MAX_POINTS = 500
"""Of a curve on the page: about one for each pixel of a chart's width."""

Points = list[tuple[float, float]]
"""(step, value), by step."""

NUMBERS = frozenset({int, float})

Columns = dict[str, list[float]]
"""One list a name; those of a table are equally long."""


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

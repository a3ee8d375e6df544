"""Completions for other programs: as CSV (a row each, tests as JSON), as JSON Lines, as a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from grpo_project.reports.groups import show_groups, split_into_groups
from grpo_project.reports.page import page_html

Row = Mapping[str, Any]

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run as a formula by spreadsheets; what a model wrote must not be."""


def as_csv(rows: Sequence[Row]) -> str:
    """A header and a line a completion. Texts that a spreadsheet would run get an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out)
    names = list(rows[0])
    writer.writerow(names)
    writer.writerows([_cell(row[name]) for name in names] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, str) and value.startswith(FORMULA):
        return "'" + value
    return value


def as_json_lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_page(rows: Sequence[Row], title: str) -> str:
    """The report's view of groups, of these completions alone; as many as fit into a page."""
    by_place = sorted(rows, key=lambda row: (row["step"], row["problem_id"]))
    groups = split_into_groups(by_place, None)
    shown = show_groups(groups, range(len(groups)), {})
    choice = (
        f"Of {len(rows):,} completions that fit, in {len(groups):,} groups, the newest as far as the page has room."
    )
    return page_html(title, {"runs": [], "comparison": None, "samples": {"groups": shown, "groups_choice": choice}})

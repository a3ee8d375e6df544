"""Which completions to look at (filters, search, order), and their export as CSV, JSON Lines or a page.

Small columns are read first, texts only of what is chosen.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from grpo_project.errors import ConfigError
from grpo_project.record.evaluations import FOLDER as EVALUATIONS
from grpo_project.record.evaluations import read_evaluations
from grpo_project.record.samples import FOLDER as SAMPLES
from grpo_project.record.samples import read_samples
from grpo_project.reports.groups import show_groups, split_into_groups
from grpo_project.reports.page import page_html

NEEDED = {"newest": (), "reward": ("reward",), "advantage": ("advantage",), "passed": ("passed", "total")}
"""Orders with the columns that they need."""
TEXTS = ("prompt", "completion")
Row = Mapping[str, Any]

SELECTABLE = ("problem_id", "level", "status")

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is run as a formula by spreadsheets; what a model wrote must not be."""


@dataclass(frozen=True, slots=True)
class SampleQuery:
    """A question to the completions of a run.

    Args:
        evaluations: the evaluated ones instead of those of training.
        wanted: column -> value that it must have.
        search: a text that prompt or completion must hold.
        order: ``newest`` first, or the lowest ``reward``, ``advantage`` or share of tests ``passed`` first.
        all_attempts: those too that a resume has superseded.

    Raises:
        ConfigError: the folder has no such completions, or they have no rewards to be ordered by.
    """

    folder: Path
    evaluations: bool = False
    wanted: tuple[tuple[str, Any], ...] = ()
    search: str | None = None
    order: str = "newest"
    all_attempts: bool = False

    def __post_init__(self) -> None:
        folder = self.folder / (EVALUATIONS if self.evaluations else SAMPLES)
        if not folder.is_dir():
            other = not self.evaluations and (self.folder / EVALUATIONS).is_dir()
            advice = "add --evaluations for the evaluated ones" if other else "give the output folder of a run"
            raise ConfigError(f"{folder} does not exist; {advice}")
        if self.evaluations and self.order in ("reward", "advantage"):
            raise ConfigError(f"--sort {self.order}: evaluated completions have none; use --sort passed")

    def read(self, where: pc.Expression | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows for which ``where`` holds, by step, whatever the filters say."""
        reader = read_evaluations if self.evaluations else read_samples
        return reader(self.folder, not self.all_attempts, where=where, columns=columns)

    def condition(self) -> pc.Expression | None:
        """The filters as one condition."""
        terms = [pc.field(column) == value for column, value in self.wanted]
        if self.search is not None:
            found = [pc.match_substring(pc.field(name), self.search) for name in TEXTS]
            terms.append(found[0] | found[1])
        condition = None
        for term in terms:
            condition = term if condition is None else condition & term
        return condition

    def choose(self, limit: int | None) -> tuple[list[dict[str, Any]], int]:
        """The first ``limit`` rows that fit, in the order asked for, and how many fit in all."""
        texts = TEXTS if self.search is not None else ()
        condition = self.condition()
        small = self.read(condition, (*SELECTABLE, *NEEDED[self.order], *texts))
        chosen = self._ordered(small)[:limit]
        steps = small["step"].to_pylist()
        wanted = {steps[index] for index in chosen}
        where = pc.field("step").isin(sorted(wanted))
        found = self.read(where if condition is None else where & condition) if chosen else None
        rows = [] if found is None else found.to_pylist(maps_as_pydicts="strict")
        # The same filter in the same order: the n-th row of these steps is the same one in both readings.
        place = {index: n for n, index in enumerate(i for i, step in enumerate(steps) if step in wanted)}
        return [rows[place[index]] for index in chosen], len(steps)

    def _ordered(self, table: pa.Table) -> list[int]:
        """Places in the table, first those to show first."""
        if self.order == "newest":
            keys: list[float | None] = [-step for step in table["step"].to_pylist()]
        elif self.order == "passed":
            pairs = zip(table["passed"].to_pylist(), table["total"].to_pylist(), strict=True)
            keys = [passed / total for passed, total in pairs]
        else:
            keys = table[self.order].to_pylist()
        known = [(key, place) for place, key in enumerate(keys) if key is not None]
        return [place for _, place in sorted(known)]

    def what_there_is(self) -> str:
        """The steps and values to choose from, in one line."""
        table = self.read(columns=SELECTABLE)
        steps = sorted(set(table["step"].to_pylist()))
        if not steps:
            return "nothing is recorded yet"
        shown = ", ".join(map(str, steps)) if len(steps) <= 12 else f"{steps[0]} to {steps[-1]}"
        levels, statuses = (", ".join(sorted(set(table[name].to_pylist()))) for name in ("level", "status"))
        return f"there are steps {shown}; levels {levels}; outcomes {statuses}"


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

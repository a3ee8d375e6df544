"""Completions on the terminal: code in colour, the failing tests' input, expected and got, changes between steps.

What a model wrote may hold terminal control sequences; they are shown as escapes, never sent to the terminal.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
MAX_TESTS = 3
MAX_CHANGES = 20
MAX_INPUT = 60  # characters of a test's input in the matrix
THEME = "ansi_dark"  # the terminal's own colours: readable on dark and on light

Row = Mapping[str, Any]


def visible(text: str) -> str:
    """Control characters and direction marks as escapes; line ends and tabs stay."""
    return CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def show_sample(console: Console, row: Row, *, with_prompt: bool = False) -> None:
    """One completion: what it is, its code, and up to ``MAX_TESTS`` failing tests."""
    console.print(Rule(style="dim"), Text(headline(row), style="bold"))
    if with_prompt:
        console.print(Text(visible(row["prompt"]), style="dim"), Rule("answer", style="dim", align="left"))
    console.print(code_view(row))
    if failing := [test for test in row["tests"] if test["status"] != "passed"]:
        console.print(tests_table(failing))


def headline(row: Row) -> str:
    parts = [f"step {row['step']}", row["problem_id"], row["level"], outcome(row)]
    if row.get("reward") is not None:
        each = ", ".join(f"{name} {value:.3f}" for name, value in rewards_of(row).items() if value is not None)
        parts.append(f"reward {row['reward']:.3f}" + (f" ({each})" if each else ""))
    if row.get("advantage") is not None:
        parts.append(f"advantage {row['advantage']:+.3f}")
    if row.get("truncated"):
        parts.append("cut off by the token limit")
    return visible(" · ".join(parts))


def rewards_of(row: Row) -> dict[str, float | None]:
    """Each reward by its name, where there are several (``--reward A B``)."""
    found = row.get("rewards") or {}
    return found if len(found) > 1 else {}


def outcome(row: Row) -> str:
    return f"{row['status']} {row['passed']}/{row['total']}"


def code_view(row: Row) -> Syntax | Text:
    """The extracted program in colour, or the bare completion where there is none."""
    if row["code"] is None:
        return Text(visible(row["completion"]), style="italic")
    return Syntax(visible(row["code"]).rstrip("\n"), "python", theme=THEME, background_color="default")


def tests_table(failing: Sequence[Row]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("outcome", "input", "expected", "got", ""):
        table.add_column(heading, overflow="fold")
    for test in failing[:MAX_TESTS]:
        cells = (test["status"], test["input"], test["expected"], test["got"], test["message"])
        table.add_row(*(Text(visible(cell or "")) for cell in cells))
    if len(failing) > MAX_TESTS:
        table.add_row(Text(f"and {len(failing) - MAX_TESTS} more", style="dim"))
    return table


def show_group(console: Console, group: Sequence[Row], *, with_prompt: bool = False) -> None:
    """A group side by side: each completion's reward, advantage and tests, then each different program once."""
    first = group[0]
    solved = sum(row["status"] == "passed" for row in group)
    title = f"step {first['step']} · {first['problem_id']} · {first['level']} · {solved} of {len(group)} solved"
    console.print(Rule(style="dim"), Text(visible(title), style="bold"))
    if with_prompt:
        console.print(Text(visible(first["prompt"]), style="dim"))
    console.print(group_table(group))
    programs: dict[str, list[int]] = {}
    for number, row in enumerate(group, start=1):
        programs.setdefault(row["code"] or row["completion"], []).append(number)
    for numbers in programs.values():
        row = group[numbers[0] - 1]
        console.print(Text(", ".join(f"#{number}" for number in numbers) + f"  {outcome(row)}", style="bold"))
        console.print(code_view(row))
        if failing := [test for test in row["tests"] if test["status"] != "passed"]:
            console.print(tests_table(failing[:1]))


def group_table(group: Sequence[Row]) -> Table:
    """Completions as columns; reward, advantage and each test as rows."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for number in range(1, len(group) + 1):
        table.add_column(f"#{number}", justify="right")
    for name, shape in (("reward", "{:.3f}"), ("advantage", "{:+.3f}")):
        table.add_row(name, *("-" if row[name] is None else shape.format(row[name]) for row in group))
    for name in rewards_of(group[0]):
        values = [rewards_of(row).get(name) for row in group]
        table.add_row(Text(f"  {name}", style="dim"), *("-" if value is None else f"{value:.3f}" for value in values))
    widest = max(group, key=lambda row: len(row["tests"]))["tests"]
    for place, test in enumerate(widest):
        marks = [mark(row["tests"][place]["status"]) if place < len(row["tests"]) else Text("·") for row in group]
        table.add_row(Text(visible(test["input"] or f"test {place + 1}")[:MAX_INPUT], style="dim"), *marks)
    return table


def mark(status: str) -> Text:
    """A test's outcome as a sign that is told apart without its colour."""
    signs = {"passed": ("✓", "green"), "failed": ("✗", "red"), "timeout": ("⏱", "yellow")}
    return Text(*signs.get(status, ("!", "yellow")))


def show_difference(
    console: Console, steps: Sequence[int], before: Sequence[Row], after: Sequence[Row], limit: int
) -> None:
    """Which problems are answered better or worse at the second step, and how the code of up to ``limit`` changed.

    Of many changes, those that lost most and those that gained most.
    """
    pairs = paired(before, after)
    changed = [(a, b) for a, b in pairs if (a["passed"], a["status"]) != (b["passed"], b["status"])]
    changed.sort(key=gain)
    table = Table(title=f"step {steps[0]} against step {steps[1]}", title_justify="left")
    for heading in ("problem", "level", f"step {steps[0]}", f"step {steps[1]}"):
        table.add_column(heading)
    for a, b in both_ends(changed, MAX_CHANGES):
        style = "green" if gain((a, b)) > 0 else "red"
        table.add_row(Text(visible(a["problem_id"])), a["level"], outcome(a), outcome(b), style=style)
    console.print(table)
    better, worse = sum(gain(pair) > 0 for pair in changed), sum(gain(pair) < 0 for pair in changed)
    left_out = f"; {len(changed) - MAX_CHANGES} changes are not shown" if len(changed) > MAX_CHANGES else ""
    console.print(f"{better} better, {worse} worse, of {len(pairs)} completions{left_out}", style="dim")
    for a, b in both_ends(changed, limit):
        change = Text(visible(f"{a['problem_id']}: {outcome(a)} -> {outcome(b)}"), style="bold")
        console.print(Rule(style="dim"), change)
        console.print(Syntax(code_difference(a, b), "diff", theme=THEME, background_color="default"))


def gain(pair: tuple[Row, Row]) -> float:
    """Change of the share of tests passed."""
    before, after = pair
    return after["passed"] / after["total"] - before["passed"] / before["total"]


def both_ends(changed: list[tuple[Row, Row]], count: int) -> list[tuple[Row, Row]]:
    """The first and last ones of a sorted list, ``count`` in all."""
    if len(changed) <= count:
        return changed
    return changed[: (count + 1) // 2] + changed[len(changed) - count // 2 :]


def paired(before: Sequence[Row], after: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Completions of the same problem and sample number."""
    first = {(row["problem_id"], row["sample"]): row for row in before}
    return [(first[key], row) for row in after if (key := (row["problem_id"], row["sample"])) in first]


def code_difference(before: Row, after: Row) -> str:
    old, new = (visible(row["code"] or row["completion"]).splitlines() for row in (before, after))
    lines = difflib.unified_diff(old, new, f"step {before['step']}", f"step {after['step']}", lineterm="", n=2)
    return "\n".join(lines) or "(the same code)"

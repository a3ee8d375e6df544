"""What a person wants to know at the end of a run: did it learn, where is everything, what next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from grpo_project.evaluation.result import levels_of
from grpo_project.record.run_directory import MAIN_METRIC, Run
from grpo_project.reports import headline


def run_summary(output_dir: Path) -> RenderableType:
    """Pass rates before and after, by level with counts, and where everything lies."""
    rows = Run.open(output_dir).metrics("eval")
    return Group(evaluation_table(rows), Text(), *places(output_dir), Text(), *next_commands(output_dir))


def evaluation_table(rows: list[dict[str, Any]]) -> RenderableType:
    """The first against the last evaluation. ``rows``: the journal's rows of kind ``eval``, by step."""
    if not rows:
        return Text("No evaluation was made (--eval_every_n_steps 0), so there is no pass rate to report.")
    first, last = rows[0], rows[-1]
    table = Table(title=f"Held-out pass rate ({problem_source(last)})", title_justify="left")
    table.add_column("level")
    table.add_column("problems", justify="right")
    table.add_column(f"step {first['step']}", justify="right")
    table.add_column(f"step {last['step']}", justify="right")
    table.add_column("change", justify="right")
    for level in levels_of(last):
        before, after = (row.get(f"eval/{level}/test_pass_rate") for row in (first, last))
        table.add_row(level, str(last[f"eval/{level}/problems"]), rate(before), rate(after), change(before, after))
    table.add_section()
    table.add_row(
        "all",
        str(last["eval/problems"]),
        rate(first[MAIN_METRIC]),
        rate(last[MAIN_METRIC]),
        change(first[MAIN_METRIC], last[MAIN_METRIC]),
        style="bold",
    )
    before, after = interval(first), interval(last)
    note = f"Mean share of tests passed. 95% intervals over problems: {before} before, {after} after."
    return Group(table, Text(note, style="dim"))


def problem_source(row: dict[str, Any]) -> str:
    source = row["eval/source"]
    return "built-in problems" if source == "builtin" else f"problems of {source}"


def rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def interval(row: dict[str, Any]) -> str:
    return f"{row[f'{MAIN_METRIC}_low']:.3f} to {row[f'{MAIN_METRIC}_high']:.3f}"


def change(before: float | None, after: float | None) -> str:
    return "-" if before is None or after is None else f"{after - before:+.3f}"


def places(output_dir: Path) -> list[Text]:
    """Where the run left what, for what is there."""
    described = {
        "": "the final model and tokenizer (from_pretrained loads this folder)",
        "journal/metrics.jsonl": "every step and evaluation, one row each",
        "samples": "every completion with its verdict",
        "evaluations": "every evaluated problem, completion and test result",
        "run.json": "configuration, versions, attempts",
    }
    lines = []
    for name, text in described.items():
        path = output_dir / name
        if path.exists() and (name or any(output_dir.glob("*.safetensors"))):
            lines.append(Text.assemble((f"  {path}", "cyan"), f"  {text}"))
    return [Text("Where everything lies"), *lines]


def next_commands(output_dir: Path) -> list[Text]:
    grpo, folder = headline.grpo(), shlex.quote(str(output_dir))
    commands = {
        f"{grpo} report {folder}": "a page about this run, one file",
        f"{grpo} evaluate --model {folder}": "pass@1 of the trained model (greedy), with intervals",
        f"{grpo} samples {folder} --status failed": "what it still gets wrong, test by test",
    }
    return [
        Text("Try next"),
        *(Text.assemble((f"  {command}", "green"), f"  {text}") for command, text in commands.items()),
    ]

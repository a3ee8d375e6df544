"""Show what the model wrote: training completions, or evaluated ones, with their code and the tests that failed.

Without a filter: the newest. --diff compares two evaluations, problem by problem.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_project.errors import ConfigError
from grpo_project.verifier.verdict import Status

if TYPE_CHECKING:
    import pyarrow.compute as pc

SELECTABLE = ("problem_id", "level", "status")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="the run's folder")
    parser.add_argument("--evaluations", action="store_true", help="evaluated completions instead of training ones")
    parser.add_argument("--step", type=int, metavar="N", help="only of this optimizer step")
    parser.add_argument("--level", help="only of this level")
    parser.add_argument("--status", choices=[status.value for status in Status], help="only with this outcome")
    parser.add_argument("--problem", metavar="ID", help="only of this problem")
    parser.add_argument("--limit", type=int, default=5, metavar="N", help="how many to show (default: 5)")
    parser.add_argument("--prompt", action="store_true", help="show the prompts too")
    parser.add_argument("--all_attempts", action="store_true", help="those too that a resume has superseded")
    parser.add_argument("--diff", nargs=2, type=int, metavar=("A", "B"), help="compare the evaluations of two steps")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from grpo_project.commands.sample_view import show_difference, show_sample

    if args.limit < 1:
        raise ConfigError(f"--limit is {args.limit}; it must be at least 1")
    console = Console()
    if args.diff:
        before, after = evaluations_of(args, args.diff)
        show_difference(console, args.diff, before, after, args.limit)
        return 0
    rows, count = newest(args)
    if not count:
        raise ConfigError(f"{args.output_dir}: no completion fits; {what_there_is(args)}")
    for row in rows:
        show_sample(console, row, with_prompt=args.prompt)
    console.print(f"{len(rows)} of {count} that fit; --limit N shows more", style="dim")
    return 0


def read(args: argparse.Namespace, **selection: Any) -> Any:
    """The chosen store's rows as an Arrow table."""
    from grpo_project.record.evaluations import FOLDER as EVALUATIONS
    from grpo_project.record.evaluations import read_evaluations
    from grpo_project.record.samples import FOLDER as SAMPLES
    from grpo_project.record.samples import read_samples

    evaluated = args.evaluations or args.diff
    run_dir = Path(args.output_dir)
    folder = run_dir / (EVALUATIONS if evaluated else SAMPLES)
    if not folder.is_dir():
        other = not evaluated and (run_dir / EVALUATIONS).is_dir()
        advice = "add --evaluations for the evaluated ones" if other else "give the output folder of a run"
        raise ConfigError(f"{folder} does not exist; {advice}")
    reader = read_evaluations if evaluated else read_samples
    return reader(args.output_dir, not args.all_attempts, **selection)


def newest(args: argparse.Namespace) -> tuple[list[dict[str, Any]], int]:
    """The last ``--limit`` rows that fit, newest step first, and how many fit in all.

    Looks at the small columns first: a long run has gigabytes of text.
    """
    import pyarrow.compute as pc

    fitting = read(args, where=condition(args), columns=SELECTABLE)
    steps = fitting["step"].to_pylist()
    if not steps:
        return [], 0
    chosen = sorted(set(steps[-args.limit :]))
    where = pc.field("step").isin(chosen)
    if (wanted := condition(args)) is not None:
        where = where & wanted
    rows = read(args, where=where).to_pylist()
    rows.sort(key=lambda row: -row["step"])
    return rows[: args.limit], len(steps)


def condition(args: argparse.Namespace) -> pc.Expression | None:
    """The filters of the command line as one condition."""
    import pyarrow.compute as pc

    wanted = {"step": args.step, "level": args.level, "status": args.status, "problem_id": args.problem}
    found = None
    for column, value in wanted.items():
        if value is not None:
            term = pc.field(column) == value
            found = term if found is None else found & term
    return found


def evaluations_of(args: argparse.Namespace, steps: list[int]) -> list[list[dict[str, Any]]]:
    """The evaluated completions of each step that fit the filters."""
    import pyarrow.compute as pc

    wanted = condition(args)
    tables = []
    for step in steps:
        where = pc.field("step") == step
        rows = read(args, where=where if wanted is None else where & wanted).to_pylist()
        if not rows:
            raise ConfigError(f"{args.output_dir}: no evaluation of step {step} fits; {what_there_is(args)}")
        tables.append(rows)
    return tables


def what_there_is(args: argparse.Namespace) -> str:
    """The steps and values to choose from, in one line."""
    table = read(args, columns=SELECTABLE)
    steps = sorted(set(table["step"].to_pylist()))
    if not steps:
        return "nothing is recorded yet"
    shown = ", ".join(map(str, steps)) if len(steps) <= 12 else f"{steps[0]} to {steps[-1]}"
    levels, statuses = (", ".join(sorted(set(table[name].to_pylist()))) for name in ("level", "status"))
    return f"there are steps {shown}; levels {levels}; outcomes {statuses}"

"""Show what the model wrote: training completions, or evaluated ones, with their code and the tests that failed.

Without a filter: the newest. --group shows groups side by side with the matrix of their tests, --diff compares two
evaluations problem by problem, --export writes what fits as a table, as JSON Lines or as a page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_project.errors import ConfigError
from grpo_project.verifier.verdict import Status

if TYPE_CHECKING:
    from rich.console import Console

    from grpo_project.reports.sample_query import SampleQuery

SHOWN = 5
FORMATS = ("csv", "jsonl", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="the run's folder")
    parser.add_argument("--evaluations", action="store_true", help="evaluated completions instead of training ones")
    parser.add_argument("--step", type=int, metavar="N", help="only of this optimizer step")
    parser.add_argument("--level", help="only of this level")
    parser.add_argument("--status", choices=[status.value for status in Status], help="only with this outcome")
    parser.add_argument("--problem", metavar="ID", help="only of this problem")
    parser.add_argument("--search", metavar="TEXT", help="only with this text in prompt or completion")
    parser.add_argument(
        "--sort",
        choices=("newest", "reward", "advantage", "passed"),
        default="newest",
        help="newest first, or the lowest reward, advantage or share of tests passed first",
    )
    parser.add_argument("--limit", type=int, metavar="N", help=f"how many to show (default: {SHOWN}; --export: all)")
    parser.add_argument("--prompt", action="store_true", help="show the prompts too")
    parser.add_argument("--group", action="store_true", help="groups of completions side by side, with their tests")
    parser.add_argument("--all_attempts", action="store_true", help="those too that a resume has superseded")
    parser.add_argument("--diff", nargs=2, type=int, metavar=("A", "B"), help="compare the evaluations of two steps")
    parser.add_argument("--export", choices=FORMATS, help="write what fits instead of showing it")
    parser.add_argument("--output", metavar="FILE", help="with --export: where to (default: csv and jsonl are printed)")


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` if the folder has no completions, or none fits."""
    from rich.console import Console

    from grpo_project.commands.sample_view import show_difference, show_sample

    check(args)
    query = query_of(args)
    console = Console()
    if args.diff:
        before, after = evaluations_of(query, args.diff)
        show_difference(console, args.diff, before, after, args.limit or SHOWN)
        return 0
    if args.group:
        return show_groups(args, query, console)
    rows, count = query.choose(args.limit or (None if args.export else SHOWN))
    if not rows:
        raise ConfigError(f"{args.output_dir}: no completion fits; {query.what_there_is()}")
    if args.export:
        return export(args, rows)
    for row in rows:
        show_sample(console, row, with_prompt=args.prompt)
    console.print(f"{len(rows)} of {count} that fit; --limit N shows more", style="dim")
    return 0


def check(args: argparse.Namespace) -> None:
    """Raise ``ConfigError`` for flags that can't be meant."""
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f"--limit is {args.limit}; it must be at least 1")
    if args.group and (args.evaluations or args.diff or args.export):
        raise ConfigError("--group shows training completions; leave out --evaluations, --diff and --export")
    if args.output and not args.export:
        raise ConfigError(f"--output says where --export writes to; add --export {'|'.join(FORMATS)}")


def query_of(args: argparse.Namespace) -> SampleQuery:
    from grpo_project.reports.sample_query import SampleQuery

    wanted = {"step": args.step, "level": args.level, "status": args.status, "problem_id": args.problem}
    return SampleQuery(
        Path(args.output_dir),
        evaluations=bool(args.evaluations or args.diff),
        wanted=tuple((column, value) for column, value in wanted.items() if value is not None),
        search=args.search,
        order=args.sort,
        all_attempts=args.all_attempts,
    )


def show_groups(args: argparse.Namespace, query: SampleQuery, console: Console) -> int:
    """Whole groups in which some completion fits, in the order of their first one that does."""
    from grpo_project.commands.sample_view import show_group
    from grpo_project.reports.groups import groups_of

    fitting, _ = query.choose(None)
    wanted = list(dict.fromkeys((row["step"], row["problem_id"]) for row in fitting))[: args.limit or SHOWN]
    if not wanted:
        raise ConfigError(f"{args.output_dir}: no completion fits; {query.what_there_is()}")
    found = groups_of(query.folder, [step for step, _ in wanted])
    for key in wanted:
        for group in found.get(key, []):
            show_group(console, group, with_prompt=args.prompt)
    return 0


def export(args: argparse.Namespace, rows: list[dict[str, Any]]) -> int:
    """Write rows to ``--output``, or to standard output; a page goes into the run's folder."""
    from grpo_project.reports.sample_query import as_csv, as_json_lines, as_page

    target: Path | None
    if args.export == "html":
        target = Path(args.output or Path(args.output_dir) / "samples.html")
        text = as_page(rows, f"Completions of {Path(args.output_dir).resolve().name}")
    else:
        target = Path(args.output) if args.output else None
        text = (as_csv if args.export == "csv" else as_json_lines)(rows)
    if target is None:
        sys.stdout.write(text)
        return 0
    try:
        target.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"--output {target} can't be written: {error.strerror}") from error
    print(target)
    return 0


def evaluations_of(query: SampleQuery, steps: list[int]) -> list[list[dict[str, Any]]]:
    """The evaluated completions of each step that fit the filters."""
    import pyarrow.compute as pc

    wanted = query.condition()
    found = []
    for step in steps:
        where = pc.field("step") == step
        rows = query.read(where if wanted is None else where & wanted).to_pylist()
        if not rows:
            raise ConfigError(f"{query.folder}: no evaluation of step {step} fits; {query.what_there_is()}")
        found.append(rows)
    return found

"""List the runs below a folder: state, step, held-out pass rate with its interval, model, data, age."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", default="runs", help="where runs are looked for (default: runs)")
    parser.add_argument("--json", action="store_true", help="print one JSON array instead of a table")


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` if the folder does not exist or holds no run."""
    import json
    from pathlib import Path

    from rich.console import Console

    from grpo_project.errors import ConfigError
    from grpo_project.reports.runs import run_rows, runs_table

    folder = Path(args.folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; name the one that your --output_dir folders lie in")
    rows = run_rows(folder)
    if not rows:
        raise ConfigError(f"{folder}: no run in it or below it")
    if args.json:
        print(json.dumps(rows))
    else:
        Console(highlight=False).print(runs_table(rows, folder))
    return 0

"""Tell how a run stands: step, evaluations, why it is in its stage, what W&B has, what went wrong."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", help="the run directory")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` if the folder is no run directory."""
    import json
    from pathlib import Path

    from rich.console import Console

    from grpo_project.reports.status import run_status, status_lines

    status = run_status(Path(args.output_dir))
    if args.json:
        print(json.dumps(status, default=str))
    else:
        Console(soft_wrap=True, highlight=False).print(status_lines(status))
    return 0

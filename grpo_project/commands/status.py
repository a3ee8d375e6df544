"""Tell how a run stands: step, speed, reward, pass rate, why it is in its stage, what is wrong now, how to go on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WATCH_EVERY_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", help="the run directory")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--watch", action="store_true", help="stay and show what changes, until Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` if the folder is no run directory, or the flags contradict each other."""
    import json

    from rich.console import Console

    from grpo_project.errors import ConfigError
    from grpo_project.reports.status import run_status, status_lines

    if args.json and args.watch:
        raise ConfigError("--json prints once, --watch goes on; give one of them")
    folder = Path(args.output_dir)
    status = run_status(folder)
    console = Console(soft_wrap=not args.watch, highlight=False)
    if args.json:
        print(json.dumps(status, default=str))
    elif args.watch:
        watch(folder, console)
    else:
        console.print(status_lines(status))
    return 0


def watch(folder: Path, console: Console) -> None:
    """Show the status anew every ``WATCH_EVERY_S`` until Ctrl-C, or until the run has ended.

    A long journal is read less often: reading takes a tenth of the time at most.
    """
    import time

    from rich.live import Live

    from grpo_project.reports.status import run_status, status_lines

    status, took_s = run_status(folder), 0.0
    with Live(status_lines(status), console=console, auto_refresh=False) as live:
        try:
            while status["status"] == "running":
                time.sleep(max(WATCH_EVERY_S, 10 * took_s))
                started = time.monotonic()
                status = run_status(folder)
                took_s = time.monotonic() - started
                live.update(status_lines(status), refresh=True)
        except KeyboardInterrupt:
            pass

"""Upload what W&B does not have yet of a run directory: an offline run, or the rest that an outage left.

Every step arrives exactly once, whatever number of attempts the run took; running it twice changes nothing. A run that
is still going is left to its own uploader.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_project.errors import TrackingError

if TYPE_CHECKING:
    from rich.table import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", type=Path, help="the run directory (--output_dir of the training)")
    parser.add_argument("--project", help="W&B project, instead of the one that the run was started with")
    parser.add_argument("--rebuild", action="store_true", help="upload everything again, to new W&B runs")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds until the rest is left for later (600)")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from grpo_project.record.run_directory import Run, lock_run
    from grpo_project.tracking.segments import adopt_segments, rebuild_segments
    from grpo_project.tracking.settings import Pace, base_url, has_key
    from grpo_project.tracking.state import read_state, sync_status
    from grpo_project.tracking.uploader import Uploader

    console = Console()
    paths = Run.open(args.output_dir).paths
    if not has_key():
        raise TrackingError(f"there is no API key for {base_url()}: run `wandb login` or set WANDB_API_KEY")
    lock = lock_run(paths)  # a live trainer holds it
    opened = {state.run_id for state in read_state(args.output_dir).segments.values() if state.opened}
    adopt_segments(args.output_dir, args.project, opened)
    if args.rebuild:
        rebuild_segments(args.output_dir)
    with console.status(f"uploading {args.output_dir}") as line:

        def show(uploader: Uploader) -> None:
            states = uploader.state.segments.values()
            trouble = next((state.last_error for state in states if state.last_error), None)
            confirmed = sum(state.confirmed for state in states)
            line.update(f"{confirmed} rows confirmed by the server" + (f"; waiting: {trouble}" if trouble else ""))

        uploader = Uploader(args.output_dir, Pace(confirm_s=2.0), changed=show)
        code = uploader.run(seconds=args.timeout)
    lock.release()
    status = sync_status(args.output_dir)
    console.print(status_table(status))
    for segment in status["segments"]:
        console.print(segment["url"] or "", soft_wrap=True)
    if status["missing"]:
        console.print(
            f"{status['missing']} rows that W&B had confirmed are not there: `grpo sync {args.output_dir} --rebuild` "
            "uploads all of them to new W&B runs."
        )
    elif code:
        console.print(
            f"{status['pending']} rows are not confirmed: {status['last_error']}. Run the same command again."
        )
    for segment in status["segments"]:
        for step, reason in segment["set_aside"].items():
            console.print(f"step {step} is not in W&B as it is in the journal: {reason}", highlight=False)
    return 1 if code else 0


def status_table(status: dict[str, Any]) -> Table:
    """One line for each W&B run."""
    from rich.table import Table

    table = Table("W&B run", "attempts", "rows", "confirmed", "pending", "read back")
    for segment in status["segments"]:
        attempts = ", ".join(map(str, segment["attempts"]))
        counts = (str(segment[key]) for key in ("rows", "confirmed", "pending"))
        table.add_row(segment["name"], attempts, *counts, segment["read_back"] or "-")
    return table

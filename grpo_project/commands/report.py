"""Write a page about a run, or one that compares several: a single HTML file that opens anywhere, without a network."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", nargs="+", help="run directories; several are compared")
    parser.add_argument("--output", help="where the page goes (default: report.html in the first run directory)")
    parser.add_argument("--title", help="the page's title (default: the run's name)")


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` if a folder holds no run."""
    from pathlib import Path

    from grpo_project.record.durable import write_atomically
    from grpo_project.reports.page import page_html
    from grpo_project.reports.page_data import open_runs, run_data

    readers = open_runs([Path(folder) for folder in args.output_dir])
    title = args.title or ", ".join(reader.name for reader in readers)
    page = page_html(title, {"runs": [run_data(reader) for reader in readers], "comparison": None})
    target = Path(args.output) if args.output else readers[0].folder / "report.html"
    write_atomically(target, page.encode(), through_power_loss=False)
    print(target)
    return 0

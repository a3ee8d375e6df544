"""Draw the learning curve of a run, or of several seeds of one, as an SVG picture."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", nargs="+", help="run directories; several are drawn together with their mean")
    parser.add_argument("--output", help="where the picture goes (default: learning.svg in the first run directory)")
    parser.add_argument("--title", default="Held-out pass rate", help="the picture's title")


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` if a folder holds no run or there is nothing to draw."""
    from pathlib import Path

    from grpo_project.reports.curve import learning_curve

    folders = [Path(folder) for folder in args.output_dir]
    picture = learning_curve(folders, args.title)
    target = Path(args.output) if args.output else folders[0] / "learning.svg"
    target.write_text(picture, encoding="utf-8")
    print(target)
    return 0

"""Read problems in any known format (docs/problem-format.md) and write them in the native one, as JSON Lines."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="IN", help="a file, a published folder or archive, or hub:org/name")
    parser.add_argument("output", metavar="OUT", help="a new .jsonl file")
    parser.add_argument("--dataset_columns", metavar="FIELD=COLUMN,...", help="which columns hold what")
    parser.add_argument("--dataset_base_path", metavar="DIR", help="where paths in the rows start")


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` or ``DataError``; nothing is written then."""
    from collections import Counter

    from grpo_project.commands.difficulty import require_new_file
    from grpo_project.problems.formats import load_problems
    from grpo_project.problems.native_writer import write_problems
    from grpo_project.problems.rows import parse_columns

    require_new_file(Path(args.output), "OUT")
    problems = load_problems(args.dataset, args.dataset_base_path, parse_columns(args.dataset_columns))
    write_problems(problems, args.output)
    levels = ", ".join(f"{count} {level}" for level, count in Counter(problem.level for problem in problems).items())
    solved = sum(problem.solution is not None for problem in problems)
    print(f"{len(problems)} problems: {args.output} ({levels}; {solved} with a solution)")
    return 0

"""Read problems in any known format (docs/problem-format.md) and write them in the native one, as JSON Lines."""

from __future__ import annotations

import argparse
from pathlib import Path

from grpo_project.commands import problem_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="IN", help=problem_flags.DATASET)
    parser.add_argument("output", metavar="OUT", help="a new .jsonl file")
    problem_flags.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` or ``DataError``; nothing is written then."""
    from collections import Counter

    from grpo_project.commands.difficulty import require_new_file
    from grpo_project.problems.native_writer import write_problems

    require_new_file(Path(args.output), "OUT")
    problems = problem_flags.problems(args, args.dataset, "train")
    write_problems(problems, args.output)
    levels = ", ".join(f"{count} {level}" for level, count in Counter(problem.level for problem in problems).items())
    solved = sum(problem.solution is not None for problem in problems)
    print(f"{len(problems)} problems: {args.output} ({levels}; {solved} with a solution)")
    return 0

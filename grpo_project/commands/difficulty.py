"""Estimate how hard each problem is for a model, by sampling; `--write FILE` keeps it as `complexity` and `level`.

A problem's pass rate is the share of its completions that pass every test, p = (passed + 1/2) / (samples + 1);
its complexity is 10 (1 - p). A command that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_project.commands import problem_flags
from grpo_project.curriculum.pools import graded
from grpo_project.errors import ConfigError, DataError
from grpo_project.problems.problem import LEVELS, Problem

SHOWN = 20

if TYPE_CHECKING:
    from rich.table import Table

    from grpo_project.evaluation.result import EvaluationResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help=problem_flags.DATASET)
    problem_flags.add_arguments(parser)
    parser.add_argument("--write", metavar="FILE", help="where the problems go with what was found, as JSON Lines")
    parser.add_argument("--model", "--model_name", metavar="M", help="hub id or folder (default: the embedded model)")
    parser.add_argument("--num_samples", type=int, default=8, metavar="S", help="completions of each problem")
    parser.add_argument(
        "--levels",
        choices=("rate", "fifths"),
        default="rate",
        help="rate: by complexity, two points a level; fifths: the easiest fifth is foundation, and so on",
    )
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--max_new_tokens", type=int, default=512, metavar="N")
    parser.add_argument("--batch_size", type=int, default=64, metavar="B", help="completions generated at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--system_prompt", help="system message for chat models")
    parser.add_argument(
        "--verifier_address", metavar="ADDRESS", help="judge on a Ray cluster: ray, auto, HOST:PORT or ray://HOST:PORT"
    )
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument(
        "--output_dir",
        "--output",
        dest="output",
        default="runs/evaluations",
        metavar="DIR",
        help="where the completions are kept",
    )


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` or ``DataError`` before a model is loaded."""
    from rich.console import Console

    from grpo_project.commands import evaluate
    from grpo_project.problems.native_writer import write_problems

    if args.write:
        require_new_file(Path(args.write))
    problems = problem_flags.problems(args, args.dataset, "train")
    model = evaluate.find_model_folder(args.model)
    sampling = argparse.Namespace(
        **vars(args) | {"model": [model], "k": [1], "max_problems": None, "endpoint": None, "concurrency": 1}
    )
    evaluate.check(sampling)
    console = Console()
    result = evaluate.evaluate_model(sampling, model, tuple(problems), console)
    measured = grade(problems, result, by_fifths=args.levels == "fifths")
    console.print(problem_table(measured, result))
    console.print(level_table(measured))
    if args.write:
        write_problems(measured, args.write)
        console.print(f"{len(measured)} problems: {args.write}", highlight=False)
    else:
        console.print("--write FILE keeps complexity and level with the problems; nothing is sampled again for it")
    return 0


def require_new_file(path: Path, flag: str = "--write") -> None:
    """Raise ``ConfigError`` if ``path`` can't be written without loss."""
    if path.exists():
        raise ConfigError(f"{flag} {path}: exists already; name a new file")
    if not path.parent.is_dir():
        raise ConfigError(f"{flag} {path}: there is no folder {path.parent}; make it first")


def grade(problems: Sequence[Problem], result: EvaluationResult, *, by_fifths: bool) -> list[Problem]:
    """The problems with the complexity and the level that the samples speak for, in their order.

    Raises:
        DataError: a problem has no samples.
    """
    scores = {score.problem_id: score for score in result.scores}
    without = [problem.id for problem in problems if problem.id not in scores]
    if without:
        raise DataError(f"{len(without)} problems have no samples, among them {without[0]}; evaluate them again")
    found = [graded(p, scores[p.id].solved, scores[p.id].samples) for p in problems]
    if not by_fifths:
        return found
    # Among equally often solved problems, those with more tests passed are the easier ones.
    order = sorted(range(len(found)), key=lambda i: (found[i].complexity, -scores[found[i].id].pass_rate, i))
    for rank, i in enumerate(order):
        found[i] = replace(found[i], level=LEVELS[rank * len(LEVELS) // len(found)])
    return found


def problem_table(problems: Sequence[Problem], result: EvaluationResult) -> Table:
    """The hardest first, at most ``SHOWN``."""
    from rich.table import Table

    scores = {score.problem_id: score for score in result.scores}
    hardest = sorted(problems, key=lambda problem: -(problem.complexity or 0))[:SHOWN]
    title = "Problems" if len(hardest) == len(problems) else f"The {len(hardest)} hardest of {len(problems):,} problems"
    table = Table("problem", "solved", "tests passed", "complexity", "level", title=title)
    for problem in hardest:
        score = scores[problem.id]
        solved = f"{score.solved} of {score.samples}"
        table.add_row(problem.id, solved, f"{score.pass_rate:.2f}", f"{problem.complexity:.1f}", problem.level)
    return table


def level_table(problems: Sequence[Problem]) -> Table:
    from rich.table import Table

    table = Table("level", "problems", "complexity", title="Difficulty")
    for level in LEVELS:
        found = [
            problem.complexity for problem in problems if problem.level == level and problem.complexity is not None
        ]
        table.add_row(level, str(len(found)), f"{min(found):.1f} to {max(found):.1f}" if found else "")
    return table

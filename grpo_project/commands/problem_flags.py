"""The flags of every command that reads problems: the same names, the same sets."""

from __future__ import annotations

import argparse

from grpo_project.problems.problem import Problem
from grpo_project.problems.rows import parse_columns
from grpo_project.problems.sets import problems_of

DATASET = (
    "problems: a file (native, HumanEval, MBPP, Verilog, ...; .gz too), a folder or archive of VerilogEval or RTLLM, "
    "hub:org/name, or a built-in set: builtin, builtin:everyday, builtin:verilog"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What goes with a problem file, whatever its own flag is called."""
    parser.add_argument(
        "--dataset_base_path",
        metavar="FOLDER",
        help="where paths in the file start: benches, references (default: the file's folder)",
    )
    parser.add_argument("--dataset_columns", metavar="FIELD=COLUMN,...", help="which columns hold what")


def problems(args: argparse.Namespace, dataset: str, split: str) -> tuple[Problem, ...]:
    """Raises ``ConfigError`` or ``DataError``, as ``problems_of``."""
    return problems_of(dataset, split, args.dataset_base_path, parse_columns(args.dataset_columns))

"""What the curriculum costs in a step, by the number of problems.

    python benchmarks/bench_curriculum.py
    python benchmarks/bench_curriculum.py --sizes 1000 1000000 --steps 500
    python benchmarks/bench_curriculum.py --unlabelled

A step draws 8 problems, takes in the results of 8 groups of 8 completions and writes the metrics; an evaluation of 40
problems is taken in every 25 steps. Medians; the sizes take turns, step by step. A snapshot is what each step takes, a
save what a checkpoint does. With ``--unlabelled`` no problem has a level, and all are to be sorted; with ``--visited``
so much of the set has had its results before the first step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from random import Random

from rich.console import Console
from rich.table import Table

from grpo_project.curriculum import Curriculum, GroupResult
from grpo_project.problems.problem import LEVELS, Problem, StdioTest
from grpo_project.verifier.verdict import Status

RATES = dict.fromkeys(LEVELS, (0.5, 8))
TESTS = (StdioTest("", ""),)


WORDS = tuple("".join(letters) for letters in product("bdfgklmnprst", "aeiou", "bdfgklmnprst"))


def problems_of(size: int, levels: Sequence[str]) -> list[Problem]:
    """Problems whose prompts have 24 words each."""
    rng = Random(0)
    return [
        Problem(str(i), " ".join(rng.choices(WORDS, k=24)), TESTS, level=levels[i % len(levels)]) for i in range(size)
    ]


def results_of(problems: list[Problem], rng: Random) -> list[GroupResult]:
    results = []
    for problem in problems:
        rewards = [float(rng.random() < 0.5) for _ in range(8)]
        results.append(
            GroupResult(problem.id, rewards, [Status.PASSED if r else Status.FAILED for r in rewards], rewards)
        )
    return results


def timed_step(curriculum: Curriculum, step: int, rng: Random) -> float:
    """CPU seconds of the curriculum's part of a step; making up results doesn't count."""
    began = time.process_time()
    problems = curriculum.draw(8)
    drawn = time.process_time()
    results = results_of(problems, rng)
    judged = time.process_time()
    curriculum.observe_rollouts(step, results)
    curriculum.metrics()
    return drawn - began + time.process_time() - judged


def timed(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--visited", type=float, default=0.0, metavar="SHARE", help="problems observed beforehand")
    parser.add_argument("--unlabelled", action="store_true", help="problems without a level")
    arguments = parser.parse_args()

    levels = ("unknown",) if arguments.unlabelled else LEVELS
    problems = {size: problems_of(size, levels) for size in arguments.sizes}
    curricula: dict[int, Curriculum] = {}
    starts = {}
    for size in arguments.sizes:
        began = time.process_time()
        curricula[size] = Curriculum(problems[size])
        starts[size] = time.process_time() - began
        for i in range(0, int(arguments.visited * size), 1000):
            curricula[size].observe_rollouts(0, results_of(problems[size][i : i + 1000], Random(i)))
    rng = Random(0)
    steps: dict[int, list[float]] = {size: [] for size in arguments.sizes}
    decisions: dict[int, list[float]] = {size: [] for size in arguments.sizes}
    for step in range(1, arguments.steps + 1):
        for size, curriculum in curricula.items():
            steps[size].append(timed_step(curriculum, step, rng))
            if step % 25 == 0:
                decisions[size].append(timed(partial(curriculum.observe_evaluation, step, 0.5, 40, RATES)))
    first = statistics.median(steps[arguments.sizes[0]])
    table = Table(
        "problems", "start, s", "step, ms", "ratio", "decision, ms", "snapshot, ms", "save, ms", "state, KB", "load, ms"
    )
    for size, curriculum in curricula.items():
        snapshot = statistics.median(timed(curriculum.snapshot) for _ in range(9))
        save = timed(curriculum.state_dict)
        state = json.dumps(curriculum.state_dict())
        fresh = Curriculum(problems[size])
        load = timed(partial(fresh.load_state_dict, json.loads(state)))
        median = statistics.median(steps[size])
        table.add_row(
            f"{size:,}",
            f"{starts[size]:.2f}",
            f"{1e3 * median:.3f}",
            f"{median / first:.2f}x",
            f"{1e3 * statistics.median(decisions[size]):.1f}",
            f"{1e3 * snapshot:.2f}",
            f"{1e3 * save:.1f}",
            f"{len(state) // 1024}",
            f"{1e3 * load:.0f}",
        )
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What evaluation and records cost: time against a training step, and room on the disk.

    python benchmarks/bench_evaluation.py [--quick]

1. An evaluation of 8 problems against a training step of 8 completions of the embedded model, all that either of them
   brings along included (records, journal, curriculum, checks).
2. How much of the verification passes while completions are still being generated.
3. ``samples/`` of 10,000 steps of 64 completions: size on the disk, milliseconds a step.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

COMPLETIONS = 8
WARM_UP_STEPS = 3


def step_against_evaluation(group: int, steps: int, rounds: int, folder: Path) -> list[tuple[str, float]]:
    """Medians over the steps of runs with an evaluation after each step, and without any.

    Training is the same in all of them, step by step, so what a step takes longer is its evaluation. Of the rounds, run
    in turn, the fastest counts for each step: other work on the machine can only add.

    Args:
        group: completions of one problem; 8 is one group a step, 2 are four problems a step.
    """
    plain: list[list[float]] = []
    evaluated: list[list[float]] = []
    for number in range(rounds):
        plain.append(step_seconds(group, steps, 0, folder / f"plain-{number}"))
        evaluated.append(step_seconds(group, steps, 1, folder / f"evaluated-{number}"))
    step_s = [min(times) for times in zip(*plain, strict=True)]
    both_s = [min(times) for times in zip(*evaluated, strict=True)]
    evaluation_s = statistics.median(both - step for both, step in zip(both_s, step_s, strict=True))
    name = f"groups of {group}"
    return [
        (f"{name}: training step of {COMPLETIONS} completions, s (median)", statistics.median(step_s)),
        (f"{name}: evaluation of {COMPLETIONS} problems, s (median)", evaluation_s),
        (f"{name}: evaluation / training step", evaluation_s / statistics.median(step_s)),
    ]


def step_seconds(group: int, steps: int, every: int, folder: Path) -> list[float]:
    """What each step after the first few took, from one row in the journal to the next."""
    from grpo_project.record.run_directory import Run

    flags = {
        "output_dir": folder,
        "max_steps": steps,
        "eval_every_n_steps": every,
        "max_eval_samples": COMPLETIONS,
        "per_device_train_batch_size": COMPLETIONS,
        "num_generations": group,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": 1,
        "save_strategy": "no",
        "enable_curriculum": "false",
    }
    command = [sys.executable, "-m", "grpo_project.cli", "train"]
    command += [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    times = {row["step"]: row["time"] for row in Run(folder).metrics("train")}
    return [times[step] - times[step - 1] for step in range(WARM_UP_STEPS + 1, steps)]  # the last one saves the model


def overlap(problems: int, batch_size: int) -> list[tuple[str, float]]:
    """One evaluation with the embedded model and the real verifier, and its verification once more, alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from grpo_project.config import embedded_model_path
    from grpo_project.evaluation.evaluator import Evaluator
    from grpo_project.generation.generator import generation_mode
    from grpo_project.problems.quickstart import builtin_problems
    from grpo_project.problems.selection import select_problems
    from grpo_project.verifier import Verifier
    from grpo_project.verifier.verdict import Job

    model = AutoModelForCausalLM.from_pretrained(embedded_model_path())
    tokenizer = AutoTokenizer.from_pretrained(embedded_model_path())
    chosen = select_problems(builtin_problems("heldout"), problems, seed=0)
    with Verifier(cache=False) as verifier:
        evaluator = Evaluator(chosen, tokenizer, verifier, batch_size=batch_size)
        with generation_mode(model) as ready:
            evaluator.run(ready, 0)  # starts the workers
            done = evaluator.run(ready, 0)
        jobs = [Job(problem, r.completion) for problem, r in zip(chosen, done.records, strict=True)]
        started = time.perf_counter()
        verifier.verify_many(jobs)
        alone_s = time.perf_counter() - started
    name = f"{problems} problems in batches of {batch_size}"
    return [
        (f"{name}: generation, s", done.generation_s),
        (f"{name}: verification alone, s", alone_s),
        (f"{name}: share of it hidden behind generation", 1 - done.waited_s / alone_s),
    ]


def disk(steps: int, rows_of_step: Iterator[list[dict[str, Any]]], name: str, folder: Path) -> list[tuple[str, float]]:
    """Write ``steps`` steps of rows; sizes are scaled to 10,000 steps where fewer were written."""
    import json

    from grpo_project.record.samples import SampleStore

    raw, spent, slowest = 0, 0.0, 0.0
    with SampleStore(folder, 0, keep=0) as store:
        for step in range(1, steps + 1):
            rows = next(rows_of_step)
            raw += len(json.dumps(rows))
            started = time.perf_counter()
            store.append(step, rows)
            took = time.perf_counter() - started
            spent, slowest = spent + took, max(slowest, took)
    size = sum(path.stat().st_size for path in (folder / "samples").iterdir())
    scale = 10_000 / steps / 2**20
    return [
        (f"{name}: as JSON, MiB for 10,000 steps", raw * scale),
        (f"{name}: on the disk, MiB for 10,000 steps", size * scale),
        (f"{name}: bytes a completion", size / (steps * 64)),
        (f"{name}: append, ms a step (mean)", 1000 * spent / steps),
        (f"{name}: append, ms (slowest: seals a shard)", 1000 * slowest),
    ]


def judged(problem_id: str, prompt: str, code: str, tests: list[dict[str, Any]], reward: float) -> dict[str, Any]:
    return {
        "problem_id": problem_id,
        "level": "foundation",
        "prompt": prompt,
        "completion": f"```python\n{code}```",
        "code": code,
        "status": "failed",
        "passed": round(reward * len(tests)),
        "total": len(tests),
        "tests": tests,
        "reward": reward,
        "advantage": reward - 0.5,
    }


def small_programs(seed: int) -> Iterator[list[dict[str, Any]]]:
    """Steps of 8 built-in problems with 8 variants each of their solutions, as the embedded model writes them."""
    from grpo_project.problems.quickstart import builtin_problems

    chance, problems = random.Random(seed), builtin_problems("train")
    while True:
        rows = []
        for problem in chance.sample(problems, 8):
            for _ in range(8):
                code = "".join(str(chance.randint(0, 20)) if c.isdigit() else c for c in problem.solution or "")
                tests = [
                    {
                        "status": chance.choice(["passed", "failed"]),
                        "message": "",
                        "input": f"solve({', '.join(map(repr, test.args))})",
                        "expected": repr(test.expected),
                        "got": repr(test.expected) if chance.random() < 0.5 else str(chance.randint(-50, 50)),
                        "cpu_s": chance.random() / 1000,
                    }
                    for test in problem.tests
                ]
                rows.append(judged(problem.id, problem.prompt, code, tests, chance.random()))
        yield rows


def long_programs(seed: int) -> Iterator[list[dict[str, Any]]]:
    """Steps of 64 different programs of about 1.2 kB, put together from the lines of Python's standard library."""
    chance = random.Random(seed)
    library = sorted(Path(statistics.__file__).parent.glob("*.py"))
    lines = [line for path in library for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    while True:
        rows = []
        for i in range(64):
            starts = [chance.randrange(len(lines) - 5) for _ in range(6)]
            code = "\n".join(line for start in starts for line in lines[start : start + 5]) + "\n"
            tests = [
                {"status": "failed", "message": "", "input": f"f({chance.random()})", "expected": str(chance.random())}
                for _ in range(10)
            ]
            rows.append(judged(f"problem-{chance.randrange(5000)}", lines[starts[0]] * 8, code, tests, i / 64))
        yield rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    quick = parser.parse_args().quick
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = []
        for group in (8, 2):
            rows += step_against_evaluation(group, 12 if quick else 40, 1 if quick else 3, folder / f"groups-{group}")
        rows += overlap(COMPLETIONS, COMPLETIONS) + overlap(64 if quick else 256, 16)
        rows += disk(1000 if quick else 10_000, small_programs(0), "embedded model's programs", folder / "small")
        rows += disk(100 if quick else 1000, long_programs(0), "programs of 1.2 kB", folder / "long")
    table = Table("measured", "value", title="evaluation and records", title_justify="left")
    for label, value in rows:
        table.add_row(label, f"{value:,.3f}" if value < 10 else f"{value:,.1f}")
    console.print(table)


if __name__ == "__main__":
    main()

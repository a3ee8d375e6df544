"""What evaluation and records cost: time against a training step, and room on the disk.

    python benchmarks/bench_evaluation.py [--quick]

1. An evaluation of 8 problems against a training step of 8 completions, alternating in one run of the embedded model.
2. How much of the verification passes while the next batch is generated.
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


def step_against_evaluation(steps: int, folder: Path) -> list[tuple[str, float]]:
    """Medians over the steps of one run that evaluates after each.

    A batch takes as long as its longest completion. Groups of two make the training batch as varied as the evaluated
    problems; what is left of the difference is taken out by the time for each token of the longest completion.
    """
    from grpo_project.core.evaluations import read_evaluations
    from grpo_project.core.run_directory import Run

    flags = {
        "output_dir": folder,
        "max_steps": steps,
        "eval_every_n_steps": 1,
        "max_eval_samples": COMPLETIONS,
        "per_device_train_batch_size": COMPLETIONS,
        "num_generations": 2,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": 1,
        "save_strategy": "no",
        "enable_curriculum": "false",
    }
    command = [sys.executable, "-m", "grpo_project.cli", "train"]
    subprocess.run([*command, *(str(part) for k, v in flags.items() for part in (f"--{k}", v))], check=True)
    run, kept = Run(folder), read_evaluations(folder, columns=["tokens"])
    longest = kept.group_by("step").aggregate([("tokens", "max")]).to_pylist()
    lengths = {row["step"]: row["tokens_max"] for row in longest}
    steps_done = range(WARM_UP_STEPS + 1, steps + 1)
    trained = {row["step"]: row for row in run.metrics("train")}
    evaluated = {row["step"]: row for row in run.metrics("eval")}
    train_s = [trained[step]["step_time"] for step in steps_done]
    eval_s = [evaluated[step]["eval/seconds"] for step in steps_done]
    train_token_s = [trained[step]["step_time"] / trained[step]["completions/max_length"] for step in steps_done]
    eval_token_s = [evaluated[step]["eval/seconds"] / lengths[step] for step in steps_done]
    return [
        (f"training step of {COMPLETIONS} completions, s (median)", statistics.median(train_s)),
        (f"evaluation of {COMPLETIONS} problems, s (median)", statistics.median(eval_s)),
        ("evaluation / training step (medians)", statistics.median(eval_s) / statistics.median(train_s)),
        ("the same for each token of the longest", statistics.median(eval_token_s) / statistics.median(train_token_s)),
    ]


def overlap(problems: int) -> list[tuple[str, float]]:
    """One evaluation in batches of 16 with the embedded model and the real verifier."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from grpo_project.core.base_model import embedded_model_path
    from grpo_project.evaluation.evaluator import Evaluator
    from grpo_project.evaluation.generation import generation_mode
    from grpo_project.problems.quickstart import builtin_problems
    from grpo_project.verifier import Verifier

    model = AutoModelForCausalLM.from_pretrained(embedded_model_path())
    tokenizer = AutoTokenizer.from_pretrained(embedded_model_path())
    with Verifier(cache=False) as verifier:
        evaluator = Evaluator(builtin_problems("heldout")[:problems], tokenizer, verifier, batch_size=16)
        with generation_mode(model) as ready:
            evaluator.run(ready, 0)  # starts the workers
            started = time.perf_counter()
            done = evaluator.run(ready, 0)
            seconds = time.perf_counter() - started
    hidden = done.generation_s + done.verification_s - seconds
    return [
        (f"{problems} problems: generation, s", done.generation_s),
        (f"{problems} problems: verification, s", done.verification_s),
        (f"{problems} problems: both together, s", seconds),
        ("share of the verification hidden behind generation", hidden / done.verification_s),
    ]


def disk(steps: int, rows_of_step: Iterator[list[dict[str, Any]]], name: str, folder: Path) -> list[tuple[str, float]]:
    """Write ``steps`` steps of rows; sizes are scaled to 10,000 steps where fewer were written."""
    import json

    from grpo_project.core.samples import SampleStore

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
        rows = step_against_evaluation(12 if quick else 40, folder / "run")
        rows += overlap(64 if quick else 256)
        rows += disk(1000 if quick else 10_000, small_programs(0), "embedded model's programs", folder / "small")
        rows += disk(100 if quick else 1000, long_programs(0), "programs of 1.2 kB", folder / "long")
    table = Table("measured", "value", title="evaluation and records", title_justify="left")
    for label, value in rows:
        table.add_row(label, f"{value:,.3f}" if value < 10 else f"{value:,.1f}")
    console.print(table)


if __name__ == "__main__":
    main()

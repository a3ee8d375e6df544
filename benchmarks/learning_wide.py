"""The curriculum where it is meant to help: contestants on a set in which most problems are hopeless or solved.

    python benchmarks/bench_learning.py --set wide [--quick] [--seeds N] [--only NAME ...] [--report]

All are our own trainer on the embedded base with the numbers of its recipe, rewarded for solved programs alone; they
differ in which problems they draw. Held-out problems are sampled once each at temperature 1; what counts is the share
that is solved, by number of steps (``wide_set``). CPU seconds are those of the process and its sandbox, evaluations
left out. Finished runs are kept in ``--folder`` and not repeated.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from process_tree import cpu_seconds
from wide_contestants import CONTESTANTS

PROBLEMS = 20_000
HELD_OUT = 50  # of each length
EVALUATE_AT = (0, 10, 20, 30, 40, 60, 80, 100, 150)
STEPS, QUICK_STEPS, WARM_UP_STEPS = 100, 60, 80
GROUPS, GROUP = 16, 8

# ---- one run, in a process of its own --------------------------------------------------------------------------------


def arguments(scratch: str, seed: int, steps: int) -> Any:
    """The embedded recipe's numbers."""
    from trl import GRPOConfig

    from grpo_project.config import quickstart_recipe

    recipe = {flag: value for flag, value in quickstart_recipe().items() if flag in GRPOConfig.__dataclass_fields__}
    for name_of_save in ("save_steps", "save_total_limit"):
        recipe.pop(name_of_save, None)
    recipe |= {"per_device_train_batch_size": GROUPS * GROUP, "num_generations": GROUP, "max_completion_length": 96}
    recipe |= {"output_dir": scratch, "seed": seed, "use_cpu": True, "save_strategy": "no", "report_to": "none"}
    return GRPOConfig(**recipe | {"max_steps": steps, "disable_tqdm": True, "logging_steps": 1})


def warm_up(folder: Path) -> Path:
    """The model that all start from: the embedded base after some training on short programs, which it then solves.

    What is nearly always solved and what is never solved are then both in the set. Made once in ``folder``.
    """
    from wide_contestants import uniform
    from wide_set import warm_up_training

    from grpo_project.config import embedded_model_path

    made = folder / "wide_base"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            signal = Signal(uniform(warm_up_training(), 0))
            trainer = trained(Path(embedded_model_path()), signal, 0, 0, WARM_UP_STEPS, scratch)
            trainer.save_model(f"{scratch}/made")
            os.rename(f"{scratch}/made", made)
    return made


def train(name: str, seed: int, steps: int, scratch: str, base: Path) -> dict[str, Any]:
    """Train one contestant: its curve, and the share of groups with signal."""
    from wide_set import wide_heldout, wide_training

    source, max_resample = CONTESTANTS[name]
    signal = Signal(source(wide_training(PROBLEMS), seed))
    curve = curve_callback(wide_heldout(HELD_OUT), signal)
    trained(base, signal, max_resample, seed, steps, scratch, curve)
    return {"contestant": name, "seed": seed, "points": curve.points, "stages": signal.moves}


def trained(
    base: Path, signal: Signal, max_resample: int, seed: int, steps: int, scratch: str, curve: Any = None
) -> Any:
    """The trainer, after so many steps on the problems of ``signal.source``."""
    import torch

    torch.set_num_threads(1)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from grpo_project.problems.prompt import prompt_for
    from grpo_project.rewards import all_or_nothing
    from grpo_project.training.trainer import CodeTrainer
    from grpo_project.verifier import Verifier

    tokenizer = AutoTokenizer.from_pretrained(base)
    with Verifier(workers=1) as verifier:
        trainer = CodeTrainer(
            model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            args=arguments(scratch, seed, steps),
            processing_class=tokenizer,
            problem_source=signal.source,
            render=lambda problem: prompt_for(problem, tokenizer),
            judge=verifier,
            rewards=[all_or_nothing],
            epoch_size=len(signal.source.problems),
            observer=signal,
            extra_metrics=signal.source.metrics,
            max_resample=max_resample,
        )
        if curve is not None:
            curve.bind(trainer.model, tokenizer, verifier)
            trainer.add_callback(curve)
        trainer.train()
    return trainer


class Signal:
    """The trainer's observer: hands results on, and counts groups with variance and changes of stage."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.groups = self.varied = 0
        self.moves: list[list[Any]] = []

    def rollouts(self, step: int, rollouts: Any, results: Sequence[Any]) -> None:
        self.groups += len(results)
        self.varied += sum(result.varied for result in results)
        decision = self.source.observe_rollouts(step, results)
        if decision is not None and decision.action != "hold":
            self.moves.append([step, decision.next_stage, decision.cause])

    def resampled(self, step: int, without_variance: int, groups: int, attempts: int) -> None:
        self.source.observe_resampling(step, without_variance, groups, attempts)


def curve_callback(heldout: dict[int, list[Any]], signal: Signal) -> Any:
    """A callback that measures into ``points``: step, CPU s, groups judged, share with variance, solved by length."""
    from transformers import TrainerCallback

    from grpo_project.evaluation.evaluator import Evaluator
    from grpo_project.generation.generator import generation_mode

    flat = [problem for problems in heldout.values() for problem in problems]
    length_of = {problem.id: length for length, problems in heldout.items() for problem in problems}

    class Curve(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.points: list[list[Any]] = []
            self.not_counted = 0.0

        def bind(self, model: Any, tokenizer: Any, verifier: Any) -> None:
            self.model = model
            self.evaluator = Evaluator(flat, tokenizer, verifier, temperature=1.0, batch_size=256, max_new_tokens=96)

        def measure(self, step: int) -> None:
            cpu_s = sum(cpu_seconds(os.getpid())) - self.not_counted
            with generation_mode(self.model) as ready:
                records = self.evaluator.run(ready, step).records
            solved = [
                statistics.mean(r.verdict.solved for r in records if length_of[r.problem_id] == length)
                for length in heldout
            ]
            share = signal.varied / signal.groups if signal.groups else 0.0
            self.points.append([step, cpu_s, signal.groups, share, solved])
            signal.groups = signal.varied = 0
            self.not_counted = sum(cpu_seconds(os.getpid())) - cpu_s

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.not_counted = sum(cpu_seconds(os.getpid()))
            self.measure(0)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in EVALUATE_AT or state.global_step == state.max_steps:
                self.measure(state.global_step)

    return Curve()


# ---- the tables ------------------------------------------------------------------------------------------------------


def solved(point: list[Any]) -> float:
    """Share of the held-out problems that are solved, lengths alike."""
    return statistics.mean(point[4])


def seconds_to(run: dict[str, Any], target: float) -> float | None:
    """CPU seconds at which the curve first meets ``target``, between two points by a straight line."""
    for before, after in pairwise(run["points"]):
        if solved(after) >= target:
            share = (target - solved(before)) / (solved(after) - solved(before))
            return float(before[1] + share * (after[1] - before[1]))
    return None


def report(options: Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    runs = {name: read(options, name) for name in CONTESTANTS}
    runs = {name: found for name, found in runs.items() if found}
    if "uniform" not in runs:
        raise SystemExit("bench_learning: no run of the control is there")
    ends = {run["seed"]: solved(run["points"][-1]) for run in runs["uniform"]}
    table = Table(
        "contestant", "seeds", "CPU s", "with signal", "solved", "by steps 1 to 6", "s to uniform's end", "times fewer"
    )
    for name, found in runs.items():
        last = [run["points"][-1] for run in found]
        judged = [sum(p[2] * p[3] for p in run["points"]) / sum(p[2] for p in run["points"]) for run in found]
        lengths = " ".join(f"{statistics.mean(p[4][i] for p in last):.2f}" for i in range(len(last[0][4])))
        theirs = {run["seed"]: run for run in runs["uniform"]}
        times, ratios = [], []
        for run in found:
            if run["seed"] in ends:
                needed = seconds_to(run, ends[run["seed"]])
                times.append("never" if needed is None else f"{needed:.0f}")
                own = seconds_to(theirs[run["seed"]], ends[run["seed"]])
                ratios.append("" if needed is None or own is None else f"{own / needed:.2f}")
        table.add_row(
            name,
            str(len(found)),
            f"{statistics.mean(p[1] for p in last):.0f}",
            f"{statistics.mean(judged):.2f}",
            " ".join(f"{solved(p):.3f}" for p in last),
            lengths,
            " ".join(times),
            " ".join(ratios),
        )
    console = Console(width=150)
    console.print(table)
    first = statistics.mean(solved(run["points"][0]) for found in runs.values() for run in found)
    console.print(f"before training: {first:.3f}")
    for name, found in runs.items():
        for run in found:
            curve = ", ".join(f"{p[0]}: {solved(p):.3f}" for p in run["points"])
            console.print(f"{name}, seed {run['seed']}: {curve}; stages {run['stages']}", highlight=False)


def file_of(options: Namespace, name: str, seed: int) -> Path:
    steps = QUICK_STEPS if options.quick else STEPS
    return options.folder / f"wide_{steps}_{name.replace(',', '').replace(' ', '_')}_{seed}.json"


def read(options: Namespace, name: str) -> list[dict[str, Any]]:
    files = [file_of(options, name, seed) for seed in range(options.seeds)]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def run_one(options: Namespace, name: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        found = train(name, seed, QUICK_STEPS if options.quick else STEPS, scratch, options.folder / "wide_base")
    file_of(options, name, seed).write_text(json.dumps(found))


def missing(options: Namespace) -> list[tuple[str, int]]:
    warm_up(options.folder)
    wanted = [(name, seed) for seed in range(options.seeds) for name in options.only or CONTESTANTS]
    return [(name, seed) for name, seed in wanted if not file_of(options, name, seed).exists()]


def command_of(options: Namespace, name: str, seed: int) -> list[str]:
    script = str(Path(__file__).with_name("bench_learning.py"))
    quick = ["--quick"] if options.quick else []
    return [sys.executable, script, "--set", "wide", *quick, "--folder", str(options.folder), "--run", name, str(seed)]

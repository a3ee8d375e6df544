"""How soon the embedded model reaches a held-out pass rate: our defaults against plain TRL with uniform sampling.

    python benchmarks/bench_learning.py [--seeds N] [--target 0.85] [--jobs N] [--folder FOLDER] [--report]
    python benchmarks/bench_learning.py --set wide [--quick]      (learning_wide.py)

Contestants, all from the same base model, problems, sandbox and seeds, one torch thread each:

  trl LR     TRL's ``GRPOTrainer`` as it comes: uniform sampling, groups of 8, 64 completions a step, linear decay;
             at three learning rates, of which the best counts
  trl recipe TRL's ``GRPOTrainer`` with the numbers of our recipe (what is left is our code)
  uniform    our trainer with our recipe, without a curriculum
  ours       our trainer with our recipe and its curriculum

The held-out problems (all 500) are sampled once each at temperature 1 every few steps. CPU seconds are those of the
process and its sandbox, evaluations left out. A run that was interrupted is not repeated: finished runs are kept in
``--folder``, and ``--report`` prints the tables from there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import learning_wide
from process_tree import cpu_seconds

Run = dict[str, Any]
Point = tuple[int, float, int, float, list[float]]
PLAIN = {"per_device_train_batch_size": 64, "num_generations": 8, "max_steps": 150}
CONTESTANTS: dict[str, dict[str, Any]] = {
    "trl 4e-4": PLAIN | {"learning_rate": 4e-4},
    "trl 8e-4": PLAIN | {"learning_rate": 8e-4},
    "trl 1.2e-3": PLAIN | {"learning_rate": 1.2e-3},
    "trl recipe": {},
    "uniform": {},
    "ours": {},
}
EVALUATE_AT = (10, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90, 100, 125, 150, 200, 250)
STOPPED_AT = {"trl recipe": 100}
"""Optimizer steps after which a contestant need not go on; its learning rate is scheduled for all of the recipe's."""
SHOWN = ("learning_rate", "lr_scheduler_type", "warmup_steps", "num_generations", "per_device_train_batch_size")


# ---- one run, in a process of its own --------------------------------------------------------------------------------


def train(name: str, seed: int, scratch: str) -> Run:
    """Train one contestant and return its curve: (step, CPU s, completions, pass rate, pass rate by level)."""
    import torch

    torch.set_num_threads(1)
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig

    from grpo_project.config import embedded_model_path, quickstart_recipe
    from grpo_project.verifier import Verifier

    flags = GRPOConfig.__dataclass_fields__
    recipe = {flag: value for flag, value in quickstart_recipe().items() if flag in flags}
    own = CONTESTANTS[name]
    if own:  # TRL as it comes: of the recipe only what makes it run on this model and machine
        needed = ("max_completion_length", "beta", "temperature", "gradient_checkpointing", "bf16")
        recipe = {flag: recipe[flag] for flag in needed}
    settings = recipe | own | {"output_dir": scratch, "seed": seed, "use_cpu": True}
    settings |= {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": 1}
    for name_of_save in ("save_steps", "save_total_limit"):
        settings.pop(name_of_save, None)
    args = GRPOConfig(**settings)
    tokenizer = AutoTokenizer.from_pretrained(embedded_model_path())
    model = AutoModelForCausalLM.from_pretrained(embedded_model_path(), dtype=torch.float32)
    with Verifier(workers=1) as verifier:
        if name.startswith("trl"):
            trainer = plain_trainer(model, tokenizer, args, verifier)
        else:
            trainer = our_trainer(model, tokenizer, args, verifier, curriculum=name == "ours")
        curve = curve_callback(model, tokenizer, verifier, args.per_device_train_batch_size, STOPPED_AT.get(name))
        trainer.add_callback(curve)
        trainer.train()
    return {"contestant": name, "seed": seed, "points": curve.points, "settings": {k: settings.get(k) for k in SHOWN}}


def plain_trainer(model: Any, tokenizer: Any, args: Any, verifier: Any) -> Any:
    from datasets import Dataset
    from trl import GRPOTrainer

    from grpo_project.problems.prompt import messages
    from grpo_project.problems.quickstart import builtin_problems
    from grpo_project.verifier import Job

    problems = builtin_problems("train")

    def pass_rate(completions: list[Any], place: list[int], **_: Any) -> list[float]:
        jobs = [Job(problems[i], completion[0]["content"]) for i, completion in zip(place, completions, strict=True)]
        return [verdict.pass_rate for verdict in verifier.verify_many(jobs)]

    rows = {"prompt": [messages(problem) for problem in problems], "place": list(range(len(problems)))}
    return GRPOTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        reward_funcs=pass_rate,
        train_dataset=Dataset.from_dict(rows),
    )


def our_trainer(model: Any, tokenizer: Any, args: Any, verifier: Any, curriculum: bool) -> Any:
    from grpo_project.curriculum import Curriculum, UniformSource
    from grpo_project.problems.prompt import prompt_for
    from grpo_project.problems.quickstart import builtin_problems
    from grpo_project.rewards import pass_rate
    from grpo_project.training.observer import EventWriter, RunObserver
    from grpo_project.training.trainer import CodeTrainer

    problems = builtin_problems("train")
    # No evaluation is to be expected: the curve's are the referee's, and rollouts alone move the curriculum.
    source = (Curriculum if curriculum else UniformSource)(problems, seed=args.seed, evaluation_interval=0)
    observer = RunObserver(source, (), EventWriter(None, lambda line: None), None, lambda reason: None)
    return CodeTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        problem_source=source,
        render=lambda problem: prompt_for(problem, tokenizer),
        judge=verifier,
        rewards=[pass_rate],
        epoch_size=len(problems),
        observer=observer,
        extra_metrics=source.metrics,
    )


def curve_callback(model: Any, tokenizer: Any, verifier: Any, completions_a_step: int, stop_at: int | None) -> Any:
    """A callback that measures held-out pass rates into ``points``; it leaves model and random state as they were."""
    from transformers import TrainerCallback

    from grpo_project.evaluation.evaluator import Evaluator
    from grpo_project.generation.generator import generation_mode
    from grpo_project.problems.problem import LEVELS
    from grpo_project.problems.quickstart import builtin_problems

    options = {"temperature": 1.0, "batch_size": 250, "max_new_tokens": 64}
    evaluator = Evaluator(builtin_problems("heldout"), tokenizer, verifier, **options)

    class Curve(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.points: list[Point] = []
            self.not_counted = 0.0

        def measure(self, step: int) -> None:
            cpu_s = sum(cpu_seconds(os.getpid())) - self.not_counted
            with generation_mode(model) as ready:
                records = evaluator.run(ready, step).records
            levels = [statistics.mean(r.verdict.pass_rate for r in records if r.level == level) for level in LEVELS]
            self.points.append((step, cpu_s, step * completions_a_step, statistics.mean(levels), levels))
            self.not_counted = sum(cpu_seconds(os.getpid())) - cpu_s

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.not_counted = sum(cpu_seconds(os.getpid()))
            self.measure(0)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in EVALUATE_AT or state.global_step == state.max_steps:
                self.measure(state.global_step)
            control.should_training_stop |= state.global_step == stop_at

    return Curve()


# ---- all runs --------------------------------------------------------------------------------------------------------


def run_missing(options: argparse.Namespace) -> None:
    """Start what is not in the folder yet, ``--jobs`` at a time, seeds in the outer loop."""
    from rich.progress import Progress

    if options.set == "wide":
        missing, file_for = learning_wide.missing(options), learning_wide.file_of
    else:
        wanted = [(name, seed) for seed in range(options.seeds) for name in options.only or CONTESTANTS]
        missing = [(name, seed) for name, seed in wanted if not file_of(options, name, seed).exists()]
        file_for = file_of
    running: dict[subprocess.Popen[bytes], Path] = {}
    with Progress(transient=True) as progress:
        bar = progress.add_task("training", total=len(missing))
        while missing or running:
            while missing and len(running) < options.jobs:
                name, seed = missing.pop(0)
                file = file_for(options, name, seed)
                if file.exists():  # by another process on the same folder, meanwhile
                    progress.advance(bar)
                    continue
                command = [sys.executable, __file__, "--folder", str(options.folder), "--run", name, str(seed)]
                if options.set == "wide":
                    command = learning_wide.command_of(options, name, seed)
                log = file.with_suffix(".log").open("wb")
                running[subprocess.Popen(command, stdout=log, stderr=log, env=environment())] = file
            time.sleep(0.5)
            for process, file in list(running.items()):
                if process.poll() is not None:
                    del running[process]
                    progress.advance(bar)
                    if process.returncode:
                        raise SystemExit(f"bench_learning: a run failed, see {file.with_suffix('.log')}")


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}


def file_of(options: argparse.Namespace, name: str, seed: int) -> Path:
    return options.folder / f"{name.replace(' ', '_')}_{seed}.json"


def read_runs(options: argparse.Namespace) -> dict[str, list[Run]]:
    """Finished runs by contestant, in the order of their seeds."""
    files = {n: [file_of(options, n, seed) for seed in range(options.seeds)] for n in CONTESTANTS}
    return {n: [json.loads(f.read_text()) for f in found if f.exists()] for n, found in files.items()}


# ---- the tables ------------------------------------------------------------------------------------------------------


def reached(run: Run, target: float, column: int) -> float:
    """Where the curve first meets ``target``, between two points by a straight line; infinite if it never does.

    ``column`` of a point: 0 steps, 1 CPU seconds, 2 completions.
    """
    for before, after in pairwise(run["points"]):
        if after[3] >= target:
            share = (target - before[3]) / (after[3] - before[3])
            return before[column] + share * (after[column] - before[column])
    return math.inf


def rate_at(run: Run, cpu_s: float) -> list[float]:
    """Pass rate, overall and by level, after ``cpu_s`` CPU seconds, by a straight line; the last where it ended."""
    for before, after in pairwise(run["points"]):
        if after[1] >= cpu_s:
            share = (cpu_s - before[1]) / (after[1] - before[1])
            pairs = zip([before[3], *before[4]], [after[3], *after[4]], strict=True)
            return [b + share * (a - b) for b, a in pairs]
    return [run["points"][-1][3], *run["points"][-1][4]]


def interval(values: list[float]) -> tuple[float, float]:
    """The 95% interval of a mean, by Student's t."""
    if len(values) < 2:
        return -math.inf, math.inf
    half = T95[len(values) - 2] * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - half, statistics.mean(values) + half


T95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t, two-sided 95%, for 1 to 9 degrees of freedom."""


def report(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    runs = {name: found for name, found in read_runs(options).items() if found}
    console, target = Console(width=140), options.target
    table = Table("contestant", "seeds", "CPU s", "steps", "completions", "reached", "CPU s a step", "at the end")
    table.title = f"to a held-out pass rate of {target:g}: means over seeds (inf: a seed never reached it)"
    for name, found in runs.items():
        means = [statistics.mean(reached(run, target, column) for run in found) for column in (1, 0, 2)]
        last = [run["points"][-1] for run in found]
        table.add_row(
            name,
            str(len(found)),
            *(f"{mean:.0f}" for mean in means),
            f"{sum(math.isfinite(reached(run, target, 0)) for run in found)}/{len(found)}",
            f"{statistics.mean(point[1] / point[0] for point in last):.2f}",
            f"{statistics.mean(point[3] for point in last):.3f} after {statistics.mean(p[1] for p in last):.0f} s",
        )
    console.print(table)
    plain = [name for name in runs if CONTESTANTS[name]]
    if "ours" not in runs or not plain:
        return
    best = min(plain, key=lambda name: statistics.mean(reached(run, target, 1) for run in runs[name]))
    table = Table("ours against", "CPU s: times fewer", "steps: times fewer", "completions: times fewer")
    table.title = "geometric means over seeds, with 95% intervals"
    for name in (best, *(n for n in runs if not CONTESTANTS[n] and n != "ours")):
        table.add_row(
            f"{name} (best of TRL's rates)" if name == best else name, *ratios(runs[name], runs["ours"], target)
        )
    console.print(table)
    console.print(equal_time(runs[best], runs["ours"], best))


def ratios(theirs: list[Run], ours: list[Run], target: float) -> list[str]:
    """For CPU seconds, steps and completions."""
    cells = []
    for column in (1, 0, 2):
        pairs = [(reached(t, target, column), reached(o, target, column)) for t, o in zip(theirs, ours, strict=False)]
        if not all(math.isfinite(value) for pair in pairs for value in pair):
            cells.append("a seed never reached it")
            continue
        logs = [math.log(t / o) for t, o in pairs]
        low, high = interval(logs)
        cells.append(f"{math.exp(statistics.mean(logs)):.2f} ({math.exp(low):.2f} to {math.exp(high):.2f})")
    return cells


def equal_time(theirs: list[Run], ours: list[Run], name: str) -> Any:
    """Pass rates by level when the shorter of each pair of runs ends."""
    from rich.table import Table

    from grpo_project.problems.problem import LEVELS

    pairs = [(t, o, min(t["points"][-1][1], o["points"][-1][1])) for t, o in zip(theirs, ours, strict=False)]
    table = Table("after equal CPU time", name, "ours", "difference", "95% interval")
    table.title = f"{statistics.mean(seconds for *_, seconds in pairs):.0f} CPU s"
    for i, level in enumerate(("all", *LEVELS)):
        found = [(rate_at(t, s)[i], rate_at(o, s)[i]) for t, o, s in pairs]
        low, high = interval([o - t for t, o in found])
        means = [statistics.mean(column) for column in zip(*found, strict=True)]
        table.add_row(
            level, f"{means[0]:.3f}", f"{means[1]:.3f}", f"{means[1] - means[0]:+.3f}", f"{low:+.3f} to {high:+.3f}"
        )
    return table


def draw(options: argparse.Namespace) -> None:
    """A page with pass rate against CPU seconds: every seed, and at equal times the mean over seeds."""
    from grpo_project.reports.page import page_html

    runs = {name: found for name, found in read_runs(options).items() if found}
    plain = [name for name in runs if CONTESTANTS[name]]
    best = min(plain, key=lambda name: statistics.mean(reached(run, options.target, 1) for run in runs[name]))
    last = int(min(run["points"][-1][1] for run in runs[best]) // 10 * 10)
    seconds = list(range(0, last + 1, 2))
    curves = []
    for name in (best, "trl recipe", "ours"):
        seeds = [[[point[1] for point in run["points"]], [point[3] for point in run["points"]]] for run in runs[name]]
        mean = [statistics.mean(rate_at(run, s)[0] for run in runs[name]) for s in seconds]
        curves.append({"name": name, "points": [seconds, mean], "seeds": seeds})
    figure = {
        "id": "speed",
        "title": "Held-out pass rate of the embedded model",
        "note": "By CPU seconds, evaluations left out. Thick: the mean over seeds; thin: each seed.",
        "x": "CPU seconds",
        "last": last,
        "curves": curves,
    }
    page = page_html("How soon", {"runs": [], "comparison": None, "figures": [figure]})
    options.draw.write_text(page, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=("embedded", "wide"), default="embedded", help="wide: see learning_wide.py")
    parser.add_argument("--quick", action="store_true", help="wide: two seeds of 40 steps")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--target", type=float, default=0.85)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; more than one makes CPU seconds dearer")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "grpo-bench-learning")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="train these alone")
    parser.add_argument("--report", action="store_true", help="print the tables of the runs that are there")
    parser.add_argument("--draw", type=Path, help="write a page with the curves (HTML; tools/picture.py)")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    options.seeds = options.seeds or (2 if options.quick else 5)
    if options.set == "wide":
        if options.run:
            learning_wide.run_one(options, options.run[0], int(options.run[1]))
            return 0
        if not options.report:
            run_missing(options)
        learning_wide.report(options)
        return 0
    if unknown := set(options.only or ()) - set(CONTESTANTS):
        parser.error(f"--only {unknown.pop()}: choose from {', '.join(CONTESTANTS)}")
    if options.run:
        name, seed = options.run
        with tempfile.TemporaryDirectory() as scratch:
            found = train(name, int(seed), scratch)
        file_of(options, name, int(seed)).write_text(json.dumps(found))
        return 0
    if not options.report:
        run_missing(options)
    report(options)
    if options.draw:
        draw(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())

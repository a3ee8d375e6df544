"""Evaluate one model, or two side by side, on held-out problems: real pass rates with 95% intervals.

Each completion is kept below --output as it ends. A command that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_project.commands import problem_flags
from grpo_project.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from grpo_project.evaluation.result import EvaluationResult
    from grpo_project.problems.problem import Problem

DEFAULT_MAX_NEW_TOKENS = 512
PLAIN_LINE_EVERY_S = 15.0  # where there is no terminal for a bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        "--model_name",
        nargs="+",
        metavar="MODEL",
        help="hub id or folder, a run's output or a checkpoint too; two are compared (default: the embedded model)",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="ask a server that speaks the OpenAI protocol (http://127.0.0.1:8000/v1) for --model NAME; its key is "
        "$OPENAI_API_KEY",
    )
    parser.add_argument("--concurrency", type=int, default=16, metavar="N", help="requests to the endpoint at once")
    parser.add_argument(
        "--dataset",
        "--dataset_path",
        metavar="FILE",
        help=f"{problem_flags.DATASET} (default: builtin)",
    )
    problem_flags.add_arguments(parser)
    parser.add_argument(
        "--output_dir",
        "--output",
        dest="output",
        default="runs/evaluations",
        metavar="DIR",
        help="where results are kept",
    )
    parser.add_argument("--max_problems", type=int, metavar="N", help="only N problems, balanced over the levels")
    parser.add_argument("--levels", nargs="+", metavar="LEVEL", help="only problems of these levels")
    parser.add_argument("--num_samples", type=int, default=1, metavar="S", help="completions of each problem")
    parser.add_argument("--k", type=int, nargs="+", metavar="K", help="report pass@K (default: 1, 5, 10 up to S)")
    parser.add_argument(
        "--temperature", type=float, help="0 is greedy (default: 0 for one completion, 0.8 for several)"
    )
    parser.add_argument("--max_new_tokens", type=int, default=DEFAULT_MAX_NEW_TOKENS, metavar="N")
    parser.add_argument("--batch_size", type=int, default=64, metavar="B", help="completions generated at once")
    parser.add_argument("--seed", type=int, default=0, help="chooses problems and seeds the sampling")
    parser.add_argument("--system_prompt", help="system message for chat models")
    parser.add_argument(
        "--verifier_address", metavar="ADDRESS", help="judge on a Ray cluster: ray, auto, HOST:PORT or ray://HOST:PORT"
    )
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    check(args)
    problems = find_problems(args)
    models = args.model if args.endpoint else [find_model_folder(name) for name in args.model or [None]]
    from grpo_project.evaluation.evaluator import resolve_ks, resolve_temperature  # torch: seconds
    from grpo_project.evaluation.tables import comparison_table, result_table, status_line

    args.k = resolve_ks(args.num_samples, args.k)
    args.temperature = resolve_temperature(args.num_samples, args.temperature)
    console = Console()
    results = [evaluate_model(args, model, problems, console) for model in models]
    names = [shown_name(name) for name in args.model or ["embedded model"]]
    for name, result in zip(names, results, strict=True):
        console.print(result_table(result, f"{name} on {result.source}"))
        console.print(f"{len(result.records)} completions: {status_line(result)}", style="dim")
        for warning in result.warnings():
            console.print(f"warning: {warning}", style="yellow")
    if len(results) == 2:
        console.print(comparison_table(results[0], results[1], names))
    return 0


def check(args: argparse.Namespace) -> None:
    """Raise ``ConfigError`` for flags that can't be meant, before anything is loaded."""
    if args.model and len(args.model) > 2:
        raise ConfigError(f"--model takes one model, or two to compare, not {len(args.model)}")
    if args.endpoint is not None and not args.model:
        raise ConfigError("--endpoint needs --model NAME: what the server calls the model")
    for name in ("concurrency", "max_problems", "num_samples", "max_new_tokens", "batch_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} is {value}; it must be at least 1")


def find_problems(args: argparse.Namespace) -> tuple[Problem, ...]:
    """The problems to evaluate, in a fixed order."""
    from grpo_project.problems.problem import BUILTIN
    from grpo_project.problems.selection import select_problems

    problems = problem_flags.problems(args, args.dataset or BUILTIN, "heldout")
    return select_problems(problems, args.max_problems or len(problems), args.seed, args.levels)


def find_model_folder(name: str | None) -> str:
    from grpo_project.training.plan import find_model

    return find_model(name, flag="--model")


def evaluate_model(
    args: argparse.Namespace, model: str, problems: tuple[Problem, ...], console: Console
) -> EvaluationResult:
    """Evaluate a model, or read what an earlier command has found out already."""
    from grpo_project.evaluation.result import EvaluationResult
    from grpo_project.evaluation.saved import SavedEvaluation

    saved = SavedEvaluation(args.output, shown_name(model), settings(args, model, problems))
    batches = saved.finished_batches()
    if saved.complete:
        records = [record for number in sorted(batches) for record in batches[number]]
        console.print(f"evaluated before; read from {saved.folder} (remove it to evaluate again)")
        return EvaluationResult(0, tuple(records), 0.0, 0.0, 0.0, args.k)
    result = generate_and_judge(args, model, problems, saved, batches, console)
    saved.finish(result)
    console.print(f"records and numbers: {saved.folder}")
    return result


def generate_and_judge(
    args: argparse.Namespace,
    model_name: str,
    problems: tuple[Problem, ...],
    saved: Any,
    batches: dict[int, Any],
    console: Console,
) -> EvaluationResult:
    import time
    from dataclasses import asdict

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from grpo_project.evaluation.evaluator import EvaluationOutOfMemory, Evaluator
    from grpo_project.evaluation.models import load_model
    from grpo_project.evaluation.result import EvaluationResult
    from grpo_project.generation.endpoint import Endpoint
    from grpo_project.generation.generator import generation_mode
    from grpo_project.generation.request import Generation
    from grpo_project.verifier import Verifier

    started = time.perf_counter()
    model = tokenizer = endpoint = None
    if args.endpoint is None:
        model, tokenizer = load_model(model_name, args.dtype)
    else:
        endpoint = Endpoint(args.endpoint, model_name, concurrency=args.concurrency)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        closing(Verifier(address=args.verifier_address)) as verifier,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        evaluator = Evaluator(
            problems,
            tokenizer,
            verifier,
            num_samples=args.num_samples,
            temperature=args.temperature,
            seed=args.seed,
            batch_size=args.batch_size,
            max_new_tokens=args.max_new_tokens,
            system_prompt=args.system_prompt,
            generate=endpoint,
        )
        judged = {(record.problem_id, record.sample) for records in batches.values() for record in records}
        kept = {key: Generation(**made) for key, made in saved.kept_completions().items() if key not in judged}
        if done := len(judged) + len(kept):
            console.print(f"going on after {done} completions of an earlier start")
        total = len(problems) * args.num_samples
        task = progress.add_task(shown_name(model_name), total=total, completed=done)
        count, line_due = done, time.monotonic() + PLAIN_LINE_EVERY_S

        def on_completion(problem: Problem, sample: int, made: Generation) -> None:
            nonlocal count, line_due
            saved.keep(problem.id, sample, **asdict(made))
            progress.advance(task)
            count += 1
            if not console.is_terminal and time.monotonic() >= line_due:
                line_due = time.monotonic() + PLAIN_LINE_EVERY_S
                console.print(f"{count} of {total} completions")

        try:
            with nullcontext() if model is None else generation_mode(model) as ready:
                found = evaluator.run(
                    ready, 0, finished=batches, on_batch=saved.append, kept=kept, on_completion=on_completion
                )
        except EvaluationOutOfMemory as error:
            raise ConfigError(f"--batch_size {args.batch_size}: {error}") from error
    seconds = time.perf_counter() - started
    return EvaluationResult(0, tuple(found.records), found.generation_s, found.verification_s, seconds, args.k)


def settings(args: argparse.Namespace, model: str, problems: tuple[Problem, ...]) -> dict[str, Any]:
    """What decides the outcome. A folder's files count by size and time: a model that was trained on is another one."""
    from grpo_project.problems.identity import dataset_fingerprint

    names = ("num_samples", "temperature", "max_new_tokens", "batch_size", "seed", "system_prompt", "dtype")
    if args.endpoint is not None:  # what it serves under this name is not for us to know
        asked = {"endpoint": args.endpoint, "model": model, "problems": dataset_fingerprint(problems)}
        return {**asked, "count": len(problems), **{name: getattr(args, name) for name in names if name != "dtype"}}
    files = sorted(path for path in Path(model).glob("*") if path.suffix in (".safetensors", ".bin", ".json"))
    stamps = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    return {
        "model": model,
        "files": stamps,
        "problems": dataset_fingerprint(problems),
        "count": len(problems),
        **{name: getattr(args, name) for name in names},
    }


def shown_name(model: str) -> str:
    """The last part of a path or hub id."""
    return Path(model).name or model

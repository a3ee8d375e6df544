"""Rebuild the embedded base model from its seed (about ten minutes on one CPU core)."""

from __future__ import annotations

import argparse
from pathlib import Path

from grpo_project.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0, help="seed of tokenizer, weights and warm-up (default: 0)")
    parser.add_argument(
        "--steps", type=int, help="optimizer steps of the warm-up (default: those of the shipped model)"
    )


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from rich.progress import Progress, TextColumn
    from transformers.utils import logging

    from grpo_project.core.base_model import WarmUp, build_base_model

    if args.steps is not None and args.steps < 1:
        raise ConfigError(f"--steps is {args.steps}; it must be at least 1")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {args.output}: {error.strerror}; give a folder that can be written") from error
    recipe = WarmUp() if args.steps is None else replace(WarmUp(), steps=args.steps)
    logging.disable_progress_bar()
    with Progress(*Progress.get_default_columns(), TextColumn("loss {task.fields[loss]:.3f}")) as progress:
        task = progress.add_task("warm-up", total=recipe.steps, loss=float("nan"))
        losses = build_base_model(
            args.output, args.seed, recipe, lambda step, loss: progress.update(task, completed=step, loss=loss)
        )
    print(f"built in {args.output}: seed {args.seed}, {recipe.steps} steps, last loss {losses[-1]:.3f} nats a token")
    return 0

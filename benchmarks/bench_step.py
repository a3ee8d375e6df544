"""A training step without its padding: sampling and the loss, ours against TRL's own code, in one run.

    python benchmarks/bench_step.py [--rounds N] [--groups P] [--size G] [--tokens C] [--model FOLDER]

The embedded model or another and the built-in problems, one torch thread, CPU time, medians of rounds in which the two
take turns on the same prompts and the same completions. The floor says what a forward and backward pass over the
batch's real tokens costs, each prompt once, without a mask and without a head.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from grpo_project.config import embedded_model_path


def build(model: str, groups: int, size: int, tokens: int, scratch: str) -> Any:
    """A trainer whose loss and sampling can be called piece by piece; its judge is never asked."""
    import torch

    torch.set_num_threads(1)
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig

    from grpo_project.curriculum import UniformSource
    from grpo_project.problems.prompt import prompt_for
    from grpo_project.problems.quickstart import builtin_problems
    from grpo_project.rewards import pass_rate
    from grpo_project.training.trainer import CodeTrainer
    from grpo_project.verifier import Verifier

    tokenizer = AutoTokenizer.from_pretrained(model)
    settings: dict[str, Any] = {"per_device_train_batch_size": groups * size, "num_generations": size, "beta": 0.0}
    settings |= {"max_completion_length": tokens, "bf16": False, "use_cpu": True, "gradient_checkpointing": False}
    args = GRPOConfig(output_dir=scratch, report_to="none", disable_tqdm=True, save_strategy="no", **settings)
    trainer = CodeTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=args,
        processing_class=tokenizer,
        problem_source=UniformSource(builtin_problems("train")),
        render=lambda problem: prompt_for(problem, tokenizer),
        judge=Verifier(),
        rewards=[pass_rate],
        epoch_size=2000,
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def batch_of(trainer: Any, groups: int, size: int) -> tuple[list[list[int]], dict[str, Any]]:
    """Prompts of ``groups`` problems, ``size`` times each, and a batch: sampled completions, made-up advantages."""
    import torch
    from trl.trainer.utils import pad

    problems = trainer.problem_source.draw(groups)
    tokenizer = trainer._tokenizer
    texts = [
        tokenizer.apply_chat_template(trainer.render(p), add_generation_prompt=True, tokenize=False) for p in problems
    ]
    prompts = [ids for ids in tokenizer(texts).input_ids for _ in range(size)]
    completions = trainer._generate_single_turn(prompts, None, {}, size)[0]
    sides = {"prompt": (prompts, "left"), "completion": (completions, "right")}
    batch: dict[str, Any] = {}
    for name, (rows, side) in sides.items():
        tensors = [torch.tensor(ids) for ids in rows]
        batch[f"{name}_ids"] = pad(tensors, padding_value=0, padding_side=side)
        batch[f"{name}_mask"] = pad([torch.ones_like(t) for t in tensors], padding_value=0, padding_side=side)
    batch["advantages"] = torch.linspace(-1, 1, len(prompts))  # none is 0: all rows count
    batch["num_items_in_batch"] = batch["completion_mask"].sum()
    return prompts, batch


def floor_of(trainer: Any, batch: dict[str, Any]) -> Callable[[], None]:
    """Forward and backward of the layers over as many tokens as there are, each prompt once, in one row."""
    import torch

    lengths = {tuple(ids[m.bool()].tolist()) for ids, m in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)}
    tokens = sum(map(len, lengths)) + int(batch["completion_mask"].sum())
    ids = torch.randint(4, 600, (max(1, tokens // 64), 64))  # the pass costs what its tokens do, whichever they are

    def run() -> None:
        trainer.model.zero_grad()
        trainer.model.base_model(input_ids=ids, use_cache=False).last_hidden_state.sum().backward()

    return run


def seconds(action: Callable[[], Any]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--size", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64, help="of a completion at most")
    parser.add_argument("--model", default="", help="a folder; default: the embedded model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model or str(embedded_model_path())
        trainer = build(folder, options.groups, options.size, options.tokens, scratch)
        times: dict[str, list[float]] = {}
        for round in range(options.rounds + 1):
            prompts, batch = batch_of(trainer, options.groups, options.size)

            def sample(padding_free: bool, prompts: list[list[int]] = prompts) -> None:
                trainer.padding_free = padding_free
                trainer._generate_single_turn(prompts, None, {}, options.size)

            def learn(padding_free: bool, batch: dict[str, Any] = batch) -> None:
                trainer.padding_free = padding_free
                trainer.model.zero_grad()
                trainer._compute_loss(trainer.model, batch).backward()

            found = {
                "sampling, TRL": seconds(lambda: sample(False)),
                "sampling, ours": seconds(lambda: sample(True)),
                "loss, TRL": seconds(lambda: learn(False)),
                "loss, ours": seconds(lambda: learn(True)),
                "loss, floor": seconds(floor_of(trainer, batch)),
            }
            if round:  # the first one warms up
                for name, value in found.items():
                    times.setdefault(name, []).append(value)
        trainer.judge.close()
    table = Table(
        "part",
        "TRL, ms",
        "ours, ms",
        "times faster",
        "floor, ms",
        title=f"{options.groups} x {options.size} x {options.tokens}",
    )
    for part in ("sampling", "loss"):
        trl, ours = times[f"{part}, TRL"], times[f"{part}, ours"]
        ratio = statistics.median(t / o for t, o in zip(trl, ours, strict=True))
        floor = f"{1e3 * statistics.median(times['loss, floor']):.0f}" if part == "loss" else ""
        medians = [f"{1e3 * statistics.median(values):.0f}" for values in (trl, ours)]
        table.add_row(part, *medians, f"{ratio:.2f}", floor)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Rebuild the embedded base model from its seed, in about 1,000 CPU seconds: build_base_model.py --output DIR

With ``--language verilog`` the base of recipes/verilog_quickstart.yaml, warmed up on the built-in Verilog problems.

A Llama of about 0.95 M parameters with a byte-level BPE tokenizer of 640 tokens, warmed up by supervised training on
unreliable answers to the built-in training problems' programs. It is stored in float32. Held-out programs appear
neither in the tokenizer's text nor in the warm-up.

The build runs on one CPU thread, where the same seed gives the same bytes on the same kind of CPU and the same torch.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.progress import Progress, TextColumn
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from grpo_project.problems.builtin.programs import Program, draw_program, unreliable_body
from grpo_project.problems.builtin.verilog import draw_module
from grpo_project.problems.problem import LEVELS

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '" + USER + "' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '" + ASSISTANT + "' + message['content'] + '" + END + "' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + ASSISTANT + "' }}{% endif %}"
)
"""System messages are left out: the model was never shown one, and prompts stay short."""

# A digit, the joint between two steps and the start of a line are tokens of their own; everything else may merge,
# also across spaces, which halves the length of a completion.
PIECES = r"\d|, then |\n    "


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Size of the model and of its warm-up. The defaults are those of the shipped model."""

    vocabulary: int = 640
    hidden: int = 160
    layers: int = 3
    heads: int = 5
    feed_forward: int = 384
    steps: int = 5000
    batch: int = 64
    language: str = "python"
    learning_rate: float = 3e-3
    tokenizer_programs: int = 10_000


LEVEL_WEIGHTS = (3, 3, 3, 4, 5)
"""How often each level is read: long programs are harder to learn to write at all."""


def build_base_model(
    output_dir: Path, seed: int = 0, recipe: WarmUp | None = None, on_step: Callable[[int, float], None] | None = None
) -> list[float]:
    """Build tokenizer and model from ``seed`` into ``output_dir``.

    Returns the loss of every step (nats a token); ``on_step(step, loss)`` is called after each. Torch's random state
    and number of threads are as before afterwards.
    """
    recipe = recipe or WarmUp()
    tokenizer = build_tokenizer(seed, recipe)
    with _one_thread(seed):
        model = new_model(tokenizer, recipe)
        losses = warm_up(model, tokenizer, seed, recipe, on_step)
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    return losses


def build_tokenizer(seed: int, recipe: WarmUp) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on prompts and answers: any text can be encoded, ours in few tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[PAD, END, USER, ASSISTANT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    rng = random.Random(f"tokenizer-{seed}")
    texts = (text for _ in range(recipe.tokenizer_programs) for text in EXCHANGES[recipe.language](rng))
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, padding_side="left", model_max_length=512
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(tokenizer: PreTrainedTokenizerFast, recipe: WarmUp) -> LlamaForCausalLM:
    """The untrained model, from torch's random state."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=512,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def warm_up(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    recipe: WarmUp,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train on unreliable answers, loss on the answers only. Returns the loss of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.learning_rate, total_steps=recipe.steps, pct_start=0.05, cycle_momentum=False
    )
    exchange = EXCHANGES[recipe.language]
    batches = _batches(random.Random(f"warm-up-{seed}"), tokenizer, recipe.batch, exchange)
    losses: list[float] = []
    model.train()
    for step in range(recipe.steps):
        loss = model(**next(batches)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if on_step is not None:
            on_step(step + 1, losses[-1])
    model.eval()
    return losses


@contextmanager
def _one_thread(seed: int) -> Iterator[None]:
    """Seeded and on one thread: the order of additions, and with it every bit, is then fixed."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _exchange(rng: random.Random) -> tuple[str, str]:
    """A training prompt and an unreliable answer, without the final newline."""
    program = _training_program(rng)
    prompt = f"{program.prompt}\n\n{program.starter_code}"
    return prompt, unreliable_body(rng, program).removesuffix("\n")


def _training_program(rng: random.Random) -> Program:
    while True:
        program = draw_program(rng, rng.choices(range(len(LEVELS)), LEVEL_WEIGHTS)[0])
        if not program.is_heldout:
            return program


def _verilog_exchange(rng: random.Random) -> tuple[str, str]:
    """As ``_exchange``, with a built-in Verilog module."""
    while True:
        module = draw_module(rng, rng.choices(range(len(LEVELS)), LEVEL_WEIGHTS)[0])
        if not module.is_heldout:
            return f"{module.prompt}\n\n{module.starter_code}", module.unreliable_body(rng)


Exchange = Callable[[random.Random], tuple[str, str]]
EXCHANGES: dict[str, Exchange] = {"python": _exchange, "verilog": _verilog_exchange}
POOL = 16
"""Batches that are drawn together and cut by length, so that little is padding."""


def _batches(
    rng: random.Random, tokenizer: PreTrainedTokenizerFast, size: int, exchange: Exchange
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches; tensors of shape (size, longest)."""
    while True:
        exchanges = [exchange(rng) for _ in range(POOL * size)]
        prompts = tokenizer([f"{USER}{prompt}{ASSISTANT}" for prompt, _ in exchanges]).input_ids
        answers = tokenizer([answer + END for _, answer in exchanges]).input_ids
        rows = sorted(zip(prompts, answers, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        starts = list(range(0, len(rows), size))
        rng.shuffle(starts)
        for start in starts:
            yield _collate(rows[start : start + size], tokenizer.pad_token_id)


def _collate(rows: list[tuple[list[int], list[int]]], pad: int) -> dict[str, torch.Tensor]:
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), -100)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return {"input_ids": ids, "attention_mask": (ids != pad).long(), "labels": labels}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="build_base_model.py", description="Rebuild the embedded base model.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0, help="seed of tokenizer, weights and warm-up (default: 0)")
    parser.add_argument("--steps", type=int, default=WarmUp.steps, help="optimizer steps (default: 5000)")
    parser.add_argument("--language", choices=sorted(EXCHANGES), default="python", help="of its problems (python)")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error(f"--steps is {args.steps}; it must be at least 1")
    args.output.mkdir(parents=True, exist_ok=True)
    recipe = replace(WarmUp(), steps=args.steps, language=args.language)
    logging.disable_progress_bar()
    with Progress(*Progress.get_default_columns(), TextColumn("loss {task.fields[loss]:.3f}")) as progress:
        task = progress.add_task("warm-up", total=recipe.steps, loss=float("nan"))
        losses = build_base_model(
            args.output, args.seed, recipe, lambda step, loss: progress.update(task, completed=step, loss=loss)
        )
    print(f"built in {args.output}: seed {args.seed}, {recipe.steps} steps, last loss {losses[-1]:.3f} nats a token")
    return 0


if __name__ == "__main__":
    sys.exit(main())

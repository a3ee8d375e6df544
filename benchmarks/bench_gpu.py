"""A step on a GPU: seconds, where they go, tokens a second, peak memory; ours against TRL's own code, in one run.

    python benchmarks/bench_gpu.py [--steps N] [--minutes M] [--size small|large]

A model of random weights (0.5 or 1.5 billion parameters, Qwen2.5's shapes), so that nothing is downloaded. Its
completions run to the token limit and earn nothing; an entropy bonus keeps every row in the loss. All weights and LoRA,
bfloat16, with vLLM in the process where it is installed. The table names the card. After M minutes no further way is
begun.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from grpo_project.config import embedded_model_path

SHAPES = {
    "small": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "large": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
}
WORDS = 151_936
WARM_UP = 2
"""Steps that are not counted: kernels are chosen, memory is found."""
COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 64,
    "num_generations": 8,
    "max_completion_length": 256,
    "learning_rate": 1e-6,
    "bf16": "true",
    "eval_every_n_steps": 0,
    "save_strategy": "no",
    "enable_curriculum": "false",
    "logging_steps": 1,
    "dtype": "bfloat16",
    "entropy_coef": 0.001,
}
LORA = {"use_peft": "true", "lora_r": 16, "lora_target_modules": "all-linear"}
VLLM = {"use_vllm": "true", "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.3}
TRL = {"ragged_batches": "false"}


def ways() -> dict[str, dict[str, Any]]:
    """What is measured, in the order of its worth."""
    found: dict[str, dict[str, Any]] = {"all weights, ours": {}, "all weights, TRL": TRL}
    found |= {"LoRA, ours": LORA, "LoRA, TRL": LORA | TRL}
    if find_spec("vllm"):
        found |= {"LoRA, ours, vLLM": LORA | VLLM, "LoRA, TRL, vLLM": LORA | TRL | VLLM}
    return found


def random_model(shape: dict[str, int], folder: Path, words: int = WORDS) -> Path:
    """A Llama-like model of random weights with the embedded model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(embedded_model_path())
    config = LlamaConfig(
        vocab_size=words,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def measure(model: Path, flags: dict[str, Any], steps: int, folder: Path) -> list[dict[str, float]]:
    """The journal's rows of a real run, without those of the warm-up."""
    given = COMMON | flags | {"model_name": model, "output_dir": folder, "max_steps": steps + WARM_UP}
    words = [word for flag, value in given.items() for word in (f"--{flag}", str(value))]
    command = [sys.executable, "-m", "grpo_project.cli", "train", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    lines = (folder / "journal" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    totals = [row["num_tokens"] for row in rows]
    for row, tokens in zip(rows[1:], (b - a for a, b in pairwise(totals)), strict=True):
        row["tokens_per_s"] = tokens / row["step_time"]
    return rows[WARM_UP:]


def median(rows: list[dict[str, float]], name: str) -> float:
    return statistics.median(row.get(name, 0.0) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--size", choices=sorted(SHAPES), default="small")
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("bench_gpu: no CUDA device here; every figure of this benchmark is a GPU's, so there is none")
    card, began = torch.cuda.get_device_name(), time.monotonic()
    parts = ("generation", "verification", "scoring", "loss", "optimizer")
    table = Table(title=f"{card}, {args.size} model, 8 problems x 8 completions of 256 tokens, medians of {args.steps}")
    for column in ("way", "s/step", *parts, "tokens/s", "peak GiB"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as scratch:
        model = random_model(SHAPES[args.size], Path(scratch) / "model")
        for number, (way, flags) in enumerate(ways().items()):
            if time.monotonic() - began > 60 * args.minutes:
                table.add_row(way, "not begun, out of time")
                continue
            rows = measure(model, flags, args.steps, Path(scratch) / f"run{number}")
            split = [f"{median(rows, f'time/{part}'):.2f}" for part in parts]
            rate = f"{median(rows, 'tokens_per_s'):,.0f}"
            peak = f"{median(rows, 'memory/device_mb') / 1024:.1f}"
            table.add_row(way, f"{median(rows, 'step_time'):.2f}", *split, rate, peak)
    Console().print(table)


if __name__ == "__main__":
    main()

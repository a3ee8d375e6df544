"""The configurations that ``chaos`` kills, each a few seconds long on the embedded model, and the files they name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

from chaos_random import random_flags

from grpo_project.config import embedded_model_path
from grpo_project.problems.native_writer import native_row
from grpo_project.problems.quickstart import builtin_problems

SMALL = [
    *("--per_device_train_batch_size", "8", "--num_generations", "4", "--max_completion_length", "16"),
    *("--max_steps", "8", "--save_steps", "3", "--eval_every_n_steps", "4", "--max_eval_samples", "5"),
    *("--verifier_workers", "1", "--use_cpu", "--log_level", "debug"),
]
LORA = ["--use_peft", "--lora_r", "4", "--lora_dropout", "0.1", "--lora_target_modules", "q_proj", "v_proj"]
TWICE = ["--num_iterations", "2"]
OFTEN = ["--eval_strategy", "steps", "--eval_steps", "2", "--eval_every_n_steps", "2", "--save_steps", "2"]
BEST = ["--load_best_model_at_end", "--metric_for_best_model", "mean_tokens", "--greater_is_better", "false"]
PLATEAU = [
    *("--lr_scheduler_type", "reduce_lr_on_plateau", "--lr_scheduler_kwargs", '{"patience": 0, "factor": 0.5}'),
    *("--metric_for_best_model", "eval_avg_test_pass_rate", "--warmup_steps", "0"),
]
EPOCHS = [
    *("--dataset_path", "SIX_PROBLEMS", "--max_steps", "-1", "--num_train_epochs", "3", "--eval_strategy", "epoch"),
    *("--save_strategy", "epoch", "--metric_for_best_model", "eval_avg_test_pass_rate"),
]
STALLED = ["--curriculum_config", "HARD_CURRICULUM", "--eval_every_n_steps", "1"]
HALVED = ["--per_device_train_batch_size", "4"]
UNLABELLED = ["--dataset_path", "UNLABELLED_PROBLEMS"]

CONFIGURATIONS: dict[str, list[str]] = {
    "defaults": [],
    "gradient accumulation": ["--gradient_accumulation_steps", "2"],
    "num_iterations 2": TWICE,
    "num_iterations 3": ["--num_iterations", "3"],
    "mid-buffer checkpoint": ["--steps_per_generation", "8"],
    "short epochs": ["--dataset_path", "SIX_PROBLEMS", "--save_steps", "2"],
    "saved and evaluated by epochs": EPOCHS,
    "best model": [*OFTEN, *BEST],
    "best model, one checkpoint": [*OFTEN, *BEST, "--save_total_limit", "1"],
    "best model by epochs": [*EPOCHS, "--load_best_model_at_end"],
    "rate that follows evaluations": [*OFTEN, *PLATEAU],
    "LoRA": LORA,
    "beta": ["--beta", "0.1"],
    "beta, LoRA": ["--beta", "0.1", *LORA],
    "beta, synced reference": ["--beta", "0.1", "--sync_ref_model", "--ref_model_sync_steps", "2"],
    "dropout": ["--model_name", "MODEL_WITH_DROPOUT", "--recipe", "trl", "--learning_rate", "1e-3"],
    "adafactor": ["--optim", "adafactor"],
    **{f"loss {name}": [*TWICE, "--loss_type", name] for name in ("grpo", "dr_grpo", "bnpo", "cispo", "sapo", "vespo")},
    "loss luspo": [*TWICE, "--loss_type", "luspo", "--importance_sampling_level", "sequence"],
    "sequence-level ratios": [*TWICE, "--importance_sampling_level", "sequence"],
    "adaptive entropy": ["--use_adaptive_entropy", "--entropy_target", "0.5"],
    "rewards scaled by batch": ["--scale_rewards", "batch", "--max_resample", "1"],
    "groups drawn anew": ["--max_resample", "2"],
    "rows of several steps": ["--logging_steps", "3"],
    "sampled evaluations": ["--eval_temperature", "1.0", "--eval_num_samples", "2"],
    "stage changes": ["--curriculum_config", "EAGER_CURRICULUM"],
    "stall, relax": [*STALLED, "--on_stall", "relax"],
    "stall, advance": [*STALLED, "--on_stall", "advance"],
    "stall, stop": [*STALLED, "--on_stall", "stop"],
    "unlabelled problems": UNLABELLED,
    "no curriculum": ["--enable_curriculum", "false"],
    "TRL's own batches": ["--ragged_batches", "false"],
    "no evaluation": ["--eval_every_n_steps", "0"],
    "two processes": [*HALVED, "--steps_per_generation", "2", "--max_resample", "1"],
    "two processes, dropout": [*HALVED, *TWICE, "--beta", "0.1", "--model_name", "MODEL_WITH_DROPOUT"],
    "one, two, one processes": ["--steps_per_generation", "2", "--optim", "sgd", "--learning_rate", "0.1"],
}
PROCESSES = {
    "two processes": (2,),
    "two processes, dropout": (2,),
    "one, two, one processes": (1, 2),
}
"""How many processes the starts of a configuration have, in turn, where it is not one."""
ELASTIC = {name for name, processes in PROCESSES.items() if len(processes) > 1}
"""Compared up to rounding: sums over another number of processes round otherwise."""
ENDS_STALLED = {"stall, stop"}
"""Configurations that a stall ends, with exit code 1 and no final model."""
RANDOM = "random "
STAGES = ("foundation", "elementary", "intermediate", "advanced", "expert")


def prepare(folder: Path) -> dict[str, str]:
    """Write the files that configurations name; returns the path for each name."""
    six = [
        {
            "id": f"p{i}",
            "prompt": f"Return x plus {i}.",
            "entry_point": "f",
            "tests": [{"args": [1], "expected": 1 + i}],
        }
        for i in range(6)
    ]
    unlabelled = [
        native_row(dataclasses.replace(problem, level="unknown", complexity=None))
        for problem in builtin_problems("train")[:2000:25]
    ]
    eager = [{"name": level, "levels": [level], "threshold": 0, "min_evaluations": 1} for level in STAGES]
    hard = [{"name": level, "levels": [level], "threshold": 0.95} for level in STAGES]
    contents = {
        "SIX_PROBLEMS": six,
        "UNLABELLED_PROBLEMS": unlabelled,
        "EAGER_CURRICULUM": {"stages": eager},
        "HARD_CURRICULUM": {"patience": 2, "stages": hard},
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    model = folder / "model-with-dropout"
    if not model.exists():
        shutil.copytree(embedded_model_path(), model)
        settings = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(settings | {"attention_dropout": 0.1}))
    return {name: str(folder / f"{name}.json") for name in contents} | {"MODEL_WITH_DROPOUT": str(model)}


def flags_of(name: str, folder: Path) -> list[str]:
    """The flags of a configuration, with the files that they name below ``folder``."""
    files = prepare(folder)
    own = random_flags(name.removeprefix(RANDOM)) if name.startswith(RANDOM) else CONFIGURATIONS[name]
    return [*SMALL, *(files.get(flag, flag) for flag in own)]

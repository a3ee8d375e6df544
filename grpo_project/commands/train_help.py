"""``grpo train --help``: our flags and TRL's common ones by subject; ``--help-all``: every flag, each once.

Defaults are those of the run that the rest of the command line describes: ``grpo train --model M --use_peft --help``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from grpo_project.config import known_flags, read_flags
from grpo_project.flags import Flag

SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "Model and data": (
        *("model_name", "dataset_path", "eval_dataset_path", "eval_split", "output_dir", "recipe"),
        *("dataset_name", "dataset_columns", "dataset_base_path", "system_prompt"),
    ),
    "Training": (
        *("learning_rate", "max_steps", "num_train_epochs", "per_device_train_batch_size"),
        *("gradient_accumulation_steps", "num_generations", "max_completion_length", "temperature", "beta"),
        *("loss_type", "lr_scheduler_type", "seed", "max_resample", "ragged_batches"),
    ),
    "What is trained, and on what": (
        "use_peft",
        "lora_r",
        "lora_target_modules",
        "bf16",
        "dtype",
        "use_cpu",
        "use_vllm",
    ),
    "Reward and sandbox": (
        *(
            "reward",
            "weak_tests",
            "verifier_workers",
            "verifier_isolation",
            "verifier_cache",
            "verifier_address",
            "verifier_fallback",
        ),
        "max_infrastructure_rate",
    ),
    "Evaluation": (
        *("eval_every_n_steps", "max_eval_samples", "eval_temperature", "eval_num_samples", "eval_batch_size"),
    ),
    "Curriculum": (
        *("enable_curriculum", "curriculum_config", "curriculum_threshold", "on_stall", "print_curriculum"),
    ),
    "Survival": (
        *("resume_from_checkpoint", "save_steps", "save_every_minutes", "save_total_limit", "max_runtime"),
        *("preemption_grace_s", "stall_after_s", "on_hang", "overwrite_output_dir", "allow_config_change"),
    ),
    "Records and tracking": (
        *("report_to", "wandb_project", "wandb_run_name", "wandb_resume", "force_new_wandb_run", "samples_keep"),
    ),
}
"""The rest of our flags, should one be forgotten here, follows as ``More of ours``."""

SAID = {
    "output_dir": "The run's folder: what is copied, resumed, reported and deleted.",
    "learning_rate": "Step size of the optimizer; its default follows what is trained and the model's size.",
    "max_steps": "Optimizer steps, before --num_train_epochs. Default: once through the problems, and at least 100.",
    "num_train_epochs": "How often the problems are gone through, where --max_steps is not given.",
    "per_device_train_batch_size": "Completions computed at once on a device: what fits into memory.",
    "gradient_accumulation_steps": "How many of these make an optimizer step.",
    "num_generations": "Completions of each problem in a group, at least 2; they are compared with each other.",
    "max_completion_length": "Tokens of a completion at most; what is longer is cut off.",
    "temperature": "Of the sampling in training.",
    "beta": "Weight of the KL term; 0 needs no reference model.",
    "loss_type": "grpo, dr_grpo, dapo, bnpo, cispo, sapo, luspo or vespo (--help-all tells them apart).",
    "resume_from_checkpoint": "A checkpoint to go back to. Default: the newest whole one of the run's folder.",
    "save_total_limit": "How many checkpoints are kept.",
    "report_to": "wandb, tensorboard, trackio, mlflow or none; several at once.",
}
"""TRL's common flags in our words, since theirs need a page each."""

LIBRARIES = {
    "GRPOConfig": "TRL's GRPOConfig",
    "BaseConfig": "TRL's defaults for transformers",
    "TrainingArguments": "transformers' TrainingArguments",
    "ModelConfig": "TRL's ModelConfig",
}
WIDTH, INDENT = 118, 6
OPTIONS = {"model_name": "--model", "dataset_path": "--dataset", "eval_dataset_path": "--eval_dataset"}
"""The names that all commands share."""


def train_help(argv: Sequence[str], everything: bool) -> str:
    """The text for a command line, whose ``--help`` is taken out.

    Raises:
        ConfigError: the rest of the command line is wrong.
    """
    rest = [word for word in argv if word not in ("-h", "--help", "--help-all")]
    values = read_flags(rest).values
    known = known_flags()
    groups = {title: [known[name] for name in names if name in known] for title, names in SUBJECTS.items()}
    shown = {flag.name for flags in groups.values() for flag in flags}
    if forgotten := [flag for flag in known.values() if flag.library == "ours" and flag.name not in shown]:
        groups["More of ours"] = forgotten
        shown |= {flag.name for flag in forgotten}
    if everything:
        for library, title in LIBRARIES.items():
            groups[title] = [f for f in known.values() if f.library == library and f.name not in shown]
    lines = [
        "usage: grpo train [--config FILE] [flags]",
        "",
        "Train a causal language model with GRPO; the reward is the pass rate of real tests. Without flags: the",
        "embedded model and problems. Flags can stand in a YAML file (--config). `grpo resume DIR` goes on with a run.",
        "",
    ]
    for title, flags in groups.items():
        lines += [f"{title}:", *(line for flag in flags for line in described(flag, values)), ""]
    if not everything:
        lines.append(
            f"--help-all shows {len(known) - len(shown)} more flags of TRL and transformers; all are accepted."
        )
    return "\n".join(lines)


def described(flag: Flag, values: Mapping[str, Any]) -> list[str]:
    """The lines of one flag: name, value, what it does, what it is here."""
    kind = "|".join(flag.choices) or {"bool": "true|false", "int": "N", "float": "X"}.get(flag.kind, "VALUE")
    default = values.get(flag.name, flag.default)
    text = SAID.get(flag.name) or " ".join(flag.help.split())
    text += f" [{shown_value(default)}]" if default is not None and "Default:" not in text else ""
    head = f"  {OPTIONS.get(flag.name, '--' + flag.name)} {kind}"
    return [head, *textwrap.wrap(text, WIDTH, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT)]


def shown_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return (
        " ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )

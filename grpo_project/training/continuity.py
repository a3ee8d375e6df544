"""Whether a run that goes on is still the same run: changed flags, and what keeps a resume from being bit-exact."""

from __future__ import annotations

import fnmatch
from typing import Any

from grpo_project.errors import ConfigError
from grpo_project.record.run_record import versions

# Flags that don't touch the course of training, as patterns of names. Every other flag counts.
HARMLESS = (
    *("output_dir", "run_name", "project", "trackio_*", "report_to", "disable_tqdm", "log_*", "logging_*", "wandb_*"),
    *("save_*", "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "resume_from_checkpoint"),
    *("push_to_hub*", "hub_*", "num_completions_to_print", "include_*", "skip_memory_metrics", "ddp_timeout"),
    *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size", "do_*"),
    *("dataloader_*", "enable_jit_checkpoint", "restore_callback_states_from_checkpoint", "ignore_data_skip"),
    *("force_new_wandb_run", "verifier_workers", "verifier_cache", "samples_keep", "max_runtime"),
    *("preemption_grace_s", "allow_config_change", "overwrite_output_dir", "print_curriculum", "dataset_path"),
)
MORE_STEPS = ("max_steps", "num_train_epochs")
EVALUATION = (
    *("eval_dataset_path", "eval_split", "eval_every_n_steps", "max_eval_samples"),
    *("eval_temperature", "eval_num_samples", "eval_batch_size"),
)
SCHEDULES_WITHOUT_END = ("constant", "constant_with_warmup", "inverse_sqrt")


def changed_flags(recorded: dict[str, Any], current: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Flags with another value than recorded that change the course of training: name -> (before, now).

    Both arguments are ``Configuration.to_dict()``, as JSON stores it. A flag that only one of them knows (another
    version of a library) is not compared.
    """
    learns_from_evaluations = current["run"]["enable_curriculum"]
    harmless = (*HARMLESS, *MORE_STEPS, *(() if learns_from_evaluations else EVALUATION))
    changes = {}
    for group in ("run", "grpo", "model"):
        for name, now in current[group].items():
            before = recorded.get(group, {}).get(name, now)
            if before != now and not any(fnmatch.fnmatch(name, pattern) for pattern in harmless):
                changes[name] = (before, now)
    return changes


def require_same_course(recorded: dict[str, Any], current: dict[str, Any], allow: bool) -> list[str]:
    """Refuse flags that would make a resumed run another run; return notes for the user otherwise.

    Raises:
        ConfigError: such flags changed and ``allow`` is false.
    """
    changes = changed_flags(recorded, current)
    listed = ", ".join(f"--{name} was {before!r}, is {now!r}" for name, (before, now) in changes.items())
    if changes and not allow:
        raise ConfigError(
            f"flags that change the course of training differ from those that this run was started with: {listed}. "
            "Put them back, start anew with another --output_dir, or go on all the same with --allow_config_change"
        )
    notes = [f"going on with changed flags (--allow_config_change): {listed}"] if changes else []
    schedule = str(current["grpo"]["lr_scheduler_type"])
    longer = any(recorded["grpo"][name] != current["grpo"][name] for name in MORE_STEPS)
    if longer and schedule not in SCHEDULES_WITHOUT_END:
        notes.append(f"the number of steps changed: the {schedule} learning rate follows the new end from here on")
    return notes


def inexact_because(attempt: dict[str, Any], current: dict[str, Any], world_size: int, cuda: bool) -> list[str]:
    """Why going on can't be bit-exact here; empty where it is. ``attempt`` is the last one of ``run.json``."""
    reasons = []
    if attempt.get("world_size", world_size) != world_size:
        reasons.append(f"{world_size} processes instead of {attempt['world_size']}")
    for name, now in versions().items():
        if name != "grpo_project" and attempt["versions"].get(name, now) != now:
            reasons.append(f"{name} {now} instead of {attempt['versions'][name]}")
    if current["grpo"]["use_vllm"]:
        reasons.append("vLLM samples with random states of its own")
    if cuda and not current["grpo"]["full_determinism"]:
        reasons.append("GPU kernels are not deterministic without --full_determinism")
    return reasons

"""What an earlier start left behind: from where it goes on, whether it is still the same run, and how exactly."""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grpo_project.config import Configuration
from grpo_project.errors import CheckpointError, ConfigError, DataError
from grpo_project.record.file_lock import FileLock
from grpo_project.record.run_directory import Run, RunPaths, lock_run
from grpo_project.record.run_record import RunRecord, machine, versions
from grpo_project.record.secrets import redact
from grpo_project.training import checkpoints

# Flags that don't touch the course of training, as patterns of names. Every other flag counts.
HARMLESS = (
    *("output_dir", "run_name", "project", "trackio_*", "report_to", "disable_tqdm", "log_*", "logging_*", "wandb_*"),
    *("save_*", "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "resume_from_checkpoint"),
    *("push_to_hub*", "hub_*", "num_completions_to_print", "include_*", "skip_memory_metrics", "ddp_timeout"),
    *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size", "do_*"),
    *("dataloader_*", "enable_jit_checkpoint", "restore_callback_states_from_checkpoint", "ignore_data_skip"),
    *(
        "force_new_wandb_run",
        "verifier_workers",
        "verifier_address",
        "verifier_fallback",
        "verifier_cache",
        "max_infrastructure_rate",
        "samples_keep",
        "max_runtime",
    ),
    *(
        "preemption_grace_s",
        "stall_after_s",
        "on_hang",
        "allow_config_change",
        "recipe",
        "overwrite_output_dir",
        "print_curriculum",
        "dataset_path",
        "dataset_name",
        "dataset_columns",
    ),
)
MORE_STEPS = ("max_steps", "num_train_epochs")
EVALUATION = (
    *("eval_dataset_path", "eval_split", "eval_every_n_steps", "max_eval_samples"),
    *("eval_temperature", "eval_num_samples", "eval_batch_size"),
)
SHARES = ("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation")
"""How the global batch is shared out: another number of processes changes it, and not the course (``elastic``)."""
CONTENT = {
    "curriculum": "the curriculum's settings",
    "heldout": "the held-out problems",
    "model": "the weights of the base model",
}
"""What else a run is made of, by content; the training problems are spoken of by themselves."""
PATHS = (
    *(("run", name) for name in ("model_name", "dataset_base_path", "eval_dataset_path", "curriculum_config")),
    ("model", "model_name_or_path"),
)
SCHEDULES_WITHOUT_END = ("constant", "constant_with_warmup", "inverse_sqrt")


@dataclass(frozen=True)
class EarlierRun:
    """What lies in the run directory. Without anything there, a start begins at step 0."""

    record: RunRecord | None = None
    """The run that this start continues."""
    checkpoint: Path | None = None
    rejected: tuple[checkpoints.Rejected, ...] = ()
    steps_done: int = 0
    """The last step in its journal."""
    finished_at: int | None = None
    """Its last step, where it is finished and the flags ask for no more."""
    notes: tuple[str, ...] = ()
    lock: FileLock | None = None
    """Held from the first look on: what was seen stays true. The journal takes it over (main process)."""

    def release(self) -> None:
        if self.lock is not None:
            self.lock.release()


def find_earlier_run(output_dir: Path, configuration: Configuration) -> EarlierRun:
    """Look at what is there, under its lock. Changes nothing.

    Raises:
        ConfigError: another process writes the run.
        CheckpointError: no checkpoint is whole, or the best one is not.
    """
    lock = lock_run(RunPaths(output_dir)) if RunPaths(output_dir).journal.is_dir() else None
    try:
        selection = select_checkpoint(output_dir, configuration.grpo.resume_from_checkpoint)
        record = RunRecord.read(output_dir)
        steps_done = Run(output_dir).last_step or 0
        if selection.path is None and steps_done == 0:
            record = None  # nothing was trained: whatever the flags say, this starts anew
        elif record is not None and selection.path is not None and configuration.grpo.load_best_model_at_end:
            require_whole_best(selection.path, output_dir)
    except BaseException:  # whatever it is, and it goes on: a start that ends here leaves no lock
        if lock is not None:
            lock.release()
        raise
    return EarlierRun(record, selection.path, selection.rejected, steps_done, lock=lock)


def compared(earlier: EarlierRun, configuration: Configuration, identity: dict[str, Any]) -> EarlierRun:
    """``earlier`` with what follows for a start with these flags and this content of data and model.

    Raises:
        ConfigError: flags or content changed that change the run's course.
        DataError: the training problems are others.
        CheckpointError: what the flags ask for needs a checkpoint, and there is none.
    """
    record, step = earlier.record, checkpoints.step_of(earlier.checkpoint) if earlier.checkpoint else 0
    if record is None:
        return earlier
    require_same_data(record, identity)
    notes = continuity_notes(record, configuration, identity)
    if record.finished:
        last, asked = finished_step(record), configuration.grpo.resume_from_checkpoint
        if not asked and not asks_for_more(record, configuration):
            return replace(earlier, finished_at=last, notes=notes)
        if earlier.checkpoint is None:
            raise CheckpointError(
                f"{record.path.parent}: this run is finished (step {last}) and its checkpoints are gone: it can't be "
                "trained further. Train its model as a new run (--model_name with another --output_dir), or start anew "
                "with --overwrite_output_dir"
            )
        if step < last:
            notes += (f"the checkpoint to go on from is of step {step}: {last - step} steps are trained again",)
    elif earlier.checkpoint is None:
        notes += (f"no checkpoint is left of the {earlier.steps_done} steps that were trained: they are trained again",)
    return replace(earlier, notes=notes)


def select_checkpoint(output_dir: Path, asked: str | None) -> checkpoints.Selection:
    """The checkpoint to go on from: the one named, else the newest whole one of ``output_dir``, else none."""
    if asked is None or asked.lower() in ("latest", "true"):
        selection = checkpoints.newest_whole(output_dir)
        if asked is not None and selection.path is None:
            raise CheckpointError(
                f"--resume_from_checkpoint {asked}: no checkpoint in {output_dir}; leave the flag out to start"
            )
        return selection
    if asked.lower() == "false":
        raise ConfigError("--resume_from_checkpoint takes a checkpoint folder or `latest`; leave it out otherwise")
    return checkpoints.Selection(checkpoints.require_whole(Path(asked)))


def require_whole_best(checkpoint: Path, output_dir: Path) -> None:
    """The best checkpoint is what the run will publish. Raises ``CheckpointError`` if it is damaged."""
    best = checkpoints.best_of(checkpoint, output_dir)
    if best is not None and best != checkpoint and (reason := checkpoints.damage(best)):
        raise CheckpointError(
            f"{best}, the best checkpoint so far, is damaged ({reason}). Restore it, or go on without a best model: "
            "--load_best_model_at_end false"
        )


def finished_step(record: RunRecord) -> int:
    """The step at which a finished run ended."""
    return int(record.attempts[-1].get("last_step", 0))


def asks_for_more(record: RunRecord, configuration: Configuration) -> bool:
    """Whether the flags ask a finished run for more steps than it made."""
    grpo, recorded = configuration.grpo, record.content["config"]["grpo"]
    if grpo.max_steps > 0:
        return grpo.max_steps > finished_step(record)
    return recorded["max_steps"] > 0 or grpo.num_train_epochs > recorded["num_train_epochs"]


def require_same_data(record: RunRecord, identity: dict[str, Any]) -> None:
    """A run goes on with the problems that it was started with. Raises ``DataError``."""
    recorded, now = record.training_data, identity["train"]
    if recorded["fingerprint"] != now["fingerprint"]:
        raise DataError(
            f"the training problems changed since this run was started: it had {recorded['count']} from "
            f"{recorded['source']}, now there are {now['count']} from {now['source']} with other content. "
            "Restore them, or start anew with another --output_dir or --overwrite_output_dir"
        )


def continuity_notes(record: RunRecord, configuration: Configuration, identity: dict[str, Any]) -> tuple[str, ...]:
    """Compare with flags, contents and machine of the last start. Raises ``ConfigError`` if the course would change."""
    current, run = redact(configuration.to_dict()), configuration.run
    recorded = with_paths_of_now(record, current)
    notes = require_same_course(recorded, current, run.allow_config_change)
    learns = {"curriculum", "heldout"} if run.enable_curriculum else set()
    for name, what in CONTENT.items():
        before, now = _fingerprint(record.content["data"].get(name)), _fingerprint(identity[name])
        if before is None or before == now or (name != "model" and name not in learns):
            continue
        if not run.allow_config_change:
            raise ConfigError(
                f"{what} changed since this run was started, under the same name. Put them back, start anew with "
                "another --output_dir, or go on all the same with --allow_config_change"
            )
        notes.append(f"going on although {what} changed (--allow_config_change)")
    if record.attempts:
        cuda = configuration.grpo.device.type == "cuda"
        reasons = inexact_because(record.attempts[-1], current, configuration.grpo.world_size, cuda)
        if reasons:
            notes.append(f"this resume is not bit-exact: {'; '.join(reasons)}")
    return tuple(notes)


def with_paths_of_now(record: RunRecord, current: dict[str, Any]) -> dict[str, Any]:
    """The recorded flags; where a path leads to the same place from another folder, it is written as it is now."""
    config = record.content["config"]
    folder = record.attempts[-1].get("folder") if record.attempts else None
    if folder is None:
        return config
    changed = {part: dict(flags) for part, flags in config.items()}
    for part, name in PATHS:
        before, now = config.get(part, {}).get(name), current[part].get(name)
        if before and now and os.path.abspath(Path(folder, before)) == os.path.abspath(now):
            changed[part][name] = now
    return changed


def _fingerprint(recorded: Any) -> str | None:
    return recorded["fingerprint"] if isinstance(recorded, dict) else recorded


def changed_flags(recorded: dict[str, Any], current: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Flags with another value than recorded that change the course of training: name -> (before, now).

    Both arguments are ``Configuration.to_dict()``, as JSON stores it. A flag that only one of them knows (another
    version of a library) is not compared.
    """
    learns_from_evaluations = current["run"]["enable_curriculum"]
    harmless = (*HARMLESS, *MORE_STEPS, *(() if learns_from_evaluations else EVALUATION))
    if _global_batches(recorded) == _global_batches(current):
        harmless += SHARES
    changes = {}
    for group in ("run", "grpo", "model"):
        for name, now in current[group].items():
            before = recorded.get(group, {}).get(name, now)
            if name == "reward" and isinstance(before, str):  # version 0.1.0 knew one alone
                before = [before]
            if before != now and not any(fnmatch.fnmatch(name, pattern) for pattern in harmless):
                changes[name] = (before, now)
    return changes


def _global_batches(config: dict[str, Any]) -> tuple[int, int] | None:
    """Completions of all ranks in a generation and in an optimizer step."""
    grpo = config.get("grpo", {})
    if not all(grpo.get(name) for name in (*SHARES, "generation_batch_size")):
        return None
    generated = grpo["generation_batch_size"]
    return generated, generated * grpo["gradient_accumulation_steps"] // grpo["steps_per_generation"]


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
    before = {**attempt["versions"], **attempt.get("machine", {})}  # version 0.1.0 recorded no machine
    for name, now in {**versions(), **machine()}.items():
        if before.get(name, now) != now:
            reasons.append(f"{name} {now} instead of {before[name]}")
    if current["grpo"]["use_vllm"]:
        reasons.append("vLLM samples with random states of its own")
    if cuda and not current["grpo"]["full_determinism"]:
        reasons.append("GPU kernels are not deterministic without --full_determinism")
    return reasons

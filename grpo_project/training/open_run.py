"""Opening the run directory. What could be refused was refused before: from here on it is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_project.errors import ConfigError
from grpo_project.record.journal import Journal, next_attempt
from grpo_project.record.run_directory import OVERWRITTEN, Run, RunPaths, lock_run, put_aside_run
from grpo_project.record.run_record import RunRecord
from grpo_project.record.samples import SampleStore
from grpo_project.tracking.manager import WandBSyncManager, initialize_wandb_sync_manager
from grpo_project.tracking.sinks import SINKS
from grpo_project.training import checkpoints
from grpo_project.training.plan import RunPlan, tracking_names

INTERRUPTED_DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: ``finished`` or ``interrupted``, at which optimizer step, why, with which exit code."""

    status: str
    step: int
    reason: str = ""
    exit_code: int = 0
    saved: bool = True
    """Of an interrupted run: whether there is a checkpoint of ``step``, which a full disk may have prevented."""
    model_files: tuple[str, ...] = ()
    """Of a finished run: the names of what was written as its model."""


@dataclass(frozen=True)
class OpenRun:
    """What the main process writes to; the other ranks have ``None`` for each."""

    journal: Journal | None = None
    samples: SampleStore | None = None
    record: RunRecord | None = None
    tracking: WandBSyncManager | None = None

    def end(self, outcome: Outcome) -> None:
        """Write down how the run ended. After an interruption W&B's last row waits for what the next start adds."""
        if self.journal is None or self.record is None or self.tracking is None:
            return
        self.journal.event(outcome.status, step=outcome.step, reason=outcome.reason)
        if outcome.status == "finished":
            self.record.content["model_files"] = list(outcome.model_files)
        self.record.end_attempt(outcome.status, outcome.step)
        if outcome.status == "interrupted":  # the machine is about to go away: what is left is sent by the next start
            self.tracking.finish(timeout_s=INTERRUPTED_DRAIN_S, exit_code=outcome.exit_code)


@contextmanager
def open_run(plan: RunPlan, isolation: str, main_process: bool, **facts: Any) -> Iterator[OpenRun]:
    """Prepare the run directory and open what is written to it; close everything in order, whatever happens.

    ``facts`` go into the record of this attempt.

    Raises:
        ConfigError: another process has begun a run here since the plan was made.
    """
    if not main_process:
        yield OpenRun()
        return
    configuration, output_dir = plan.configuration, plan.output_dir
    overwritten = overwrite(output_dir) if configuration.run.overwrite_output_dir else None
    attempt = next_attempt(output_dir)
    last_step_seen = Run(output_dir).last_step or 0
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(output_dir, attempt, plan.earlier.lock))
        require_as_planned(plan)
        put_aside_unused_checkpoints(plan)
        record = plan.earlier.record or RunRecord.create(output_dir, plan.config, plan.identity)
        record.content["data"] = {**plan.identity, **record.content["data"]}  # version 0.1.0 knew less of it
        record.content["judging_seed"] = plan.verifier_secret.hex()
        record.begin_attempt(
            attempt,
            plan.resume_step,
            last_step_seen,
            plan.config,  # flags that may change between starts may have
            command=configuration.command,
            config_file=dict(configuration.config_file),
            folder=os.getcwd(),
            world_size=configuration.grpo.world_size,
            isolation=isolation,
            **facts,
        )
        if overwritten is not None:  # the new run stands
            shutil.rmtree(overwritten)
        stack.push(_record_failure(record))
        journal.event(
            "started" if plan.resume_step is None else "resumed", step=plan.resume_step or 0, run_id=record.run_id
        )
        for rejected in plan.earlier.rejected:
            journal.event("checkpoint_rejected", checkpoint=rejected.path.name, reason=rejected.reason)
        tracking = initialize_wandb_sync_manager(
            output_dir,
            *tracking_names(configuration),
            config=plan.config,
            resume=configuration.run.wandb_resume,
            force_new=configuration.run.force_new_wandb_run,
            attempt=attempt,
            resume_step=plan.resume_step,
            journal=journal,
            report_to=[name for name in plan.config["grpo"]["report_to"] if name in SINKS],
        )
        stack.callback(tracking.finish)
        samples = stack.enter_context(SampleStore(output_dir, attempt, keep=configuration.run.samples_keep))
        yield OpenRun(journal, samples, record, tracking)


def overwrite(output_dir: Path) -> Path | None:
    """Put what an earlier run recorded as its own aside, to be deleted once the new one stands."""
    if (record := RunRecord.read(output_dir)) is None:
        shutil.rmtree(output_dir / OVERWRITTEN, ignore_errors=True)
        return None
    lock = lock_run(RunPaths(output_dir))
    model_files = record.content.get("model_files")
    folder = put_aside_run(output_dir, model_files if model_files is not None or record.finished else ())
    lock.release()
    return folder


def require_as_planned(plan: RunPlan) -> None:
    """Two starts in an empty folder both plan a new run; the one that gets the lock second finds the other's."""
    found = RunRecord.read(plan.output_dir)
    planned = plan.earlier.record
    begun = found is not None and bool(Run(plan.output_dir).last_step)
    if begun and (planned is None or found is None or planned.run_id != found.run_id):
        raise ConfigError(f"another process has begun a run in {plan.output_dir} meanwhile; run the command again")


def put_aside_unused_checkpoints(plan: RunPlan) -> None:
    """Keep damaged checkpoints, and those of a future that is being replaced, from being picked up later."""
    for rejected in plan.earlier.rejected:
        checkpoints.set_aside(plan.output_dir, rejected.path)
    for checkpoint in checkpoints.list_checkpoints(plan.output_dir):
        if checkpoints.step_of(checkpoint) > (plan.resume_step or 0):
            checkpoints.set_aside(plan.output_dir, checkpoint)
    shutil.rmtree(plan.output_dir / checkpoints.STAGING, ignore_errors=True)


def _record_failure(record: RunRecord) -> Any:
    """An exit handler that notes in ``run.json`` that the process ended by an exception."""

    def on_exit(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and record.content["status"] == "running":
            record.content["status"] = "failed" if issubclass(kind, Exception) else "interrupted"
            record.attempts[-1]["error"] = kind.__name__
            record.write()

    return on_exit

"""Any Hugging Face ``Trainer`` to the journal and to W&B, with every step exactly once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_project.errors import CheckpointError, JournalError
from grpo_project.record.run_directory import Run
from grpo_project.record.run_record import RunRecord
from grpo_project.tracking.manager import WandBSyncManager, get_wandb_sync_manager, initialize_wandb_sync_manager

logger = logging.getLogger("grpo_project")


class WandbSync(TrainerCallback):
    """Sends what a ``Trainer`` logs (loss, reward, evaluations) to the manager; ``report_to="none"`` stands beside it.

    Rows are of kind ``train`` and ``eval``, and the output folder gets a small ``run.json``: ``grpo status`` and ``grpo
    report`` work on it. A manager that the script has started is used, with its folder; else one is started for the
    trainer's when training begins, and finished when it ends.

    Args:
        project_name, run_name: as for ``initialize_wandb_sync_manager``.
        options: its other keyword arguments (``resume``, ``mode``, ...).
    """

    def __init__(self, project_name: str | None = None, run_name: str | None = None, **options: Any) -> None:
        self.project_name, self.run_name, self.options = project_name, run_name, options
        self.manager: WandBSyncManager | None = None
        self.record: RunRecord | None = None
        self._is_ours = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if "wandb" in (args.report_to or []):
            logger.warning('WandbSync: the Trainer makes a W&B run of its own beside this one; set report_to="none"')
        self.manager = get_wandb_sync_manager()
        self._is_ours = self.manager is None or self.manager.finished
        if self._is_ours:
            config: Mapping[str, Any] = self.options.get("config") or args.to_dict()
            self.manager = initialize_wandb_sync_manager(
                *(str(args.output_dir), self.project_name, self.run_name),
                **{**self.options, "config": config, "resume_step": state.global_step},
            )
        if state.is_world_process_zero:
            self._begin_record(args, state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not logs or self.manager is None:
            return
        if "train_runtime" in logs:  # the closing totals are no measurement of the last step
            if self.manager.journal is not None:
                self.manager.journal.event("training_ended", step=state.global_step, **logs)
            return
        kind = "eval" if any(name.startswith("eval_") for name in logs) else "train"
        self.manager.log(logs, state.global_step, kind=kind)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.record is not None:
            self._write(lambda record: record.end_attempt("finished", state.global_step))
        if self.manager is not None and self._is_ours:
            self.manager.finish()

    def _begin_record(self, args: TrainingArguments, state: TrainerState) -> None:
        """``run.json``; one that is there already goes on. It is for people: no fault of it ends a training."""
        assert self.manager is not None and self.manager.journal is not None
        output_dir = self.manager.output_dir
        attempt, config = self.manager.journal.attempt, {"grpo": {**args.to_dict(), "max_steps": state.max_steps}}
        try:
            self.record = RunRecord.read(output_dir) or RunRecord.create(output_dir, config, {})
        except CheckpointError as error:
            logger.warning("WandbSync: %s", error)
            return
        self.record.content["config"] = config
        seen = Run(output_dir).last_step or 0
        resumed, world_size = state.global_step or None, args.world_size
        self._write(
            lambda record: record.begin_attempt(
                *(attempt, resumed, seen), world_size=world_size, command=[Path(sys.executable).name, *sys.argv]
            )
        )

    def _write(self, change: Any) -> None:
        try:
            change(self.record)
        except JournalError as error:
            logger.warning("WandbSync: %s", error)

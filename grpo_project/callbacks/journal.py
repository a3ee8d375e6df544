"""Writes each step's metrics into the run's journal, before training goes on."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_project.core.journal import Journal


class JournalCallback(TrainerCallback):
    """One row of kind ``train`` for each optimizer step; the closing totals (runtime, samples a second) are an event.

    Evaluations write their own rows (kind ``eval``).
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not logs or not state.is_world_process_zero:
            return
        if "loss" in logs:
            self.journal.metrics(state.global_step, "train", logs)
        elif "train_runtime" in logs:
            self.journal.event("training_ended", step=state.global_step, **logs)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self.journal.flush()

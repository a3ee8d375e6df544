"""Callbacks that only a run of ours uses: the journal's rows, leaving and saving at a step's end."""

from __future__ import annotations

import resource
import time
from contextlib import ExitStack
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_project.record.journal import Journal
from grpo_project.training.phases import Phases
from grpo_project.training.stop_request import StopRequest


def peak_memory() -> dict[str, float]:
    """The most that this process has held so far, in MB: of the machine's memory, and of its GPU's where it has one."""
    found = {"memory/host_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # kilobytes on Linux
    if torch.cuda.is_available():
        found["memory/device_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return found


class JournalCallback(TrainerCallback):
    """One row of kind ``train`` for each optimizer step, with the peak of memory.

    The closing totals (runtime, samples a second) are an event.

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
            self.journal.metrics(state.global_step, "train", {**logs, **peak_memory()})
        elif "train_runtime" in logs:
            self.journal.event("training_ended", step=state.global_step, **logs)


class PreemptionCallback(TrainerCallback):
    """Ends training with a checkpoint at the end of the step in which a stop was asked for.

    A single process usually stops earlier, within the step (``interruptible``); several ranks stop here, together.
    """

    def __init__(self, request: StopRequest) -> None:
        self.request = request
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        wanted = [self.request.pending]
        # A signal may reach one rank only; all of them must leave the loop at the same step.
        if any(gather_object(wanted) if args.world_size > 1 else wanted):
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True
        return control


class PhaseCallback(TrainerCallback):
    """The optimizer's part of a step, which lies between two calls of transformers'."""

    def __init__(self, phases: Phases) -> None:
        self._phases = phases
        self._open = ExitStack()

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._open.enter_context(self._phases.timed("optimizer"))

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._open.close()


class TimedSaveCallback(TrainerCallback):
    """Saves a checkpoint when the last one is ``every_s`` seconds old, beside ``--save_steps``."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self.saved_at = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        due = [time.monotonic() - self.saved_at >= self.every_s]
        if args.world_size > 1:  # the main process' clock counts
            broadcast_object_list(due)
        if due[0]:
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.saved_at = time.monotonic()

"""Callbacks that only a run of ours uses: the journal's rows, leaving and saving at a step's end, the progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_project.record.journal import Journal
from grpo_project.training.stop_request import StopRequest

PLAIN_LINE_EVERY_S = 15.0


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


class ProgressCallback(TrainerCallback):
    """Shows step, mean reward, the last evaluation and the curriculum's stage (main process only).

    ``stage`` names the current stage; empty without a curriculum.
    """

    def __init__(self, console: Console, stage: Callable[[], str]) -> None:
        self.console = console
        self.stage = stage
        self.reward = ""
        self.evaluation = ""
        self._bar: Progress | None = None
        self._printed = 0.0

    def show_evaluation(self, pass_rate: float) -> None:
        """The newest held-out pass rate (0 to 1) stays beside the bar."""
        self.evaluation = f"held-out {pass_rate:.3f}"

    def say(self, line: str) -> None:
        """Print a line that stays, above the bar."""
        self.console.print(line, highlight=False)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("[bold]step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=self.console,
        )
        self._bar.add_task("train", total=state.max_steps, completed=state.global_step, status="")
        self._bar.start()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        if "reward" in logs:  # with --num_iterations above 1 not every step generates
            self.reward = f"reward {logs['reward']:.3f}"
        status = "  ".join(filter(None, [self.reward, self.evaluation, self.stage()]))
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=state.global_step, status=status)
        elif time.monotonic() - self._printed >= PLAIN_LINE_EVERY_S:
            self._printed = time.monotonic()
            self.say(f"step {state.global_step}/{state.max_steps}  {status}")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away (also after an exception)."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

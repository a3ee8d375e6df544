"""What a person sees while training runs: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

PLAIN_LINE_EVERY_S = 15.0


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

"""The line that says how training goes: a bar on a terminal; piped, a line every 15 s and after each event."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_project.durations import show_duration

PLAIN_LINE_EVERY_S = 15.0
SMOOTHING = 0.9
"""Weight of what was before in a moving mean: about the last ten steps count."""


class MovingMean:
    """An exponential mean that begins with its first value."""

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, value: float) -> None:
        self.value = value if self.value is None else SMOOTHING * self.value + (1 - SMOOTHING) * value


class Pace:
    """What the rows of training tell about speed. Seconds by the clock include evaluations and saves."""

    def __init__(self) -> None:
        self.reward, self.step_s, self.tokens_per_s = MovingMean(), MovingMean(), MovingMean()
        self.loss: float | None = None
        self._began: tuple[int, float] | None = None
        self._tokens: float | None = None
        self._step = 0

    def begin(self, step: int, now: float) -> None:
        """Training goes on from ``step``."""
        self._began = (step, now)

    def add(self, step: int, row: Mapping[str, Any]) -> None:
        """A step's row: with ``--num_iterations`` above 1 not every step generates, so a reward may be missing."""
        self._step = step
        self.loss = row.get("loss", self.loss)
        if "reward" in row:
            self.reward.add(row["reward"])
        tokens, seconds = row.get("num_tokens"), row.get("step_time")
        if seconds:
            self.step_s.add(seconds)
            if tokens is not None and self._tokens is not None:
                self.tokens_per_s.add((tokens - self._tokens) / seconds)
        self._tokens = tokens

    def left(self, max_steps: int, now: float) -> float | None:
        """Seconds until ``max_steps`` at the pace since training began here; ``None`` before the first step."""
        if self._began is None or self._step <= self._began[0]:
            return None
        return (now - self._began[1]) / (self._step - self._began[0]) * (max_steps - self._step)

    def parts(self) -> list[str]:
        """What is known, in the order in which it is shown."""
        found = []
        if self.reward.value is not None:
            found.append(f"reward {self.reward.value:.3f}")
        if self.loss is not None:
            found.append(f"loss {self.loss:.3g}")
        return found

    def speed(self) -> list[str]:
        found = []
        if self.step_s.value is not None:
            found.append(f"{self.step_s.value:.2f} s/step")
        if self.tokens_per_s.value is not None:
            found.append(f"{self.tokens_per_s.value:,.0f} tokens/s")
        return found


class ProgressCallback(TrainerCallback):
    """Shows the step, smoothed reward, loss, held-out pass rate, speed, time left and the curriculum's stage.

    Only the main process speaks: the console of the others is quiet.

    Args:
        stage: names the current stage; empty without a curriculum.
        clock: seconds of a clock that never goes back.
        bar: a bar that stays at the bottom instead of lines. Default: on a terminal.
    """

    def __init__(
        self,
        console: Console,
        stage: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
        bar: bool | None = None,
    ) -> None:
        self.console = console
        self.shows_bar = console.is_terminal if bar is None else bar
        self.stage = stage
        self.clock = clock
        self.pace = Pace()
        self.evaluation = ""
        self._bar: Progress | None = None
        self._line_due = clock()

    def show_evaluation(self, pass_rate: float) -> None:
        """The newest held-out pass rate (0 to 1) stays in the line."""
        self.evaluation = f"held-out {pass_rate:.3f}"
        self._line_due = self.clock()

    def say(self, line: str) -> None:
        """Print a line that stays, above the bar; how training goes is told after the next step."""
        self.console.print(line, highlight=False)
        self._line_due = self.clock()

    def line(self, max_steps: int) -> str:
        """Everything but the step."""
        left = self.pace.left(max_steps, self.clock())
        time_left = "" if left is None else f"{show_duration(left)} left"
        return "  ".join(
            filter(None, [*self.pace.parts(), self.evaluation, *self.pace.speed(), time_left, self.stage()])
        )

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.pace.begin(state.global_step, self.clock())
        if not self.shows_bar:
            return
        self._bar = Progress(
            TextColumn("[bold]step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
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
        self.pace.add(state.global_step, logs)
        status = self.line(state.max_steps)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=state.global_step, status=status)
        elif self.clock() >= self._line_due:
            self.console.print(f"step {state.global_step}/{state.max_steps}  {status}", highlight=False)
            self._line_due = self.clock() + PLAIN_LINE_EVERY_S

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away (also after an exception)."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

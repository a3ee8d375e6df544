"""The line that says how training goes."""

from __future__ import annotations

import io

from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

from grpo_project.durations import show_duration
from grpo_project.training.progress import ProgressCallback


class Run:
    """A training whose steps take ``seconds`` by a clock of its own."""

    def __init__(self, *, terminal: bool = False, first_step: int = 0) -> None:
        self.now = 1000.0
        self.out = io.StringIO()
        console = Console(file=self.out, force_terminal=terminal, width=200, soft_wrap=not terminal)
        self.progress = ProgressCallback(console, lambda: "foundation", clock=lambda: self.now)
        self.state = TrainerState(global_step=first_step, max_steps=100)
        self.events = (TrainingArguments(report_to=[], use_cpu=True), self.state, TrainerControl())
        self.progress.on_train_begin(*self.events)

    def step(self, reward: float, seconds: float = 2.0) -> None:
        self.state.global_step += 1
        self.now += seconds
        row = {
            "loss": -0.01234,
            "reward": reward,
            "step_time": seconds / 2,
            "num_tokens": 500.0 * self.state.global_step,
        }
        self.progress.on_log(*self.events, logs=row)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


def test_piped_a_line_says_all_of_it_every_fifteen_seconds() -> None:
    run = Run(first_step=50)
    for step in range(1, 18):  # 34 seconds
        run.step(reward=0.5 if step < 9 else 1.0)
    assert len(run.lines) == 3  # after 2, 18 and 34 seconds
    assert run.lines[0] == "step 51/100  reward 0.500  loss -0.0123  1.00 s/step  1 min 38 s left  foundation"
    assert run.lines[1] == (
        "step 59/100  reward 0.550  loss -0.0123  1.00 s/step  500 tokens/s  1 min 22 s left  foundation"
    ), "the reward is smoothed: 0.9 of what was and 0.1 of the new"


def test_after_an_event_the_next_step_is_told() -> None:
    run = Run()
    run.step(0.5)
    run.step(0.5)
    assert len(run.lines) == 1
    run.progress.show_evaluation(0.25)
    run.step(0.5)
    assert "held-out 0.250" in run.lines[-1] and len(run.lines) == 2
    run.progress.say("step 3: foundation -> elementary: because")
    run.step(0.5)
    assert run.lines[-2] == "step 3: foundation -> elementary: because"
    assert run.lines[-1].startswith("step 4/100") and len(run.lines) == 4


def test_on_a_terminal_the_bar_holds_the_same_and_is_taken_away() -> None:
    run = Run(terminal=True)
    for _ in range(3):
        run.step(0.5)
    run.progress.stop()
    run.progress.stop()
    assert "3/100" in run.out.getvalue() and "tokens/s" in run.out.getvalue()


def test_a_row_without_a_reward_keeps_the_last_one() -> None:
    run = Run()
    run.step(0.5)
    run.progress.on_log(*run.events, logs={"loss": 1.0})
    run.progress.on_log(*run.events, logs={"train_runtime": 3.0})
    assert run.progress.line(100).startswith("reward 0.500  loss 1  ")


def test_durations_as_people_read_them() -> None:
    shown = [show_duration(seconds) for seconds in (0, 8.4, 90, 3600 * 3 + 50 * 60, 86400 * 2 + 3600 * 4)]
    assert shown == ["0 s", "8 s", "1 min 30 s", "3 h 50 min", "2 d 4 h"]

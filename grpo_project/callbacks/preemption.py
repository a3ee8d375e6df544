"""Stopping on purpose: a signal ends the run at the next state from which a resume is exact."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger("grpo_project")

# SIGUSR1 is Slurm's early warning (--signal=USR1@120), SIGTERM what schedulers and clouds send.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """Remembers the first stop signal. A second one ends the process at once.

    Nothing recorded is lost either way: journal rows are written before training goes on, checkpoints by rename.
    Used as a context manager in the main thread; the former handlers come back at its end.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._former: dict[signal.Signals, Any] = {}

    @property
    def pending(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.pending:
            os.write(2, b"\nsecond signal: exit at once; the last checkpoint stands\n")
            os._exit(128 + number)
        self.signal = signal.Signals(number)
        message = f"\n{self.signal.name}: saving a checkpoint at the end of this step (again: exit at once)\n"
        os.write(2, message.encode())


class PreemptionCallback(TrainerCallback):
    """Ends training with a checkpoint at the end of the step in which a stop was asked for, on every rank alike."""

    def __init__(self, request: StopRequest, on_stop: Callable[[int, str], None]) -> None:
        self.request = request
        self.on_stop = on_stop
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        # A signal may reach one rank only; all of them must leave the loop at the same step.
        names = [self.request.signal.name if self.request.signal else ""]
        names = gather_object(names) if args.world_size > 1 else names
        if (name := next(filter(None, names), "")) and not self.stopped:
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True
            self.on_stop(state.global_step, name)
        return control

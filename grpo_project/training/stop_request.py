"""A wish to stop: a signal, or the end of the time that the run was given.

What receives the wish only remembers it. The trainer asks ``pending`` wherever it can stop so that a resume is exact
(``interruptible``), saves there, and leaves.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# SIGUSR1 is Slurm's early warning (--signal=USR1@120), SIGTERM what schedulers and clouds send, SIGHUP comes when a
# terminal is closed.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
EXIT_STOPPED = 75  # EX_TEMPFAIL: run the same command again to go on


class StopRequest:
    """The first stop signal, or a deadline; a second signal ends the process at once.

    Nothing recorded is lost either way: journal rows are written before training goes on, checkpoints appear by
    rename. Used as a context manager in the main thread; the former signal handlers come back at its end.

    Args:
        grace_s: after a signal, how long the run may take to reach a state that can be saved. Then the process ends
            without saving (the last checkpoint stands); a save that is under way is left to finish.
        max_runtime_s: stop on purpose after so many seconds.
    """

    def __init__(self, grace_s: float = 30.0, max_runtime_s: float | None = None) -> None:
        self.grace_s = grace_s
        self.deadline = None if max_runtime_s is None else time.monotonic() + max_runtime_s
        self.signal: signal.Signals | None = None
        self._asked: str | None = None
        self._goes_on = False
        self._saving = False
        self._former: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None

    def ask(self, reason: str, *, goes_on: bool = False) -> None:
        """Stop because the program itself finds no sense in going on; the first reason counts.

        ``goes_on``: the same command would go on from there, so that a queue may start it again.
        """
        if self._asked is None:
            self._asked, self._goes_on = reason, goes_on

    @property
    def pending(self) -> bool:
        return self.reason is not None

    @property
    def reason(self) -> str | None:
        """``SIGTERM`` and the like, ``max_runtime``, what was given to ``ask``, or ``None``."""
        if self.signal is not None:
            return self.signal.name
        if self._asked is not None:
            return self._asked
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "max_runtime"
        return None

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 75 where the same command goes on, 1 where it would only stop again."""
        if self.signal is None and self._asked is not None and not self._goes_on:
            return 1
        return 128 + signal.SIGINT if self.signal is signal.SIGINT else EXIT_STOPPED

    @property
    def is_saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._saving

    @contextmanager
    def saving(self) -> Iterator[None]:
        """While a checkpoint is written, the end of the grace period does not end the process."""
        before, self._saving = self._saving, True  # one save waits for the end of the one before
        try:
            yield
        finally:
            self._saving = before

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if self._timer is not None:
            self._timer.cancel()

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            os.write(2, b"\nsecond signal: exit at once; the last checkpoint stands\n")
            os._exit(128 + number)
        self.signal = signal.Signals(number)
        os.write(2, f"\n{self.signal.name}: saving a checkpoint, then stop (again: exit at once)\n".encode())
        self._timer = threading.Timer(self.grace_s, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def _give_up(self) -> None:
        if not self._saving:
            text = f"\nno state that can be saved was reached in {self.grace_s:g} s; the last checkpoint stands\n"
            os.write(2, text.encode())
            os._exit(self.exit_code)


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """While nothing is there to be saved, before training: a stop signal ends the process with the documented code."""

    def leave(number: int, _: FrameType | None) -> None:
        os.write(2, f"\n{signal.Signals(number).name}: stopped before training began\n".encode())
        os._exit(128 + signal.SIGINT if number == signal.SIGINT else EXIT_STOPPED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, leave) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)

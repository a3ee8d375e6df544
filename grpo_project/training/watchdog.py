"""A run that stands still says so, with the stacks of all threads, and ends if it is to.

The watchdog is a thread of its own. It looks at when the training thread moved last (a token, a verdict, the beginning
or end of a phase, see ``phases``). When it stands still for too long, an event holds the phase and what every thread
was doing. With ``--on_hang exit`` the watchdog then interrupts the training thread by a signal: if that waits for
something (a verdict, a lock, a socket) within a step, it leaves the step and saves the state at its beginning, as for a
stop signal. What can't be interrupted that way, native code or a collective, ends with the process and leaves the
checkpoint before.

Native code that never lets go of Python's global lock stops this thread too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from grpo_project.training.phases import Phases
from grpo_project.training.stop_request import EXIT_STOPPED, StopRequest

LEAST_STALL_S = 300.0
TIMES_USUAL = 10.0
FRAMES = 30
"""Innermost frames of each thread's stack that are kept."""
TELLING_S = 10.0
"""How long writing the event down may take: what stands still may be the disk."""
SAVING_FACTOR = 4.0
"""A save that is under way when the grace period ends gets so many times as long."""
INTERRUPT = signal.SIGVTALRM  # nobody sends it from outside, and no library of ours uses it


class Watchdog:
    """Watches the thread that enters it, as a context manager.

    Args:
        phases: of the trainer.
        stop: asked to stop, with the reason, when the run is to end.
        stall_after_s: no progress for so long is a standstill; ``None``: ten times what the phase usually takes, and
            at least 300 s.
        exit_on_hang: end the process with ``EXIT_STOPPED``, after a try to save.
        tell: called as ``(event, **fields)`` from the watchdog's thread.
        interrupt: raises, in the watched thread, what leaves the step if that can be; else returns.
        every_s: how often it looks.
    """

    def __init__(
        self,
        phases: Phases,
        stop: StopRequest,
        *,
        stall_after_s: float | None = None,
        exit_on_hang: bool = False,
        tell: Callable[..., None] = lambda *_, **__: None,
        interrupt: Callable[[], None] = lambda: None,
        every_s: float = 1.0,
    ) -> None:
        self._phases, self._stop = phases, stop
        self._stall_after_s, self._exit_on_hang = stall_after_s, exit_on_hang
        self._tell, self._interrupt = tell, interrupt
        self._every_s = every_s
        self._over = threading.Event()
        self._watched = threading.main_thread()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._former: Any = None

    def __enter__(self) -> Watchdog:
        self._phases.moved()
        if threading.current_thread() is self._watched:
            self._former = signal.signal(INTERRUPT, self._received)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=TELLING_S)
        if self._former is not None:
            signal.signal(INTERRUPT, self._former)

    def limit_s(self) -> float:
        """How long the phase that is going on may stand still."""
        if self._stall_after_s is not None:
            return self._stall_after_s
        usual = self._phases.usual_s(self._phases.open[-1]) if self._phases.open else None
        return max(LEAST_STALL_S, TIMES_USUAL * (usual or 0.0))

    def _watch(self) -> None:
        reported = 0.0
        while not self._over.wait(self._every_s):
            moved_at = self._phases.moved_at
            still_s = time.monotonic() - moved_at
            if still_s < self.limit_s() or moved_at == reported:
                continue
            reported = moved_at  # once for each standstill
            self._report(still_s)
            if self._exit_on_hang:
                self._end()

    def _report(self, still_s: float) -> None:
        phase = self._phases.open[-1] if self._phases.open else "between phases"
        what = "the run ends" if self._exit_on_hang else "it goes on waiting (--on_hang exit would end it)"
        line = f"no progress for {still_s:.0f} s in {phase}; {what}; the stacks of all threads are in the event `hang`"
        stacks = all_stacks()

        def tell() -> None:
            self._tell("hang", phase=phase, seconds=round(still_s, 1), stacks=stacks)

        os.write(2, f"\nwarning: {line}\n".encode())
        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(TELLING_S)

    def _end(self) -> None:
        """Have the training thread leave the step and save, or leave without it; never returns if it stays."""
        began = time.monotonic()
        self._stop.ask("hang", goes_on=True)
        if self._watched.ident is not None:
            signal.pthread_kill(self._watched.ident, INTERRUPT)
        while not self._over.wait(0.1):
            waited_s = time.monotonic() - began
            if waited_s > self._stop.grace_s * (SAVING_FACTOR if self._stop.is_saving else 1.0):
                os.write(
                    2, b"\nthe run could not be interrupted; the last checkpoint stands, the same command goes on\n"
                )
                os._exit(EXIT_STOPPED)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._interrupt()


def all_stacks() -> dict[str, list[str]]:
    """What every thread is doing: its name -> the innermost lines, the newest last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        f"{names.get(ident, 'unknown')} ({ident})": [
            f"{entry.filename}:{entry.lineno} {entry.name}: {entry.line}"
            for entry in traceback.extract_stack(frame)[-FRAMES:]
        ]
        for ident, frame in sys._current_frames().items()
    }

"""The trainer's end of the verifier: start the server by exec, write jobs, read outcomes. No thread of its own.

Whoever waits for an outcome reads the link; with several waiting threads one of them reads for all.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import threading
from collections.abc import Collection
from typing import Any

from grpo_project.errors import ConfigError, SandboxError
from grpo_project.verifier.cage import launch, wire
from grpo_project.verifier.cage.isolation import LEVELS
from grpo_project.verifier.languages import Spec

Outcome = tuple[str, Any]
_END_LIMIT_S = 10.0


class Engine:
    """A running server and the outcomes that were read from it. For any number of threads."""

    def __init__(self, workers: int, isolation: str | None) -> None:
        """Start the server. Raises ``ConfigError`` where the machine does not allow the isolation level."""
        self._owner = os.getpid()
        self._link, theirs = socket.socketpair()
        level = -1 if isolation is None else LEVELS.index(isolation)
        with theirs:
            self._process = subprocess.Popen(
                launch.command("engine.server", theirs.fileno(), workers, level),
                env=launch.server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is the trainer's to handle
            )
        self._writing = threading.RLock()  # cancel() may be called by the garbage collector, amid a submit()
        self._changed = threading.Condition()
        self._reader_active = False
        self._outcomes: dict[int, Outcome] = {}
        self._cancelled: set[int] = set()
        self._next = 0
        self._profiles: set[str] = set()  # that the server knows
        self.usable = True
        """``False`` once the link is broken: the owner starts another engine."""
        self.isolation = self._greeting()

    def _greeting(self) -> str:
        message = wire.receive(self._link)
        if message is None:
            self.close()
            raise SandboxError("the verifier's server did not start")
        _, kind, content = pickle.loads(message)
        if kind == "fault":
            self.close()
            raise ConfigError(f"verifier isolation: {content}")
        return content

    @property
    def here(self) -> bool:
        """Whether this process started the server, rather than a parent that forked it."""
        return self._owner == os.getpid()

    def submit(self, spec: Spec, program: str, seed: bytes) -> int:
        """Queue a job and return its number. Raises ``SandboxError`` when the server is gone."""
        with self._writing:
            if not spec.profiles.keys() <= self._profiles:
                self._profiles |= spec.profiles.keys()
                self._write((-2, {name: profile._asdict() for name, profile in spec.profiles.items()}))
            self._next += 1
            self._write((self._next, spec.key, spec.payload, program, seed, spec.stuck_s))
            return self._next

    def cancel(self, numbers: Collection[int]) -> None:
        """Nobody waits for these jobs any more: those that wait in the queue are not started."""
        with self._changed:
            for number in numbers:
                if self._outcomes.pop(number, None) is None:
                    self._cancelled.add(number)
        with self._writing, contextlib.suppress(SandboxError):  # with the server its queue is gone as well
            if numbers and self.usable:
                self._write((-1, list(numbers)))

    def _write(self, message: tuple) -> None:
        try:
            wire.send(self._link, pickle.dumps(message))
        except OSError as error:
            raise self._gone(error) from None

    def take(self, numbers: Collection[int]) -> tuple[int, Outcome]:
        """Wait for any of these jobs and take its outcome. Raises ``SandboxError`` when the server is gone."""
        while True:
            with self._changed:
                for number in numbers:
                    if number in self._outcomes:
                        return number, self._outcomes.pop(number)
                if not self.usable:
                    raise SandboxError("the verifier's server is gone")
                if self._reader_active:
                    self._changed.wait()
                    continue
                self._reader_active = True
            self._read_one()

    def _read_one(self) -> None:
        whole = False
        try:
            message = wire.receive(self._link)
            whole = message is not None
        except OSError as error:
            raise self._gone(error) from None
        finally:
            with self._changed:
                self._reader_active = False
                if whole and message is not None:
                    self._keep(*pickle.loads(message))
                else:
                    self.usable = False  # the end, or an interrupt (Ctrl-C) amid a message: the rest makes no sense
                self._changed.notify_all()

    def _keep(self, number: int, kind: str, content: Any) -> None:
        if number in self._cancelled:
            self._cancelled.discard(number)
        else:
            self._outcomes[number] = (kind, content)

    def _gone(self, error: OSError) -> SandboxError:
        self.usable = False
        return SandboxError(f"the verifier's server is gone ({error})")

    def close(self) -> None:
        """End the server and wait for it. In a process that was forked from the owner, only let go of the link."""
        self.usable = False
        if not self.here:
            self._link.close()
            self._process.returncode = 0  # another process's child: not for this one to wait for
            return
        if self._link.fileno() >= 0:
            self._link.shutdown(socket.SHUT_RDWR)  # seen by the server even where a forked process holds a copy
            self._link.close()
        try:
            self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

"""The trainer's end of the verifier: start the server by exec, write jobs, read outcomes. No thread of its own.

Whoever waits for an outcome reads the link; with several waiting threads one of them reads for all.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import threading
from collections.abc import Collection
from typing import Any

from grpo_project.errors import ConfigError, SandboxError
from grpo_project.verifier import launch, wire
from grpo_project.verifier.isolation import LEVELS

Outcome = tuple[str, Any]


class Engine:
    """A running server and the outcomes that were read from it. For any number of threads."""

    def __init__(self, workers: int, isolation: str | None) -> None:
        """Start the server. Raises ``ConfigError`` where the machine does not allow the isolation level."""
        self.pid = os.getpid()
        self._link, theirs = socket.socketpair()
        level = -1 if isolation is None else LEVELS.index(isolation)
        with theirs:
            self._process = subprocess.Popen(
                launch.command("server", theirs.fileno(), workers, level),
                env=launch.ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is the trainer's to handle
            )
        self._writing = threading.Lock()
        self._changed = threading.Condition()
        self._reader_active = False
        self._outcomes: dict[int, Outcome] = {}
        self._next = 0
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

    def submit(self, key: bytes, problem: bytes, program: str, stuck_s: float) -> int:
        """Queue a job and return its number. Raises ``SandboxError`` when the server is gone."""
        with self._writing:
            self._next += 1
            try:
                wire.send(self._link, pickle.dumps((self._next, key, problem, program, stuck_s)))
            except OSError as error:
                raise SandboxError(f"the verifier's server is gone ({error})") from None
            return self._next

    def take(self, numbers: Collection[int]) -> tuple[int, Outcome]:
        """Wait for any of these jobs and take its outcome. Raises ``SandboxError`` when the server is gone."""
        while True:
            with self._changed:
                for number in numbers:
                    if number in self._outcomes:
                        return number, self._outcomes.pop(number)
                if self._reader_active:
                    self._changed.wait()
                    continue
                self._reader_active = True
            self._read_one()

    def _read_one(self) -> None:
        message = None
        try:
            message = wire.receive(self._link)
        except OSError as error:
            raise SandboxError(f"the verifier's server is gone ({error})") from None
        finally:
            with self._changed:
                self._reader_active = False
                if message is not None:
                    number, kind, content = pickle.loads(message)
                    self._outcomes[number] = (kind, content)
                self._changed.notify_all()
        if message is None:
            raise SandboxError("the verifier's server is gone")

    def close(self) -> None:
        """End the server and wait for it. In a process that was forked from the owner, only let go of the link."""
        if self.pid != os.getpid():
            self._link.close()
            return
        self._link.shutdown(socket.SHUT_RDWR)  # seen by the server even where a forked process holds a copy
        self._link.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

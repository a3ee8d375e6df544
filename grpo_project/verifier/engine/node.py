"""A node's end of the verification on a cluster: an actor that hosts this package's own engine, with its cage.

Plain Python: Ray makes an actor of the class where a cluster is used (``engine.cluster``).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from grpo_project.errors import ConfigError, SandboxError
from grpo_project.verifier.engine.engine import Engine
from grpo_project.verifier.languages import Spec

ENGINES = 3
"""Engines that a batch is given to in all when they die."""
Task = tuple[int, bytes, str, bytes]
"""A job's number, its problem's key, the program, the seed."""


class Node:
    """Judges batches; two at a time, so that the workers have something to do while one is on its way.

    Args:
        workers: candidates run at the same time.
        isolation: the level that is asked for; ``None`` takes the strongest that this node allows.
    """

    def __init__(self, workers: int, isolation: str | None) -> None:
        self._workers = workers
        self._asked = isolation
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._specs: dict[bytes, Spec] = {}

    def about(self) -> dict[str, Any]:
        """``version`` of this package and ``isolation`` in force; ``refused`` where this node can't be used."""
        from grpo_project import __version__

        try:
            return {"version": __version__, "isolation": self._running().isolation}
        except (ConfigError, SandboxError) as error:
            return {"version": __version__, "refused": str(error)}

    def nothing(self) -> None:
        """A round trip, to be timed."""

    def run(self, tasks: Sequence[Task], specs: dict[bytes, Spec]) -> list[tuple[int, str, Any]]:
        """The outcomes of a batch, as they were done. ``specs``: of problems that this node has not seen yet.

        Raises:
            SandboxError: the node's own engine died again and again.
        """
        with self._lock:
            self._specs |= specs
        left = {number: (self._specs[key], program, seed) for number, key, program, seed in tasks}
        found: list[tuple[int, str, Any]] = []
        for attempt in range(ENGINES):
            try:
                engine = self._running()
                waiting = {engine.submit(*job): number for number, job in left.items()}
                while waiting:
                    taken, (kind, content) = engine.take(waiting)
                    number = waiting.pop(taken)
                    found.append((number, kind, content))
                    del left[number]
                return found
            except SandboxError:
                if attempt + 1 == ENGINES:
                    raise
        return found

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _running(self) -> Engine:
        with self._lock:
            if self._engine is not None and not self._engine.usable:
                self._engine.close()
                self._engine = None
            if self._engine is None:
                self._engine = Engine(self._workers, self._asked)
            return self._engine

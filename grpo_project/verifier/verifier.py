"""``Verifier``: completions in, verdicts out."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from grpo_project.errors import ConfigError, SandboxError
from grpo_project.problems.problem import Problem
from grpo_project.verifier.cage import machine
from grpo_project.verifier.cage.isolation import LEVELS
from grpo_project.verifier.engine.batch import Batch, Cache
from grpo_project.verifier.engine.engine import Engine
from grpo_project.verifier.languages import Spec, spec_of
from grpo_project.verifier.verdict import Job, Verdict

if TYPE_CHECKING:
    from grpo_project.verifier.engine.cluster import ClusterEngine

logger = logging.getLogger("grpo_project")

_SPECS_KEPT = 4096


class Verifier:
    """Judges completions in caged worker processes.

    Usable from several threads, as a context manager, and after a fork of the owner (the child gets its own workers).
    Nothing is started before the first job.

    Args:
        workers: candidates run at the same time; by default one a core that the cgroup pays for, shared among the
            ranks of this machine.
        isolation: ``namespaces``, ``landlock`` or ``rlimits``; ``None`` takes the strongest that the machine allows,
            and never ``rlimits``, which has to be named.
        cache: keep verdicts by code, tests and limits.
        stop_early: leave a candidate's other tests out once one has failed, for rewards that are all or nothing.
        address: a Ray cluster to judge on (``ray``, ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``), not this machine.
            ``workers`` are then those of each node, by default all of its cores. See docs/cluster.md.
        fallback: "local" goes on with this machine's own workers where the cluster has no node for minutes.
        secret: with the same secret, the same program gets the same verdict from the same tests, in any process and on
            any machine: the second order of the calls and the randomness that a program draws come from it. Keep it
            from the model. Without one it is drawn anew.

    Raises:
        ConfigError: an unknown isolation level, or no worker. That the machine does not allow the level is found out,
            and raised, by the first job.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        isolation: str | None = None,
        cache: bool = True,
        stop_early: bool = False,
        secret: bytes | None = None,
        address: str | None = None,
        fallback: str | None = None,
    ) -> None:
        if isolation is not None and isolation not in LEVELS:
            raise ConfigError(f"verifier isolation {isolation!r}: choose one of {', '.join(LEVELS)}")
        if workers is not None and workers < 1:
            raise ConfigError(f"verifier workers {workers}: at least 1")
        self.workers = workers or machine.workers()
        self._per_node = workers
        self._address, self._fallback = address, fallback
        self._asked = isolation
        self._stop_early = stop_early
        self._secret = os.urandom(32) if secret is None else secret
        self._cache = Cache() if cache else None
        self._specs: OrderedDict[int, tuple[Problem, Spec]] = OrderedDict()
        self._counts = {"jobs": 0, "run": 0, "cached": 0, "duplicates": 0}
        self._engine: Engine | ClusterEngine | None = None
        self._gave_up = False  # the cluster had no node for so long that the engine was given up
        self._lock = threading.Lock()
        self._owner = os.getpid()

    @property
    def isolation(self) -> str:
        """The isolation level in force. Starts the workers to find out."""
        return self._running().isolation

    @property
    def nodes(self) -> dict[str, str]:
        """The isolation level of each node of the cluster; empty without one. Starts the workers to find out."""
        engine = self._running()
        return {} if isinstance(engine, Engine) else engine.nodes

    @property
    def counts(self) -> dict[str, int]:
        """Jobs so far: all, those that were run, taken from the cache, and duplicates within one call."""
        return dict(self._counts)

    def verify(self, job: Job) -> Verdict:
        """Judge one completion. Raises ``SandboxError`` when our own side failed, ``DataError`` for unusable tests."""
        return self.verify_many([job])[0]

    def verify_many(
        self, jobs: Sequence[Job], *, secret: bytes | None = None, keep_unusable: bool = False
    ) -> list[Verdict]:
        """Judge them all; the verdicts come in the order of the jobs. Raises as ``verify``.

        Another ``secret`` than the verifier's own shows what of a verdict is chance. With ``keep_unusable``, a problem
        that can't be judged gives verdicts of status ``unusable`` instead of raising ``DataError``.
        """
        found = dict(self._batch(jobs, secret=secret, keep_unusable=keep_unusable))
        return [found[index] for index in range(len(jobs))]

    def stream(self, jobs: Iterable[Job], *, keep_faults: bool = False) -> Iterator[Verdict]:
        """Judge them all; verdicts in the order of completion. The work starts now, not with the first ``next``.

        With ``keep_faults``, a job that our own side could not judge on any attempt comes as a verdict of status
        ``infrastructure``, of which nothing but that is known, and the others go on; else ``SandboxError`` is raised.
        """
        batch = self._batch(list(jobs), keep_faults=keep_faults)
        return (verdict for _, verdict in batch)

    async def verify_async(self, job: Job) -> Verdict:
        """``verify`` without blocking the event loop."""
        return await asyncio.to_thread(self.verify, job)

    async def stream_async(self, jobs: Iterable[Job]) -> AsyncIterator[Verdict]:
        """``stream`` without blocking the event loop."""
        verdicts = self.stream(jobs)
        while (verdict := await asyncio.to_thread(next, verdicts, None)) is not None:
            yield verdict

    def close(self) -> None:
        """End the workers. The next job would start new ones."""
        self._after_fork()
        with self._lock:
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _after_fork(self) -> None:
        """In a forked child: other threads of the parent may have held the locks, and the workers are the parent's.

        First thing in whatever takes a lock.
        """
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._lock = threading.Lock()
            if self._cache is not None:
                self._cache.after_fork()
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def _running(self) -> Engine | ClusterEngine:
        self._after_fork()
        with self._lock:
            if self._engine is not None and not self._engine.usable:
                self._gave_up = not isinstance(self._engine, Engine)
                self._engine.close()
                self._engine = None
            if self._engine is None:
                self._engine = self._start()
                weakref.finalize(self, self._engine.close)
            return self._engine

    def _start(self) -> Engine | ClusterEngine:
        if self._address is None:
            return Engine(self.workers, self._asked)
        from grpo_project.verifier.engine.cluster import ClusterEngine

        if not self._gave_up or self._fallback is None:
            try:
                return ClusterEngine(self._address, self._per_node, self._asked)
            except SandboxError:
                if self._fallback is None:
                    raise
        logger.warning("verification: going on with this machine's own workers (--verifier_fallback local)")
        return Engine(machine.workers(), self._asked)

    def _batch(
        self,
        jobs: Sequence[Job],
        *,
        keep_faults: bool = False,
        keep_unusable: bool = False,
        secret: bytes | None = None,
    ) -> Batch:
        self._after_fork()
        return Batch(
            jobs,
            engine=self._running,
            spec=self._spec,
            cache=self._cache if secret is None else None,
            counts=self._counts,
            secret=self._secret if secret is None else secret,
            keep_faults=keep_faults,
            keep_unusable=keep_unusable,
        )

    def _spec(self, problem: Problem) -> Spec:
        """Made once for a problem object; keyed by identity, because not every problem is hashable."""
        with self._lock:
            known = self._specs.get(id(problem))
            if known is None or known[0] is not problem:
                known = (problem, spec_of(problem, stop_early=self._stop_early))
                self._specs[id(problem)] = known
                if len(self._specs) > _SPECS_KEPT:
                    self._specs.popitem(last=False)
            return known[1]

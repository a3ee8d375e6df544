"""``Verifier``: completions in, verdicts out."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from grpo_project.errors import ConfigError, DataError, SandboxError
from grpo_project.problems.problem import Problem
from grpo_project.verifier.cage.isolation import LEVELS
from grpo_project.verifier.engine.cache import Cache, Key
from grpo_project.verifier.engine.engine import Engine, Outcome
from grpo_project.verifier.extract import extract_code
from grpo_project.verifier.python.spec import Spec, spec_of
from grpo_project.verifier.verdict import Job, Status, TestResult, Verdict

_SPECS_KEPT = 4096


class Verifier:
    """Judges completions in caged worker processes.

    Usable from several threads, as a context manager, and after a fork of the owner (the child gets its own workers).
    Nothing is started before the first job.

    Args:
        workers: candidates run at the same time; by default one a core.
        isolation: ``namespaces``, ``landlock`` or ``rlimits``; ``None`` takes the strongest that the machine allows,
            and never ``rlimits``, which has to be named.
        cache: keep verdicts by code, tests and limits.
        stop_early: leave a candidate's other tests out once one has failed, for rewards that are all or nothing.

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
    ) -> None:
        if isolation is not None and isolation not in LEVELS:
            raise ConfigError(f"verifier isolation {isolation!r}: choose one of {', '.join(LEVELS)}")
        if workers is not None and workers < 1:
            raise ConfigError(f"verifier workers {workers}: at least 1")
        self.workers = workers or len(os.sched_getaffinity(0))
        self._asked = isolation
        self._stop_early = stop_early
        self._cache = Cache() if cache else None
        self._specs: OrderedDict[int, tuple[Problem, Spec]] = OrderedDict()
        self._counts = {"jobs": 0, "run": 0, "cached": 0, "duplicates": 0}
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._owner = os.getpid()

    @property
    def isolation(self) -> str:
        """The isolation level in force. Starts the workers to find out."""
        return self._running().isolation

    @property
    def counts(self) -> dict[str, int]:
        """Jobs so far: all, those that were run, taken from the cache, and duplicates within one call."""
        return dict(self._counts)

    def verify(self, job: Job) -> Verdict:
        """Judge one completion. Raises ``SandboxError`` when our own side failed, ``DataError`` for unusable tests."""
        return self.verify_many([job])[0]

    def verify_many(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Judge them all; the verdicts come in the order of the jobs. Raises as ``verify``."""
        found = dict(Batch(self, jobs))
        return [found[index] for index in range(len(jobs))]

    def stream(self, jobs: Iterable[Job]) -> Iterator[Verdict]:
        """Judge them all; verdicts in the order of completion. The work starts now, not with the first ``next``."""
        batch = Batch(self, list(jobs))
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
        """In a forked child: another thread of the parent may have held the lock, and the workers are the parent's."""
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._lock = threading.Lock()
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def _running(self) -> Engine:
        self._after_fork()
        with self._lock:
            if self._engine is not None and not self._engine.usable:
                self._engine.close()
                self._engine = None
            if self._engine is None:
                self._engine = Engine(self.workers, self._asked)
                weakref.finalize(self, self._engine.close)
            return self._engine

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


class Batch:
    """Jobs that were handed in together; iterating gives (index, verdict) as they are done. For one thread."""

    def __init__(self, verifier: Verifier, jobs: Sequence[Job]) -> None:
        self._verifier = verifier
        self._jobs = jobs
        self._ready: list[tuple[int, Verdict]] = []
        self._waiting: dict[int, Key] = {}
        self._indexes: dict[Key, list[int]] = {}
        self._engine: Engine | None = None
        for index, job in enumerate(jobs):
            self._submit(index, job)

    def _submit(self, index: int, job: Job) -> None:
        counts = self._verifier._counts
        counts["jobs"] += 1
        code = extract_code(job.completion, job.problem)
        if code is None:
            self._ready.append((index, _without_code(job)))
            return
        spec = self._verifier._spec(job.problem)
        key = (spec.key, code)
        cache = self._verifier._cache
        known = None if cache is None else cache.get(key)
        if known is not None:
            counts["cached"] += 1
            self._ready.append((index, _copy(known, job)))
        elif key in self._indexes:
            counts["duplicates"] += 1
            self._indexes[key].append(index)
        else:
            counts["run"] += 1
            self._engine = self._engine or self._verifier._running()
            self._waiting[self._engine.submit(spec.key, spec.payload, code, spec.stuck_s)] = key
            self._indexes[key] = [index]

    def __iter__(self) -> Iterator[tuple[int, Verdict]]:
        return self

    def __next__(self) -> tuple[int, Verdict]:
        if not self._ready:
            self._take_one()
        return self._ready.pop()

    def _take_one(self) -> None:
        if not self._waiting:
            raise StopIteration
        assert self._engine is not None
        number, outcome = self._engine.take(self._waiting)
        key = self._waiting.pop(number)
        first, *others = self._indexes.pop(key)
        verdict = _verdict(self._jobs[first], key[1], outcome)
        if self._verifier._cache is not None:
            self._verifier._cache.put(key, verdict)
        self._ready += [(index, _copy(verdict, self._jobs[index])) for index in reversed(others)]
        self._ready.append((first, verdict))

    def __del__(self) -> None:
        if getattr(self, "_waiting", None) and self._engine is not None and self._engine.here and self._engine.usable:
            self._engine.forget(self._waiting)


def _copy(verdict: Verdict, job: Job) -> Verdict:
    return dataclasses.replace(verdict, job_id=job.id, problem_id=job.problem.id, cached=True)


def _without_code(job: Job) -> Verdict:
    message = "no code found in the completion"
    tests = tuple(TestResult(Status.WRONG_FORMAT, message) for _ in job.problem.tests)
    return Verdict(job.id, job.problem.id, Status.WRONG_FORMAT, 0, len(tests), tests, None, message)


def _verdict(job: Job, code: str, outcome: Outcome) -> Verdict:
    kind, content = outcome
    if kind == "fault":
        raise SandboxError(f"problem {job.problem.id}: the sandbox failed on every attempt: {content}")
    if kind == "unusable":
        raise DataError(f"problem {job.problem.id}: {content}")
    weak, cpu_s, wall_s = False, 0.0, 0.0
    if kind == "overran":
        message = "the problem's own test code did not finish judging what the program returned"
        tests = tuple(TestResult(Status.TIMEOUT, message) for _ in job.problem.tests)
    else:
        weak, fields, cpu_s, wall_s = content
        tests = tuple(_test_result(*field) for field in fields)
    assert len(tests) == len(job.problem.tests)  # a verdict is one result for each test, whatever happened
    first = next((test for test in tests if not test.passed), None)
    return Verdict(
        job_id=job.id,
        problem_id=job.problem.id,
        status=first.status if first else Status.PASSED,
        passed=sum(test.passed for test in tests),
        total=len(tests),
        tests=tests,
        code=code,
        message=first.message if first else "",
        weak=weak,
        cpu_s=cpu_s,
        wall_s=wall_s,
    )


def _test_result(status: str, *rest: Any) -> TestResult:
    return TestResult(Status(status), *rest)

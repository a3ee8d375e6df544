"""``Verifier``: completions in, verdicts out."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from grpo_project.errors import ConfigError, DataError, SandboxError
from grpo_project.problems.problem import Problem
from grpo_project.verifier.engine import Engine, Outcome
from grpo_project.verifier.extract import extract_code
from grpo_project.verifier.isolation import LEVELS
from grpo_project.verifier.spec import Spec, spec_of
from grpo_project.verifier.verdict import Job, Status, TestResult, Verdict


class Verifier:
    """Judges completions in caged worker processes.

    Usable from several threads, as a context manager, and after a fork of the owner (the child gets its own workers).
    Nothing is started before the first job.

    Args:
        workers: candidates run at the same time; by default one a core.
        isolation: ``namespaces``, ``landlock`` or ``rlimits``; ``None`` takes the strongest that the machine allows,
            and never ``rlimits``, which has to be named.
        cache: keep verdicts by code, tests and limits.
    """

    def __init__(self, *, workers: int | None = None, isolation: str | None = None, cache: bool = True) -> None:
        if isolation is not None and isolation not in LEVELS:
            raise ConfigError(f"verifier isolation {isolation!r}: choose one of {', '.join(LEVELS)}")
        if workers is not None and workers < 1:
            raise ConfigError(f"verifier workers {workers}: at least 1")
        self._workers = workers or len(os.sched_getaffinity(0))
        self._asked = isolation
        self._engine: Engine | None = None
        self._starting = threading.Lock()
        self._specs: dict[int, tuple[Problem, Spec]] = {}
        self._cache: dict[tuple[bytes, str], Verdict] | None = {} if cache else None

    @property
    def isolation(self) -> str:
        """The isolation level in force. Starts the workers to find out."""
        return self._running().isolation

    def verify(self, job: Job) -> Verdict:
        """Judge one completion. Raises ``SandboxError`` when our own side failed, ``DataError`` for unusable tests."""
        return self.verify_many([job])[0]

    def verify_many(self, jobs: Sequence[Job]) -> list[Verdict]:
        """Judge them all; the verdicts come in the order of the jobs. Raises as ``verify``."""
        found: list[Verdict | None] = [None] * len(jobs)
        for index, verdict in self._run(jobs):
            found[index] = verdict
        return [verdict for verdict in found if verdict is not None]

    def stream(self, jobs: Iterable[Job]) -> Iterator[Verdict]:
        """Judge them all; verdicts in the order of completion. The work starts now, not with the first ``next``."""
        run = self._run(list(jobs))
        return (verdict for _, verdict in run)

    async def verify_async(self, job: Job) -> Verdict:
        """``verify`` without blocking the event loop."""
        return await asyncio.to_thread(self.verify, job)

    async def stream_async(self, jobs: Iterable[Job]) -> AsyncIterator[Verdict]:
        """``stream`` without blocking the event loop."""
        verdicts = self.stream(jobs)
        while (verdict := await asyncio.to_thread(next, verdicts, None)) is not None:
            yield verdict

    def _run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Verdict]]:
        """Submit now; the iterator that is returned collects."""
        ready: list[tuple[int, Verdict]] = []
        waiting: dict[int, tuple[int, str]] = {}
        for index, job in enumerate(jobs):
            code = extract_code(job.completion, job.problem)
            if code is None:
                ready.append((index, _without_code(job)))
                continue
            spec = self._spec(job.problem)
            engine = self._running()
            waiting[engine.submit(spec.key, spec.payload, code, spec.stuck_s)] = (index, code)
        return self._collect(jobs, ready, waiting)

    def _collect(
        self, jobs: Sequence[Job], ready: list[tuple[int, Verdict]], waiting: dict[int, tuple[int, str]]
    ) -> Iterator[tuple[int, Verdict]]:
        yield from ready
        while waiting:
            number, outcome = self._running().take(waiting)
            index, code = waiting.pop(number)
            yield index, _verdict(jobs[index], code, outcome)

    def _spec(self, problem: Problem) -> Spec:
        known = self._specs.get(id(problem))
        if known is None or known[0] is not problem:
            known = self._specs[id(problem)] = (problem, spec_of(problem))
        return known[1]

    def _running(self) -> Engine:
        with self._starting:
            if self._engine is not None and self._engine.pid != os.getpid():
                self._engine.close()
                self._engine = None
            if self._engine is None:
                self._engine = Engine(self._workers, self._asked)
            return self._engine

    def close(self) -> None:
        """End the workers. The next job would start new ones."""
        with self._starting:
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
    passed = sum(test.passed for test in tests)
    first = next((test for test in tests if not test.passed), None)
    return Verdict(
        job_id=job.id,
        problem_id=job.problem.id,
        status=first.status if first else Status.PASSED,
        passed=passed,
        total=len(job.problem.tests),
        tests=tests,
        code=code,
        message=first.message if first else "",
        weak=weak,
        cpu_s=cpu_s,
        wall_s=wall_s,
    )


def _test_result(status: str, *rest: Any) -> TestResult:
    return TestResult(Status(status), *rest)

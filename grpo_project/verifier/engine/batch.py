"""From jobs to verdicts: what is known already, what is asked twice, what has to be run.

A verdict depends on the program, the tests, the limits and the run's secret alone, so each is run once, and a redone
step gets the same.
"""

from __future__ import annotations

import dataclasses
import hmac
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from grpo_project.errors import DataError, SandboxError
from grpo_project.problems.problem import Problem
from grpo_project.verifier.engine.engine import Engine, Outcome
from grpo_project.verifier.languages import Spec, extract_code
from grpo_project.verifier.verdict import Job, Status, TestResult, Verdict

Key = tuple[bytes, str]
"""Hash of the tests and limits, and the program."""
_STATUSES = frozenset(Status) - {Status.INFRASTRUCTURE, Status.UNUSABLE}
KEPT = 20_000
ATTEMPTS = 3
"""Servers that a batch is given to in all when they die, each with all that is still to be done."""


class Cache:
    """Verdicts by code and tests; the newest are kept. For any number of threads.

    A time-out is not kept: a machine that was stalled for once must not be remembered.
    """

    def __init__(self) -> None:
        self._verdicts: OrderedDict[Key, Verdict] = OrderedDict()
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def get(self, key: Key) -> Verdict | None:
        with self._lock:
            if key in self._verdicts:
                self._verdicts.move_to_end(key)
            return self._verdicts.get(key)

    def put(self, key: Key, verdict: Verdict) -> None:
        if verdict.status is Status.TIMEOUT:
            return
        with self._lock:
            self._verdicts[key] = verdict
            if len(self._verdicts) > KEPT:
                self._verdicts.popitem(last=False)


class Batch:
    """Jobs that were handed in together; iterating gives (index, verdict) as they are done. For one thread."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        engine: Callable[[], Any],
        spec: Callable[[Problem], Spec],
        cache: Cache | None,
        counts: dict[str, int],
        secret: bytes,
        keep_faults: bool = False,
        keep_unusable: bool = False,
    ) -> None:
        """``engine`` is called for the first job that has to be run, and when it is gone; ``counts`` are added to.

        With ``keep_faults``, a job that our own side failed has a verdict of status ``infrastructure`` instead of
        raising ``SandboxError``; with ``keep_unusable``, one whose problem can't be judged has one of status
        ``unusable`` instead of raising ``DataError``.
        """
        self._jobs = jobs
        self._start = engine
        self._spec = spec
        self._cache = cache
        self._counts = counts
        self._secret = secret
        self._keep_faults = keep_faults
        self._keep_unusable = keep_unusable
        self._deaths = 0  # of servers
        self._failure: SandboxError | None = None
        self._unsent: list[tuple[Key, Spec]] = []
        self._ready: list[tuple[int, Verdict]] = []
        self._waiting: dict[int, tuple[Key, Spec]] = {}
        self._indexes: dict[Key, list[int]] = {}
        self._engine: Engine | None = None
        for index, job in enumerate(jobs):
            self._submit(index, job)

    def _submit(self, index: int, job: Job) -> None:
        counts = self._counts
        counts["jobs"] += 1
        code = extract_code(job.completion, job.problem)
        if code is None:
            self._ready.append((index, _without_code(job)))
            return
        spec = self._spec(job.problem)
        key = (spec.key, code)
        known = None if self._cache is None else self._cache.get(key)
        if known is not None:
            counts["cached"] += 1
            self._ready.append((index, _copy(known, job)))
        elif key in self._indexes:
            counts["duplicates"] += 1
            self._indexes[key].append(index)
        else:
            counts["run"] += 1
            self._indexes[key] = [index]
            self._run(key, spec)

    def _run(self, key: Key, spec: Spec) -> None:
        if self._failure is None:
            seed = hmac.digest(self._secret, spec.key + key[1].encode("utf-8", "surrogatepass"), "sha256")
            try:
                self._engine = self._engine or self._start()
                number = self._engine.submit(spec, key[1], seed)
            except SandboxError as error:
                self._failure = error
            else:
                self._waiting[number] = (key, spec)
                return
        self._unsent.append((key, spec))

    def _start_again(self, failure: SandboxError) -> None:
        """The server died with all that it had: give it to another. Raises ``SandboxError`` when that is in vain."""
        lost = [*self._waiting.values(), *self._unsent]
        self._waiting.clear()
        self._unsent.clear()
        self._engine = self._failure = None
        self._deaths += 1
        if self._deaths == ATTEMPTS and not self._keep_faults:
            raise failure
        for key, spec in lost:
            if self._deaths < ATTEMPTS:
                self._run(key, spec)
            else:
                self._done(key, ("fault", str(failure)))

    def __iter__(self) -> Iterator[tuple[int, Verdict]]:
        return self

    def __next__(self) -> tuple[int, Verdict]:
        while not self._ready:
            self._take_one()
        return self._ready.pop()

    def _take_one(self) -> None:
        if not self._waiting and not self._unsent:
            raise StopIteration
        if self._failure is None:
            assert self._engine is not None
            try:
                number, outcome = self._engine.take(self._waiting)
            except SandboxError as error:
                self._failure = error
            else:
                return self._done(self._waiting.pop(number)[0], outcome)
        self._start_again(self._failure)

    def _done(self, key: Key, outcome: Outcome) -> None:
        job = self._jobs[self._indexes[key][0]]
        if outcome[0] in ("judged", "out_of_memory") and not _makes_sense(outcome[1][0], job):
            outcome = ("fault", "the judge's answer makes no sense: test code may have changed it")
        if outcome[0] == "fault" and not self._keep_faults:
            raise SandboxError(f"problem {job.problem.id}: the sandbox failed on every attempt: {outcome[1]}")
        if outcome[0] == "unusable" and not self._keep_unusable:
            raise DataError(f"problem {job.problem.id}: {outcome[1]}")
        first, *others = self._indexes.pop(key)
        verdict = _verdict(job, key[1], outcome)
        if self._cache is not None and outcome[0] == "judged":
            self._cache.put(key, verdict)
        self._ready += [(index, _copy(verdict, self._jobs[index])) for index in reversed(others)]
        self._ready.append((first, verdict))

    def __del__(self) -> None:
        if getattr(self, "_waiting", None) and self._engine is not None and self._engine.here and self._engine.usable:
            self._engine.cancel(self._waiting)


def _makes_sense(results: list[list[Any]], job: Job) -> bool:
    """Whether there is one result for each test, of a status that there is."""
    return len(results) == len(job.problem.tests) and all(result[0] in _STATUSES for result in results)


def _copy(verdict: Verdict, job: Job) -> Verdict:
    return dataclasses.replace(verdict, job_id=job.id, problem_id=job.problem.id, cached=True)


def _without_code(job: Job) -> Verdict:
    message = "no code found in the completion"
    tests = tuple(TestResult(Status.WRONG_FORMAT, message) for _ in job.problem.tests)
    return Verdict(job.id, job.problem.id, Status.WRONG_FORMAT, 0, len(tests), tests, None, message)


def _verdict(job: Job, code: str, outcome: Outcome) -> Verdict:
    kind, content = outcome
    cpu_s, wall_s, weak, method, remarks = 0.0, 0.0, False, "", ()
    if kind == "fault":
        message = f"the sandbox failed on every attempt: {content}"
        tests = tuple(TestResult(Status.INFRASTRUCTURE, message) for _ in job.problem.tests)
    elif kind == "unusable":
        tests = tuple(TestResult(Status.UNUSABLE, content) for _ in job.problem.tests)
    elif kind == "overran":
        message = "the problem's own test code did not finish judging what the program returned"
        tests = tuple(TestResult(Status.TIMEOUT, message) for _ in job.problem.tests)
    else:
        fields, cpu_s, wall_s, weak, method, remarks = content
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
        method=method,
        remarks=tuple(remarks),
        cpu_s=cpu_s,
        wall_s=wall_s,
    )


def _test_result(status: str, *rest: Any) -> TestResult:
    return TestResult(Status(status), *rest)

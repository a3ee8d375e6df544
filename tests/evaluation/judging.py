"""A judge without a sandbox, for tests of what happens around it, and problems for it."""

import hashlib
import time
from collections import Counter

from grpo_project.errors import SandboxError
from grpo_project.problems.problem import CallTest, Problem
from grpo_project.verifier.verdict import Status, TestResult, Verdict

LEVELS = ("foundation", "elementary", "expert")


def make_problems(count):
    return [
        Problem(
            id=f"p{i}",
            prompt=f"Write a function f that adds {i}.",
            tests=(CallTest((0,), i), CallTest((1,), i + 1), CallTest((2,), i + 2)),
            entry_point="f",
            level=LEVELS[i % len(LEVELS)],
            source="tests",
        )
        for i in range(count)
    ]


class HashJudge:
    """Passes as many tests as a hash of the completion says.

    ``fail_on``: (problem, n) for the n-th time, from 1, that this problem comes up and can't be judged; ``seconds``
    are what each completion takes.
    """

    def __init__(self, fail_on=(), seconds=0.0):
        self.fail_on = frozenset(fail_on)
        self.seconds = seconds
        self.times = Counter()

    @property
    def jobs(self):
        return self.times.total()

    def stream(self, jobs):
        for job in jobs:
            time.sleep(self.seconds)
            self.times[job.problem.id] += 1
            if (job.problem.id, self.times[job.problem.id]) in self.fail_on:
                raise SandboxError("the sandbox did not start")
            yield self._judge(job)

    def _judge(self, job):
        total = len(job.problem.tests)
        passed = hashlib.sha256(job.completion.encode("utf-8", "replace")).digest()[0] % (total + 1)
        outcomes = [Status.PASSED] * passed + [Status.FAILED] * (total - passed)
        tests = tuple(TestResult(status, input="f(0)", expected="0", got="1") for status in outcomes)
        status = Status.PASSED if passed == total else Status.FAILED
        return Verdict(job.id, job.problem.id, status, passed, total, tests, code=job.completion)

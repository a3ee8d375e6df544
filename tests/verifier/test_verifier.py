"""The public face: one job, many jobs, the order of verdicts."""

import pytest

from grpo_project.problems.problem import CallTest, Problem, StdioTest
from grpo_project.verifier import Job, Status, Verifier

CLIP = Problem(
    "clip",
    "Clip x to lo..hi.",
    (CallTest((5, 0, 3), 3), CallTest((1, 0, 3), 1)),
    entry_point="clip",
    starter_code="def clip(x, lo, hi):\n",
)
RIGHT = "    return max(lo, min(x, hi))\n"


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2) as verifier:
        yield verifier


def test_a_right_body_passes(verifier):
    verdict = verifier.verify(Job(CLIP, RIGHT))
    assert (verdict.status, verdict.passed, verdict.total) == (Status.PASSED, 2, 2)


def test_verdicts_come_in_the_order_of_the_jobs(verifier):
    answers = [RIGHT, "    return 1\n", "no code at all", RIGHT]
    verdicts = verifier.verify_many([Job(CLIP, answer) for answer in answers])
    assert [verdict.status for verdict in verdicts] == ["passed", "failed", "wrong_format", "passed"]


def test_a_program_is_judged_by_what_it_prints(verifier):
    problem = Problem("sum", "Add.", (StdioTest("1 2\n", "3\n"), StdioTest("5 6\n", "11\n")))
    verdict = verifier.verify(Job(problem, "```python\nprint(sum(map(int, input().split())))\n```"))
    assert verdict.solved
    assert not verifier.verify(Job(problem, "```python\nprint(3)\n```")).solved

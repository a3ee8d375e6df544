"""What a verdict earns, and that evidence which the program gives on itself earns nothing unless it is allowed."""

from dataclasses import replace

import pytest

from grpo_project.problems.problem import AssertTest, Problem
from grpo_project.rewards import all_or_nothing, pass_rate
from grpo_project.verifier import Job, Status, TestResult, Verdict, Verifier

POINT = "class Point:\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x == o.x\n"
YES = "class Point:\n    def __init__(self, *a): self.x = 7\n    __eq__ = lambda s, o: True\n"
TESTS = tuple(map(AssertTest, ("assert Point(1) == Point(1)", "assert Point(1).x == 1", "assert Point(2).x == 2")))


def verdict_of(*tests: tuple[bool, bool]) -> Verdict:
    results = tuple(TestResult(Status.PASSED if ok else Status.FAILED, weak=weak) for ok, weak in tests)
    passed = sum(test.passed for test in results)
    return Verdict("j", "p", Status.PASSED if passed == len(tests) else Status.FAILED, passed, len(tests), results)


@pytest.mark.parametrize(
    ("tests", "ignored", "allowed"),
    [
        ([(True, False), (False, False)], 0.5, 0.5),
        ([(True, True), (True, False), (False, False)], 0.5, 2 / 3),
        ([(False, True), (True, False)], 1.0, 0.5),
        ([(True, True), (False, False)], 0.0, 0.5),
        ([(True, True), (True, True)], 0.0, 1.0),
    ],
)
def test_weak_tests_earn_nothing_unless_they_are_allowed(tests, ignored, allowed):
    verdict = verdict_of(*tests)
    assert pass_rate.of_group([verdict]) == pytest.approx([ignored])
    assert pass_rate.with_weak_tests("allow").of_group([verdict]) == pytest.approx([allowed])
    assert all_or_nothing.of_group([verdict]) == [float(ignored == 1.0)]


def test_what_our_own_side_could_not_judge_is_no_number():
    results = (TestResult(Status.INFRASTRUCTURE),)
    verdict = Verdict("j", "p", Status.INFRASTRUCTURE, 0, 1, results)
    assert pass_rate.of_group([verdict, replace(verdict, status=Status.FAILED)]) == [None, 0.0]


def test_an_object_that_equals_everything_earns_nothing():
    problem = Problem("p", "", TESTS, entry_point="Point", solution=POINT)
    with Verifier(workers=1) as verifier:
        right, sly = verifier.verify_many([Job(problem, POINT), Job(problem, YES)])
    assert [test.weak for test in right.tests] == [True, False, False]
    assert (right.solved, pass_rate.of_group([right])) == (True, [1.0])
    assert (sly.passed, pass_rate.of_group([sly])) == (1, [0.0])

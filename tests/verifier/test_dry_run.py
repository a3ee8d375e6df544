"""Calls that a test will make are found before there is a candidate, and a wrong guess does no harm."""

import marshal

import pytest

from grpo_project.problems.problem import AssertTest, CheckTest, Problem
from grpo_project.verifier import Job, Verifier
from grpo_project.verifier.python.dry_run import Prefetch
from grpo_project.verifier.python.source_grader import CheckGrader, SourceGrader
from grpo_project.verifier.python.spec import content_of


def planned(test):
    """(arguments of the planned calls, whether they are all) for one test."""
    grader = CheckGrader if isinstance(test, CheckTest) else SourceGrader
    held = grader(content_of(Problem("p", "", (test,), entry_point="f"))[0])
    return [args for _, (_, args, _) in held._prefetch.calls], held._final


def check(body):
    return CheckTest("def check(candidate):\n" + "".join(f"    {line}\n" for line in body.splitlines()))


@pytest.mark.parametrize(
    ("test", "calls", "whole"),
    [
        (AssertTest("assert f(1) == 1 and f(2) == 2"), [(1,), (2,)], True),
        (AssertTest("assert f(1) == 1 or f(2) == 2"), [(1,)], True),
        (AssertTest("assert 0 < f(3) < f(4)"), [(3,), (4,)], True),
        (AssertTest("assert not f(1)"), [(1,)], True),
        (AssertTest("x = 'a' * 3\nassert len(f(x)) == 3\nassert f([1])"), [("aaa",), ([1],)], True),
        (check("for n in range(3):\n    assert candidate(n * n) == n"), [(0,), (1,), (4,)], True),
        (check("got = candidate(1)\nassert abs(got - 1) < 1e-6\nassert sorted(got) == [1]"), [(1,)], True),
        (check("xs = [1]\ncandidate(xs)\nxs.append(2)\ncandidate(xs)"), [([1],), ([1, 2],)], True),
        (check("if candidate(1):\n    candidate(2)"), [], False),
        (check("for x in candidate(1):\n    candidate(2)"), [], False),
        (check("n = 0\nwhile True:\n    n += 1\n    candidate(1)"), [], False),
        (check("while True:\n    pass"), [], False),
        (check("assert candidate(1) == missing\nassert candidate(2) == 2"), [], False),
        (AssertTest("s = f(lambda x: x)"), [], False),
    ],
)
def test_calls_that_do_not_hang_on_an_answer_are_planned(test, calls, whole):
    assert planned(test) == (calls, whole)


def test_no_answer_is_planned_as_an_argument():
    """It would show the program what its own inner call had to return."""
    assert planned(check("assert candidate(candidate(1)) == 5\nassert candidate(2) == 2")) == ([], False)


def test_arguments_that_are_one_object_arrive_as_two():
    shared = [1]
    [(_, (left,), _), (_, (right, _), _)] = marshal.loads(Prefetch([("f", (shared,), {}), ("f", (shared, 2), {})]).blob)
    assert left == right
    assert left is not right


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=1, cache=False) as verifier:
        yield verifier


HANGS_ON_99 = "def f(x):\n    while x == 99: pass\n    return None if x == 1 else x\n"


@pytest.mark.parametrize(
    "body",
    [
        "got = candidate(1)\nif got is not None:\n    candidate(99)\nassert candidate(2) == 2",
        "if candidate(2) == 2:\n    assert candidate(3) == 3\nelse:\n    candidate(99)\nassert candidate(4) == 4",
        "n = candidate(3)\nassert [candidate(x) for x in range(2, 2 + n)] == [2, 3, 4]",
        "try:\n    assert candidate(candidate(5)) == 5\nexcept TypeError:\n    candidate(99)",
    ],
)
def test_a_wrong_plan_costs_no_right_program_its_pass(verifier, body):
    problem = Problem("p", "", (check(body),), entry_point="f", time_limit_s=0.3)
    right, wrong = Job(problem, HANGS_ON_99), Job(problem, "def f(x):\n    return 0\n")
    for _ in range(2):  # with the prefetch, and when it has been given up
        assert verifier.verify(right).solved
        assert not verifier.verify(wrong).solved

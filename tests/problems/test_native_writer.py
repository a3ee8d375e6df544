"""What is written is read back as it was."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_project.problems.formats import load_problems
from grpo_project.problems.identity import problem_fingerprint
from grpo_project.problems.native_writer import native_row, write_problems
from grpo_project.problems.problem import AssertTest, CallTest, CheckTest, Comparison, Problem, StdioTest
from grpo_project.problems.quickstart import builtin_problems

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(SCALARS, inner, max_size=3)
        | st.sets(SCALARS, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=3), VALUES, st.dictionaries(st.sampled_from(["a", "b"]), VALUES))
def test_values_of_every_kind(tmp_path_factory, args, expected, kwargs):
    problem = Problem("p", "Do it.", (CallTest(tuple(args), expected, kwargs),), entry_point="f")
    path = tmp_path_factory.getbasetemp() / "values.jsonl"
    write_problems([problem], path)
    (read,) = load_problems(path)
    assert problem_fingerprint(read) == problem_fingerprint(problem)


def test_every_field(tmp_path):
    full = Problem(
        "full",
        "Schreibe „f“.",
        (CheckTest("def check(candidate):\n    assert candidate(1)\n"),),
        level="expert",
        complexity=9.5,
        entry_point="f",
        solution="    return 1\n",
        starter_code="def f(x):\n",
        tags=("a", "b"),
        time_limit_s=0.5,
        memory_limit_mb=64,
        comparison=Comparison(float_tolerance=1e-6, nan_equal=False),
        checker="def check(args, kwargs, got, expected):\n    return True\n",
    )
    others = [
        Problem("a", "A", (AssertTest("assert f(1) == 2"),)),
        Problem("s", "S", (StdioTest("1\n", "2\n"), StdioTest("", "x"))),
        *builtin_problems("heldout", count=20),
    ]
    path = tmp_path / "all.jsonl"
    write_problems([full, *others], path)
    read = load_problems(path)
    assert [problem_fingerprint(problem) for problem in read] == [problem_fingerprint(p) for p in (full, *others)]
    assert [problem.solution for problem in read] == [problem.solution for problem in (full, *others)]


def test_what_cannot_be_said_is_refused():
    for value in (float("nan"), object(), frozenset({1})):
        with pytest.raises(ValueError, match="can't be written"):
            native_row(Problem("p", "P", (CallTest((value,), 1),), entry_point="f"))

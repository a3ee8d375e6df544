"""What a judge gets to know of a problem: its tests and limits as plain values, with a key of the content."""

from __future__ import annotations

import marshal
from typing import Any

from grpo_project.errors import DataError
from grpo_project.problems.problem import AssertTest, CallTest, CheckTest, Problem, StdioTest
from grpo_project.verifier.extract import scaffold_of
from grpo_project.verifier.python.asserts import classes_in

_KINDS = {CallTest: "call", AssertTest: "assert", CheckTest: "check", StdioTest: "stdio"}


def content_of(problem: Problem, *, stop_early: bool = False) -> tuple[dict[str, Any], float]:
    """Plain values, and wall seconds as in ``languages.Spec``. Raises ``DataError`` for tests that can't be run."""
    kinds = {type(test) for test in problem.tests}
    if len(kinds) != 1:
        raise DataError(f"problem {problem.id}: its tests have to be of one kind, and at least one")
    kind = _KINDS[kinds.pop()]
    choices = problem.comparison
    content: dict[str, Any] = {
        "kind": kind,
        "tests": [_plain(test) for test in problem.tests],
        "entry_point": problem.entry_point,
        "scaffold": scaffold_of(problem),
        "checker": problem.checker,
        "classes": classes_in(problem.solution, problem.starter_code),
        "stop_early": stop_early,
        "comparison": (choices.float_tolerance, choices.nan_equal, choices.distinguish_sequences),
        "limits": {
            "test_cpu_s": problem.time_limit_s,
            "load_cpu_s": max(1.0, problem.time_limit_s),
            "candidate_cpu_s": problem.time_limit_s * 10,
            "memory_mb": problem.memory_limit_mb,
        },
    }
    try:
        marshal.dumps(content["tests"])
    except ValueError:
        raise DataError(f"problem {problem.id}: a test's args have to be built-in values") from None
    runs = len(problem.tests) if kind == "stdio" else 1
    return content, 120 + runs * problem.time_limit_s * 100


def _plain(test: Any) -> tuple:
    match test:
        case CallTest(args, expected, kwargs):
            return tuple(args), dict(kwargs), expected
        case AssertTest(source) | CheckTest(source):
            return (source,)
        case StdioTest(stdin, stdout):
            return stdin, stdout
    raise AssertionError(f"no kind of test: {test!r}")

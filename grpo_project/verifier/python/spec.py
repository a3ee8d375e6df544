"""What a judge gets to know of a problem: its tests and limits as plain values, with a key of the content."""

from __future__ import annotations

import ast
import marshal
from typing import Any

from grpo_project.errors import DataError
from grpo_project.problems.problem import AssertTest, CallTest, CaseTest, CheckTest, Problem, StdioTest
from grpo_project.verifier.cage import launch
from grpo_project.verifier.cage.limits import Limits
from grpo_project.verifier.cage.profile import NUMPY, Profile
from grpo_project.verifier.extract import scaffold_of
from grpo_project.verifier.python.analysis import classes_in

_KINDS = {CallTest: "call", AssertTest: "assert", CheckTest: "check", CaseTest: "case", StdioTest: "stdio"}
_OF_SOURCE = ("assert", "check", "case")


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
        "classes_known": problem.solution is not None,
        "imports": _imports(problem) if kind in _OF_SOURCE else {},
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
    runs = len(problem.tests) if kind == "stdio" else 2  # twice where the order of calls matters
    return content, 240 + runs * Limits(**content["limits"]).wall_s


def profiles() -> dict[str, Profile]:
    """The cage with numpy loaded, where it is installed."""
    site = launch.found_numpy()
    return {} if site is None else {NUMPY: Profile(site=site, packages=("numpy.random",))}


def _imports(problem: Problem) -> dict[str, str]:
    """Name -> the reference's own import of it: tests may count on what only the solution imports."""
    found: dict[str, str] = {}
    for source in (problem.starter_code, problem.solution, f"{problem.starter_code}\n{problem.solution}"):
        try:
            tree = ast.parse(source or "")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # only a part of a program
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0):
                for alias in node.names:
                    found[(alias.asname or alias.name).split(".")[0]] = ast.unparse(node)
    return found


def _plain(test: Any) -> tuple:
    match test:
        case CallTest(args, expected, kwargs):
            return tuple(args), dict(kwargs), expected
        case AssertTest(source) | CheckTest(source):
            return (source,)
        case CaseTest(source, case, module):
            return source, case, module
        case StdioTest(stdin, stdout):
            return stdin, stdout
    raise AssertionError(f"no kind of test: {test!r}")

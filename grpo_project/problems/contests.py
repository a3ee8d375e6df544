"""Rows of contest collections, as their authors publish them -> ``Problem``: APPS, TACO and CodeContests.

APPS (Hendrycks et al. 2021) and TACO (Li et al. 2023): ``question``, and in ``input_output``, a JSON text, ``inputs``
and ``outputs``: texts for a program, or with ``fn_name`` arguments and results of a function, for LeetCode's problems a
method of ``class Solution``. CodeContests (Li et al. 2022): ``description``, and tests in three groups, all of which
judge. Difficulties are tags: how hard a problem is for a model is measured.
"""

from __future__ import annotations

import ast
import json
from typing import Any

from grpo_project.problems.faults import Faults, json_type
from grpo_project.problems.native import read_native
from grpo_project.problems.problem import Problem

_PYTHON3 = 3
"""CodeContests' number of the language, in ``solutions``."""
_GROUPS = ("public_tests", "private_tests", "generated_tests")
_SLOWER = 2.0
"""Least seconds for a Python program: contests set their limits for compiled ones."""
_ONE_OF = "def check(args, kwargs, got, expected):\n    return got in expected\n"


def is_apps(row: dict[str, Any]) -> bool:
    return "input_output" in row and "question" in row


def is_code_contests(row: dict[str, Any]) -> bool:
    return "public_tests" in row and "description" in row


def read_apps(row: dict[str, Any], faults: Faults) -> Problem | None:
    """APPS and TACO, which have the same fields for what is read here. Others are left alone."""
    content = _parsed(row.get("input_output"), "input_output", faults)
    solutions = _parsed(row.get("solutions") or "[]", "solutions", faults)
    if content is None or solutions is None:
        return None
    inputs, outputs = (content.get(name) if isinstance(content, dict) else None for name in ("inputs", "outputs"))
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs) or not inputs:
        faults.add("input_output", "has no inputs with as many outputs", "take the row out: it can't be judged")
        return None
    name = next((str(row[key]) for key in ("problem_id", "id", "name", "url") if row.get(key) not in (None, "")), "")
    function, starter = content.get("fn_name"), row.get("starter_code") or None
    native: dict[str, Any] = {
        "id": name or f"row-{faults.row}",
        "prompt": row["question"],
        "solution": solutions[0] if isinstance(solutions, list) and solutions else None,
        "tags": [str(tag) for tag in (row.get("difficulty"), row.get("source")) if tag],
    }
    pairs = list(zip(inputs, outputs, strict=True))
    if function is None:
        native["tests"] = [{"stdin": _text(given), "stdout": _text(printed)} for given, printed in pairs]
    elif any("class Solution" in str(part) for part in (starter, native["solution"])):
        native |= {"starter_code": starter, "entry_point": "Solution"}
        native["tests"] = [
            {"assert": f"assert Solution().{function}(*{given!r}) in {_results(result)!r}"} for given, result in pairs
        ]
    else:
        native |= {"starter_code": starter, "entry_point": function, "checker": _ONE_OF}
        native["tests"] = [{"args": given, "expected": _results(result)} for given, result in pairs]
    return read_native(native, faults)


def _parsed(text: Any, field: str, faults: Faults) -> Any:
    """The published files hold JSON within JSON; some copies have it parsed."""
    if not isinstance(text, str):
        if text is None:
            faults.add(field, "is missing", "take the file as published")
        return text
    try:
        return json.loads(text or "[]")
    except ValueError as error:
        faults.add(field, f"is not JSON ({error})", "take the file as published")
        return None


def _text(lines: Any) -> str:
    return "\n".join(map(str, lines)) if isinstance(lines, list) else str(lines)


def _results(result: Any) -> list[Any]:
    """APPS' own judge takes a result, or the one item of a list in its place: files have both."""
    return [result, result[0]] if isinstance(result, list) and len(result) == 1 else [result]


def is_leetcode(row: dict[str, Any]) -> bool:
    return str(row.get("entry_point", "")).startswith("Solution().") and "test" in row


def read_leetcode(row: dict[str, Any], faults: Faults) -> Problem | None:
    """LeetCode sets (Xia et al. 2025): a method of ``class Solution``, and ``check(candidate)`` that asserts.

    Each assert is a test; what stands before the class in ``prompt`` (imports, helpers) belongs to tests and starter.
    """
    try:
        tree = ast.parse(str(row["test"]))
        asserts = [
            ast.unparse(_calling(node, row["entry_point"])) for node in ast.walk(tree) if isinstance(node, ast.Assert)
        ]
    except (SyntaxError, ValueError, RecursionError) as error:
        faults.add("test", f"is not Python ({error})", "take the file as published")
        return None
    before, starter = str(row.get("prompt") or ""), str(row.get("starter_code") or "")
    native = {
        "id": str(row.get("task_id") or row.get("slug") or f"row-{faults.row}"),
        "prompt": row.get("problem_description") or row.get("query") or before,
        "starter_code": f"{before.rstrip()}\n\n{starter}".strip() or None,
        "entry_point": "Solution",
        "solution": row.get("completion"),
        "tests": [{"assert": f"{before}\n{line}" if before else line} for line in asserts],
        "tags": ["leetcode", *[f"difficulty:{row['difficulty']}" for _ in (1,) if row.get("difficulty")]],
    }
    return read_native(native, faults)


def _calling(test: ast.Assert, method: str) -> ast.Assert:
    """The assert with ``candidate`` written as what it stands for."""
    for node in ast.walk(test):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "candidate":
            node.func = ast.parse(method, mode="eval").body
    return test


def read_code_contests(row: dict[str, Any], faults: Faults) -> Problem | None:
    """The first solution in Python 3 is the reference."""
    tests = []
    for group in _GROUPS:
        content = row.get(group) or {"input": [], "output": []}
        if not isinstance(content, dict) or not isinstance(content.get("input"), list):
            faults.add(group, f"is {json_type(content)}, without lists of input and output", "take the published file")
            return None
        pairs = zip(content["input"], content.get("output", []), strict=False)
        tests += [{"stdin": given, "stdout": printed} for given, printed in pairs]
    seconds = row.get("time_limit") or {}
    limit = seconds.get("seconds", 0) + seconds.get("nanos", 0) / 1e9 if isinstance(seconds, dict) else float(seconds)
    native = {
        "id": row.get("name"),
        "prompt": row["description"],
        "solution": _python_solution(row.get("solutions")),
        "tests": tests,
        "time_limit_s": max(_SLOWER, limit),
        "tags": [f"difficulty-{row['difficulty']}"] if row.get("difficulty") is not None else None,
    }
    if (memory := row.get("memory_limit_bytes")) and isinstance(memory, int):
        native["memory_limit_mb"] = max(256, memory >> 20)
    return read_native(native, faults)


def _python_solution(solutions: Any) -> str | None:
    if not isinstance(solutions, dict):
        return None
    languages, sources = solutions.get("language", []), solutions.get("solution", [])
    found = (source for language, source in zip(languages, sources, strict=False) if language in (_PYTHON3, "PYTHON3"))
    return next(found, None)

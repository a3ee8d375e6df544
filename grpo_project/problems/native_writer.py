"""``Problem`` -> a row of the native format: what ``native`` reads back to an equal problem."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from grpo_project.problems.problem import (
    AssertTest,
    Bench,
    BenchTest,
    CallTest,
    CaseTest,
    CheckTest,
    Comparison,
    Problem,
    Test,
)

_DEFAULTS = {item.name: item.default for item in fields(Problem)}
_BENCH_DEFAULTS = {item.name: item.default for item in fields(Bench)}
_OPTIONAL = ("entry_point", "solution", "starter_code", "complexity", "language", "time_limit_s", "memory_limit_mb")


def write_problems(problems: Iterable[Problem], path: str | Path) -> None:
    """Write JSON Lines."""
    rows = (json.dumps(native_row(problem), ensure_ascii=False, allow_nan=False) for problem in problems)
    Path(path).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def native_row(problem: Problem) -> dict[str, Any]:
    """The problem as a JSON object, without fields that are at their default. ``source`` is not part of the format.

    Raises:
        ValueError: a test holds a value that neither JSON nor a Python literal can say (NaN, objects).
    """
    row: dict[str, Any] = {"id": problem.id, "prompt": problem.prompt, "level": problem.level}
    for name in (*_OPTIONAL, "checker"):
        value = getattr(problem, name)
        if value != _DEFAULTS[name]:
            row[name] = value
    if problem.tags:
        row["tags"] = list(problem.tags)
    if problem.comparison != Comparison():
        compare = {item.name: getattr(problem.comparison, item.name) for item in fields(Comparison)}
        row["compare"] = {name: value for name, value in compare.items() if value is not None}
    if problem.bench is not None:
        row |= _bench_fields(problem.bench)
    row["tests"] = [_test_row(test) for test in problem.tests]
    return row


def _bench_fields(bench: Bench) -> dict[str, Any]:
    """Verilog's own fields, without those at their default."""
    found = {item.name: getattr(bench, item.name) for item in fields(Bench) if item.name != "files"}
    found = {name: value for name, value in found.items() if value != _BENCH_DEFAULTS[name]}
    return found | ({"files": dict(bench.files)} if bench.files else {})


def _test_row(test: Test) -> dict[str, Any]:
    if isinstance(test, CallTest):
        row = _value("args", list(test.args)) | _value("expected", test.expected)
        return row | (_value("kwargs", dict(test.kwargs)) if test.kwargs else {})
    if isinstance(test, AssertTest):
        return {"assert": test.source}
    if isinstance(test, CheckTest):
        return {"check": test.source}
    if isinstance(test, CaseTest):
        return {"unittest": test.source, "case": test.case, "module": test.module}
    if isinstance(test, BenchTest):
        return {test.kind: test.name}
    return {"stdin": test.stdin, "stdout": test.stdout}


def _value(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if _is_json(value) else {f"{name}_literal": _literal(value)}


def _is_json(value: Any) -> bool:
    """Whether JSON gives back the same value of the same type."""
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and all(map(_is_json, value.values()))
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def _literal(value: Any) -> str:
    """Source that ``ast.literal_eval`` reads as the value; ``repr`` fails for infinity."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple | set):
        items = ", ".join(map(_literal, value))
        if isinstance(value, set):
            return "{" + items + "}" if value else "set()"
        return f"[{items}]" if isinstance(value, list) else f"({items}{',' if len(value) == 1 else ''})"
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    is_nan = isinstance(value, float) and math.isnan(value)
    if is_nan or not (value is None or type(value) in (bool, int, float, complex, str, bytes)):
        raise ValueError(f"{value!r} can't be written as JSON or as a Python literal")
    return repr(value)

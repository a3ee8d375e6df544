"""One row of the native problem format -> ``Problem``. Documented with examples in ``docs/problem-format.md``."""

from __future__ import annotations

import ast
import keyword
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo_project.problems.faults import Faults, did_you_mean, json_type
from grpo_project.problems.problem import (
    LANGUAGES,
    LEVELS,
    MAX_COMPLEXITY,
    AssertTest,
    CallTest,
    CaseTest,
    CheckTest,
    Comparison,
    Problem,
    StdioTest,
    Test,
)
from grpo_project.problems.rows import nativelike, with_tags
from grpo_project.problems.verilog import FIELDS as VERILOG_FIELDS
from grpo_project.problems.verilog import Sources, verilog_problem

TEXT_FIELDS = ("entry_point", "solution", "starter_code", "language", "checker")
FIELDS = frozenset(
    ("id", "prompt", "tests", "level", "complexity", "tags", "time_limit_s", "memory_limit_mb", "compare", *TEXT_FIELDS)
)
KEYS_OF_KIND: Mapping[str, frozenset[str]] = {
    "call": frozenset(("args", "args_literal", "kwargs", "kwargs_literal", "expected", "expected_literal")),
    "assert": frozenset(("assert",)),
    "check": frozenset(("check",)),
    "unittest": frozenset(("unittest", "case", "module")),
    "stdin": frozenset(("stdin", "stdout")),
}
KIND_OF_KEY = {key: kind for kind, keys in KEYS_OF_KIND.items() for key in keys}
COMPARE_FIELDS = frozenset(("float_tolerance", "nan_equal", "distinguish_sequences"))

_LITERAL_ERRORS = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)  # as ast.literal_eval documents


def read_native(row: dict[str, Any], faults: Faults, sources: Sources | None = None) -> Problem | None:
    """The row's problem, or None where the row has faults, which are then recorded. Paths start from ``sources``."""
    before = len(faults)
    if "verifier" in row and "language" not in row:  # the field's name in 0.1
        row = {"language" if name == "verifier" else name: value for name, value in row.items()}
    is_verilog = row.get("language") == "verilog"
    fields = FIELDS | VERILOG_FIELDS if is_verilog else FIELDS
    row = with_tags(nativelike(row, faults.row or 1), fields, faults)
    values = _plain_fields(row, faults)
    if is_verilog:
        problem = verilog_problem(row, values, sources or Sources(Path(), faults), faults)
        return None if len(faults) > before else problem
    tests = _tests(row.get("tests"), faults)
    if tests and isinstance(tests[0], CallTest | CheckTest) and "entry_point" not in values:
        faults.add("entry_point", "is missing, and the tests call a function", "name the function that they call")
    if len(faults) > before:
        return None
    return Problem(tests=tests, source=faults.source, **values)


def level_of(complexity: float | None) -> str:
    """The level of a complexity: two points each, from the lower end inclusive; 10 belongs to the last."""
    if complexity is None:
        return "unknown"
    return LEVELS[min(int(complexity / 2), len(LEVELS) - 1)]


def _plain_fields(row: dict[str, Any], faults: Faults) -> dict[str, Any]:
    """All fields but the tests, checked. ``null`` stands for a field that is left out."""
    values: dict[str, Any] = {}
    for name in ("id", "prompt"):
        value = row.get(name)
        if value is None:
            faults.add(
                name, "is missing", f"every problem needs one (--dataset_columns {name}=COLUMN names another column)"
            )
        elif _is_text(value, name, faults):
            values[name] = value
    for name in TEXT_FIELDS:
        value = row.get(name)
        if value is not None and _is_text(value, name, faults):
            values[name] = value
    _check_names_and_code(values, faults)
    if (language := values.get("language", LANGUAGES[0])) not in LANGUAGES:
        faults.add("language", f"{language!r} is not a language here", f"known are {', '.join(LANGUAGES)}")
    values["complexity"] = complexity = _number(row, "complexity", 0.0, MAX_COMPLEXITY, faults)
    values["level"] = _level(row.get("level"), complexity, faults)
    if row.get("tags") is not None:
        values["tags"] = _tags(row["tags"], faults)
    if (limit := _number(row, "time_limit_s", 0.001, 3600.0, faults)) is not None:
        values["time_limit_s"] = limit
    if (limit := _number(row, "memory_limit_mb", 1, 1_048_576, faults)) is not None:
        values["memory_limit_mb"] = int(limit)
    if row.get("compare") is not None:
        values["comparison"] = _comparison(row["compare"], faults)
    return values


def _is_text(value: Any, name: str, faults: Faults) -> bool:
    """Whether it is a string with something in it that can be written as UTF-8; records a fault where it is not."""
    if not isinstance(value, str):
        faults.add(name, f"is {json_type(value)}, not a string", "put it in quotes")
        return False
    if not value.strip():
        faults.add(name, "is empty", "fill it in, or leave out an optional field")
        return False
    return _is_encodable(value, name, faults)


def _is_encodable(value: str, name: str, faults: Faults) -> bool:
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        faults.add(name, "holds half of a surrogate pair", "write the character itself, or both \\u escapes")
        return False
    return True


def _check_names_and_code(values: dict[str, Any], faults: Faults) -> None:
    name = values.get("entry_point")
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        faults.add("entry_point", f"{name!r} is not a Python name", "give the bare name of the function")
    checker = values.get("checker")
    if checker is not None:
        _check_defines(checker, "check", "checker", faults)


def _check_defines(source: str, function: str, name: str, faults: Faults) -> None:
    tree = _parse(source, name, faults)
    if tree is not None and not any(isinstance(s, ast.FunctionDef) and s.name == function for s in tree.body):
        faults.add(name, f"does not define {function}()", f"define a function named {function}")


def _parse(source: str, name: str, faults: Faults) -> ast.Module | None:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        faults.add(name, f"is not Python ({error.msg}, line {error.lineno})", "correct the source")
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; nesting beyond the parser's stack
        faults.add(name, f"is not Python that can be read ({error})", "correct the source")
    return None


def _number(row: dict[str, Any], name: str, low: float, high: float, faults: Faults) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        faults.add(name, f"is {json_type(value)}, not a number", f"give a number from {low:g} to {high:g}")
        return None
    if not low <= value <= high or (isinstance(low, int) and value != int(value)):
        whole = "whole " if isinstance(low, int) else ""
        faults.add(name, f"is {value}", f"give a {whole}number from {low:g} to {high:g}")
        return None
    return value if isinstance(low, int) else float(value)


def _level(level: Any, complexity: float | None, faults: Faults) -> str:
    if level is None:
        return level_of(complexity)
    if level not in (*LEVELS, "unknown"):
        fix = did_you_mean(level, LEVELS) if isinstance(level, str) else f"known are {', '.join(LEVELS)}"
        faults.add("level", f"{level!r} is not a level", f"{fix} (labels of your own belong into tags)")
    return level


def _tags(tags: Any, faults: Faults) -> tuple[str, ...]:
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        faults.add("tags", "is not a list of strings", 'write ["arithmetic", "lists"]')
        return ()
    return tuple(tags)


def _comparison(value: Any, faults: Faults) -> Comparison:
    if not isinstance(value, dict):
        faults.add("compare", f"is {json_type(value)}, not an object", 'write {"float_tolerance": 1e-6}')
        return Comparison()
    for name in sorted(value.keys() - COMPARE_FIELDS):
        faults.add(f"compare.{name}", "is not a choice of comparison", did_you_mean(name, COMPARE_FIELDS))
    chosen: dict[str, Any] = {}
    for name in ("nan_equal", "distinguish_sequences"):
        if isinstance(value.get(name, False), bool):
            chosen.update({name: value[name]} if name in value else {})
        else:
            faults.add(f"compare.{name}", f"is {json_type(value[name])}", "write true or false")
    tolerance = value.get("float_tolerance")
    if tolerance is not None:
        is_number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
        if not is_number or not (0 < tolerance < math.inf):
            faults.add("compare.float_tolerance", f"is {tolerance!r}", "give a positive number such as 1e-6")
        else:
            chosen["float_tolerance"] = float(tolerance)
    return Comparison(**chosen)


def _tests(rows: Any, faults: Faults) -> tuple[Test, ...]:
    if rows is None:
        faults.add(
            "tests", "is missing", "every problem needs tests (--dataset_columns tests=COLUMN names another column)"
        )
        return ()
    if not isinstance(rows, list) or not rows:
        wrong = "is empty" if rows == [] else f"is {json_type(rows)}, not a list"
        faults.add("tests", wrong, "give at least one test, or no solution can be judged")
        return ()
    tests: list[Test] = []
    kinds: dict[str, int] = {}
    for i, row in enumerate(rows):
        kind = _kind(row, f"tests[{i}]", faults)
        if kind is not None:
            kinds.setdefault(kind, i)
            if kind == "unittest":
                tests += _case_tests(row, f"tests[{i}]", faults)
            elif (test := _READ_TEST[kind](row, f"tests[{i}]", faults)) is not None:
                tests.append(test)
    if len(kinds) > 1:
        (kind, _), (other, i), *_ = kinds.items()
        faults.add("tests", f"mixes {kind} tests with {other} tests (tests[{i}])", "keep to one kind in a problem")
    return tuple(tests)


def _kind(row: Any, where: str, faults: Faults) -> str | None:
    if not isinstance(row, dict):
        faults.add(where, f"is {json_type(row)}, not an object", 'write {"args": [...], "expected": ...}')
        return None
    kinds = {KIND_OF_KEY[key] for key in row if key in KIND_OF_KEY}
    for key in sorted(row.keys() - KIND_OF_KEY.keys()):
        faults.add(f"{where}.{key}", "is not a field of a test", did_you_mean(key, KIND_OF_KEY))
    if len(kinds) == 1:
        return kinds.pop()
    if kinds:
        faults.add(where, f"mixes fields of {' and '.join(sorted(kinds))} tests", "make it one kind of test")
    elif not row:
        faults.add(where, "is empty", "give args and expected, an assert, or stdin and stdout")
    return None


def _call_test(row: dict[str, Any], where: str, faults: Faults) -> CallTest | None:
    args = _value(row, "args", where, faults, default=[])
    kwargs = _value(row, "kwargs", where, faults, default={})
    if "expected" not in row and "expected_literal" not in row:
        faults.add(f"{where}.expected", "is missing", "give the value that the call must return (null for None)")
        return None
    expected = _value(row, "expected", where, faults, default=None)
    if not isinstance(args, list | tuple):
        faults.add(f"{where}.args", "is not a list of arguments", "write [x] for a single argument x")
        return None
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) and key.isidentifier() for key in kwargs):
        faults.add(f"{where}.kwargs", "is not an object of argument names", 'write {"name": value}')
        return None
    return CallTest(tuple(args), expected, kwargs)


def _value(row: dict[str, Any], name: str, where: str, faults: Faults, default: Any) -> Any:
    """The JSON value of ``name``, or the Python value of the literal in ``name_literal``."""
    literal = f"{name}_literal"
    if literal not in row:
        return row.get(name, default)
    if name in row:
        faults.add(f"{where}.{literal}", f"stands beside {name}", "give one of the two")
        return default
    try:
        return ast.literal_eval(row[literal].strip())
    except AttributeError:
        faults.add(f"{where}.{literal}", f"is {json_type(row[literal])}, not a string", "write the literal in quotes")
    except _LITERAL_ERRORS:
        faults.add(f"{where}.{literal}", f"{row[literal][:60]!r} is not a Python literal", "write e.g. '(1, {2, 3})'")
    return default


def _assert_test(row: dict[str, Any], where: str, faults: Faults) -> AssertTest | None:
    source = row["assert"]
    if not _is_text(source, f"{where}.assert", faults) or _parse(source, f"{where}.assert", faults) is None:
        return None
    if "assert" not in source and "raises" not in source:
        faults.add(f"{where}.assert", "asserts nothing", "write 'assert f(1) == 2'")
        return None
    return AssertTest(source)


def _check_test(row: dict[str, Any], where: str, faults: Faults) -> CheckTest | None:
    before = len(faults)
    if _is_text(row["check"], f"{where}.check", faults):
        _check_defines(row["check"], "check", f"{where}.check", faults)
    return CheckTest(row["check"]) if len(faults) == before else None


def _case_tests(row: dict[str, Any], where: str, faults: Faults) -> list[CaseTest]:
    """A test for each case of a test file, or for the one that is named."""
    source, module = row.get("unittest"), row.get("module", "solution")
    if source is None:
        faults.add(f"{where}.unittest", "is missing", "give the source of the test file")
        return []
    if not _is_text(source, f"{where}.unittest", faults) or not _is_text(module, f"{where}.module", faults):
        return []
    tree = _parse(source, f"{where}.unittest", faults)
    if tree is None:
        return []
    cases = cases_of(tree)
    if not cases:
        faults.add(
            f"{where}.unittest", "holds no case", "define test_... methods of a TestCase, or test_...() functions"
        )
    if "case" in row:
        if row["case"] not in cases:
            faults.add(f"{where}.case", f"{row['case']!r} is not a case of it", did_you_mean(str(row["case"]), cases))
        cases = [row["case"]]
    return [CaseTest(source, case, module) for case in cases]


def cases_of(tree: ast.Module) -> list[str]:
    """``Class.test_it`` of each class that a TestCase is a base of by its name, and ``test_it`` of each function."""
    cases: list[str] = []
    kinds: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test") and not node.args.args:
            cases.append(node.name)
        elif isinstance(node, ast.ClassDef):
            bases = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
            if any(base.endswith("TestCase") or base in kinds for base in bases):
                inherited = [name for base in bases for name in kinds.get(base, [])]
                own = [part.name for part in node.body if isinstance(part, ast.FunctionDef) and part.name[:4] == "test"]
                kinds[node.name] = list(dict.fromkeys([*inherited, *own]))
                cases += [f"{node.name}.{name}" for name in kinds[node.name]]
    return cases


def _stdio_test(row: dict[str, Any], where: str, faults: Faults) -> StdioTest | None:
    before = len(faults)
    for name in ("stdin", "stdout"):
        if not isinstance(row.get(name), str):
            wrong = f"is {json_type(row[name])}, not a string" if name in row else "is missing"
            faults.add(f"{where}.{name}", wrong, 'give the text (an empty one is "")')
        else:
            _is_encodable(row[name], f"{where}.{name}", faults)
    return StdioTest(row["stdin"], row["stdout"]) if len(faults) == before else None


_READ_TEST = {"call": _call_test, "assert": _assert_test, "check": _check_test, "stdin": _stdio_test}

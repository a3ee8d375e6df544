"""Rows of HumanEval, HumanEval+, MBPP and BigCodeBench files, as their authors publish them -> ``Problem``.

HumanEval (Chen et al. 2021, ``HumanEval.jsonl.gz``): the prompt is code that the solution continues, the tests are one
``check(candidate)`` function. MBPP (Austin et al. 2021, ``mbpp.jsonl`` and ``sanitized-mbpp.json``): a sentence, a
whole program, assert statements. Neither has levels: difficulty is unknown until it is measured.
"""

from __future__ import annotations

import ast
from typing import Any

from grpo_project.problems.faults import Faults, did_you_mean, json_type
from grpo_project.problems.native import read_native
from grpo_project.problems.problem import Problem

HUMANEVAL_FIELDS = frozenset(("task_id", "prompt", "entry_point", "canonical_solution", "test"))
PLUS_REQUIRED = frozenset(
    ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol")
)
PLUS_FIELDS = PLUS_REQUIRED | {"contract"}
MBPP_REQUIRED = ("task_id", "code", "test_list")
MBPP_OPTIONAL = ("text", "prompt", "test_setup_code", "test_imports", "challenge_test_list", "source_file")
MBPP_FIELDS = frozenset((*MBPP_REQUIRED, *MBPP_OPTIONAL))

ANY_PUBLISHED = HUMANEVAL_FIELDS | PLUS_FIELDS | MBPP_FIELDS

FIELD_TYPES = {
    "task_id": (str, int),
    "test_list": list,
    "challenge_test_list": list,
    "test_imports": list,
    "base_input": list,
    "plus_input": list,
    "atol": (int, float),
}
"""Other fields are text; lists hold text, but for the inputs."""


def is_humaneval(row: dict[str, Any]) -> bool:
    return "canonical_solution" in row and "task_id" in row


def is_humaneval_plus(row: dict[str, Any]) -> bool:
    return "base_input" in row and "plus_input" in row


def is_bigcodebench(row: dict[str, Any]) -> bool:
    return "complete_prompt" in row and "test" in row


def is_mbpp(row: dict[str, Any]) -> bool:
    return "test_list" in row and "task_id" in row


def read_humaneval(row: dict[str, Any], faults: Faults) -> Problem | None:
    """The prompt is the head of a program, which the solution (and a plain model's completion) continues."""
    if not _has_fields(row, HUMANEVAL_FIELDS, HUMANEVAL_FIELDS, "HumanEval", faults):
        return None
    native = {
        "id": row["task_id"],
        "prompt": row["prompt"],
        "entry_point": row["entry_point"],
        "solution": row["canonical_solution"],
        "tests": [{"check": row["test"]}],
        "tags": ["humaneval"],
    }
    return read_native(native, faults)


def read_humaneval_plus(row: dict[str, Any], faults: Faults) -> Problem | None:
    """HumanEval+ (Liu et al. 2023, ``HumanEvalPlus.jsonl.gz``): inputs; what they give is up to the reference.

    Judged as EvalPlus judges: equal, or floats within ``atol`` and 1e-7 of the expected; for ``find_zero``, whatever is
    a zero. One test for the original's inputs, and one for each hundred of the others.
    """
    if not _has_fields(row, PLUS_FIELDS, PLUS_REQUIRED, "HumanEval+", faults):
        return None
    plus = [row["plus_input"][start : start + 100] for start in range(0, len(row["plus_input"]), 100)]
    native = {
        "id": row["task_id"],
        "prompt": row["prompt"],
        "entry_point": row["entry_point"],
        "solution": row["canonical_solution"],
        "tests": [{"check": _plus_check(row, inputs)} for inputs in (row["base_input"], *plus) if inputs],
        "tags": ["humaneval+"],
    }
    return read_native(native, faults)


def _plus_check(row: dict[str, Any], inputs: list[Any]) -> str:
    reference = row["prompt"] + row["canonical_solution"]
    return (
        f"INPUTS = {inputs!r}\nATOL = {row['atol']!r}\nNAME = {row['entry_point']!r}\nREFERENCE = {{}}\n"
        f"exec({reference!r}, REFERENCE)\n\n{_PLUS_CHECK}"
    )


_PLUS_CHECK = """
import copy, math


def close(got, expected):
    if type(expected) in (list, tuple) and expected:
        pairs = zip(got, expected) if type(got) in (list, tuple) and len(got) == len(expected) else [(None, 0.0)]
        return all(close(g, e) for g, e in pairs)
    if type(expected) is not float or type(got) not in (int, float):
        return got == expected
    return abs(got - expected) <= (ATOL or 1e-6) + 1e-7 * abs(expected) or got == expected


def right(args, got):
    if NAME == "find_zero":
        return type(got) in (int, float) and abs(REFERENCE["poly"](*args, got)) <= ATOL
    expected = REFERENCE[NAME](*copy.deepcopy(args))
    return got == expected or close(got, expected)


def check(candidate):
    for args in INPUTS:
        assert right(args, candidate(*copy.deepcopy(args))), args
"""


def read_bigcodebench(row: dict[str, Any], faults: Faults) -> Problem | None:
    """BigCodeBench (Zhuo et al. 2024): code that the solution continues, and a unittest class, one test a case."""
    missing = sorted({"complete_prompt", "canonical_solution", "test", "entry_point"} - row.keys())
    for field in missing:
        faults.add(field, "is missing in a BigCodeBench row", "take the file as published")
    if missing:
        return None
    native = {
        "id": row["task_id"],
        "prompt": row["complete_prompt"],
        "starter_code": row["complete_prompt"],
        "entry_point": row["entry_point"],
        "solution": row["canonical_solution"],
        "tests": [{"unittest": row["test"]}],
        "tags": ["bigcodebench"],
        "time_limit_s": 10.0,
    }
    return read_native(native, faults)


def read_mbpp(row: dict[str, Any], faults: Faults) -> Problem | None:
    """The first assert is shown in the prompt, as EvalPlus does: the sentence alone does not name the function.

    As in the paper, ``test_list`` judges; ``challenge_test_list`` does not.
    """
    text = "text" if "text" in row else "prompt"
    if not _has_fields(row, MBPP_FIELDS, {text, *MBPP_REQUIRED}, "MBPP", faults):
        return None
    asserts, setup = row["test_list"], _setup(row)
    example = f"\nYour code should pass this test:\n{asserts[0]}" if asserts else ""
    native = {
        "id": f"MBPP/{row['task_id']}",
        "prompt": f"{row[text]}{example}",
        "entry_point": _called_function(row["code"], asserts),
        "solution": row["code"],
        "tests": [{"assert": f"{setup}\n{source}" if setup else source} for source in asserts],
        "tags": ["mbpp"],
    }
    return read_native(native, faults)


def _has_fields(
    row: dict[str, Any], known: frozenset[str], required: frozenset[str] | set[str], name: str, faults: Faults
) -> bool:
    before = len(faults)
    for field in sorted((row.keys() - known) & ANY_PUBLISHED):  # columns of nobody's are left alone
        faults.add(field, f"is not a field of {name} as published", did_you_mean(field, known))
    for field in sorted(required - row.keys()):
        faults.add(field, f"is missing in a {name} row", "take the file as published")
    for field in sorted(row.keys() & known):
        expected = FIELD_TYPES.get(field, str)
        value = row[field]
        is_right = isinstance(value, expected)  # type: ignore[arg-type]
        if not is_right or (
            expected is list and "input" not in field and not all(isinstance(item, str) for item in value)
        ):
            faults.add(
                field, f"is {json_type(value)}, which {name} as published never has there", "take the published file"
            )
    return len(faults) == before


def _setup(row: dict[str, Any]) -> str:
    """The lines before each assert: ``test_setup_code`` of the full set, ``test_imports`` of the sanitized one."""
    return "\n".join(part for part in [*row.get("test_imports", []), row.get("test_setup_code", "")] if part)


def _called_function(code: str, asserts: list[str]) -> str | None:
    """The function of ``code`` that the asserts call; None where that can't be told."""
    try:
        defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
        for source in asserts:
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in defined:
                    return node.func.id
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass  # an assert that is not Python is reported where the tests are read; the code is only a reference
    return None

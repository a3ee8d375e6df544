"""Rows of HumanEval and MBPP files, as their authors publish them -> ``Problem``.

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
MBPP_REQUIRED = ("task_id", "code", "test_list")
MBPP_OPTIONAL = ("text", "prompt", "test_setup_code", "test_imports", "challenge_test_list", "source_file")
MBPP_FIELDS = frozenset((*MBPP_REQUIRED, *MBPP_OPTIONAL))

FIELD_TYPES = {"task_id": (str, int), "test_list": list, "challenge_test_list": list, "test_imports": list}
"""Other fields are text; lists hold text."""


def is_humaneval(row: dict[str, Any]) -> bool:
    return "canonical_solution" in row and "task_id" in row


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
    for field in sorted(row.keys() - known):
        faults.add(field, f"is not a field of {name} as published", did_you_mean(field, known))
    for field in sorted(required - row.keys()):
        faults.add(field, f"is missing in a {name} row", "take the file as published")
    for field in sorted(row.keys() & known):
        expected = FIELD_TYPES.get(field, str)
        value = row[field]
        is_right = isinstance(value, expected)  # type: ignore[arg-type]
        if not is_right or (expected is list and not all(isinstance(item, str) for item in value)):
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

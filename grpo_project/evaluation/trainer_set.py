"""Which problems there are to evaluate on. ``problems.selection`` chooses among them.

They are those that were given, else a trainer's evaluation set, else the built-in ones. A trainer's set is one that its
user made: native, HumanEval or MBPP rows, or rows with a ``Problem``. Columns that are none of the format's are the
trainer's own business (``input_ids``, ``completion``) and passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from grpo_project.problems.faults import Faults
from grpo_project.problems.native import FIELDS, read_native
from grpo_project.problems.problem import Problem
from grpo_project.problems.published import (
    HUMANEVAL_FIELDS,
    MBPP_FIELDS,
    is_humaneval,
    is_mbpp,
    read_humaneval,
    read_mbpp,
)

SOURCE = "eval_dataset"
"""The ``source`` of problems from a trainer's set; ``eval_dataset/NAME`` where it is one of several."""


@dataclass(frozen=True, slots=True)
class Available:
    """Problems to choose from, why these, and whether that is not what one would expect."""

    problems: Sequence[Problem]
    reason: str
    unexpected: bool = False


def available_problems(given: Sequence[Problem] | None, trainer: Any, evaluates: bool) -> Available:
    """Decide where the problems come from.

    Args:
        trainer: the ``Trainer``, where it is known.
        evaluates: the trainer's arguments ask for evaluations, so it has an evaluation set.

    Raises:
        DataError: the trainer's set holds problems, and some of them are faulty.
    """
    if given is not None:
        return Available(given, "chosen from the held-out problems")
    dataset = getattr(trainer, "eval_dataset", None)
    if found := problems_of(dataset):
        return Available(found, "the trainer's evaluation set")
    from grpo_project.problems.quickstart import builtin_problems

    builtin = builtin_problems("heldout")
    if dataset is not None:
        return Available(builtin, "built-in: the trainer's evaluation set has no rows with tests", unexpected=True)
    if trainer is None and evaluates:
        reason = "built-in: the trainer's evaluation set is not known; call callback.bind(trainer) before training"
        return Available(builtin, reason, unexpected=True)
    return Available(builtin, "built-in: no evaluation set is given")


def problems_of(dataset: Any, source: str = SOURCE) -> list[Problem]:
    """The problems of a ``datasets.Dataset``, a list of rows, or a dictionary of such sets; [] if no row has tests.

    Where several sets of a dictionary hold problems, their ids begin with the set's name. A stream is not looked into.

    Raises:
        DataError: rows with tests are not problems; lists every fault.
    """
    if isinstance(dataset, Mapping):
        sets = {name: problems_of(one, f"{source}/{name}") for name, one in dataset.items()}
        sets = {name: problems for name, problems in sets.items() if problems}
        if len(sets) == 1:
            return next(iter(sets.values()))
        return [replace(one, id=f"{name}/{one.id}") for name, problems in sets.items() for one in problems]
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or len(dataset) == 0:
        return []
    in_arrow = hasattr(dataset, "with_format")
    rows = dataset.with_format(None) if in_arrow else dataset
    if not isinstance(first := rows[0], Mapping):
        return []
    if isinstance(first.get("problem"), Problem):
        return [row["problem"] for row in map(rows.__getitem__, range(len(rows)))]
    if (found := _format_of(dict(first))) is None:
        return []
    fields, reader = found
    if in_arrow:
        rows = rows.select_columns([name for name in rows.column_names if name in fields])
    return _read(map(rows.__getitem__, range(len(rows))), fields, reader, Faults(source), in_arrow)


def _format_of(
    row: dict[str, Any],
) -> tuple[frozenset[str], Callable[[dict[str, Any], Faults], Problem | None]] | None:
    if is_humaneval(row):
        return HUMANEVAL_FIELDS, read_humaneval
    if is_mbpp(row):
        return MBPP_FIELDS, read_mbpp
    return (FIELDS, read_native) if "tests" in row else None


def _read(
    rows: Iterable[Mapping[str, Any]],
    fields: frozenset[str],
    reader: Callable[[dict[str, Any], Faults], Problem | None],
    faults: Faults,
    in_arrow: bool,
) -> list[Problem]:
    problems: dict[str, Problem] = {}
    for faults.row, row in enumerate(rows, start=1):
        known = {name: value for name, value in row.items() if name in fields and value is not None}
        if reader is read_native and isinstance(known.get("tests"), list):
            known["tests"] = [_test(test, f"tests[{i}]", faults, in_arrow) for i, test in enumerate(known["tests"])]
        problem = reader(known, faults)
        if problem is not None and problem.id in problems:
            faults.add("id", f"{problem.id!r} is the id of an earlier row", "make ids unique")
        elif problem is not None:
            problems[problem.id] = problem
    faults.raise_if_any()
    return list(problems.values())


def _test(test: Any, where: str, faults: Faults, in_arrow: bool) -> Any:
    """One test without the nulls that Arrow writes for fields which only other rows have."""
    if not isinstance(test, Mapping):
        return test
    kept = {name: value for name, value in test.items() if value is not None}
    if "expected" in test and "expected_literal" not in kept and kept.keys() & {"args", "args_literal", "kwargs"}:
        kept.setdefault("expected", None)  # a call that is to return None
    for name, value in kept.items():
        if in_arrow and _has_null_in_object(value):
            wrong = "holds an object with a null, which Arrow also writes for a key that is not there"
            faults.add(f"{where}.{name}", wrong, f"write it as {name}_literal")
    return kept


def _has_null_in_object(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(item is None or _has_null_in_object(item) for item in value.values())
    return isinstance(value, list) and any(map(_has_null_in_object, value))

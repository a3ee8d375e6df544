"""Which problems are the same: fingerprints of content, and the overlap of two sets."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from grpo_project.errors import DataError
from grpo_project.problems.problem import CallTest, Problem, Test

MAX_SHOWN = 10


def problem_fingerprint(problem: Problem) -> str:
    """A hash (hex, 64 digits) of everything in a problem that can change a run: all but ``solution`` and ``source``.

    Values of different types differ (1, 1.0 and True do), the order of a dictionary counts and that of a set does not.
    """
    return hashlib.sha256(_content(problem).encode("utf-8", "surrogatepass")).hexdigest()


def dataset_fingerprint(problems: Iterable[Problem]) -> str:
    """A hash of the problems in their order, which decides what is drawn. Equal sets in another order differ."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(hashlib.sha256(_content(problem).encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()


def normalised_prompt(problem: Problem) -> str:
    """The prompt with its starter code, without differences that don't matter: case, white space, Unicode forms."""
    starter = problem.starter_code or ""
    text = problem.prompt if starter in problem.prompt else f"{problem.prompt}\n{starter}"
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def check_disjoint(train: Iterable[Problem], heldout: Sequence[Problem]) -> None:
    """Require that no held-out problem is also trained on, by its prompt.

    Raises:
        DataError: some are; lists the pairs of ids.
    """
    ids = {normalised_prompt(problem): problem.id for problem in heldout}
    trained: dict[str, str] = {}
    for problem in train:
        prompt = normalised_prompt(problem)
        if prompt in ids:
            trained.setdefault(prompt, problem.id)
    if not trained:
        return
    pairs = [(problem.id, trained[p]) for problem in heldout if (p := normalised_prompt(problem)) in trained]
    shown = ", ".join(held if held == own else f"{held} (trained on as {own})" for held, own in pairs[:MAX_SHOWN])
    more = f" and {len(pairs) - MAX_SHOWN} more" if len(pairs) > MAX_SHOWN else ""
    raise DataError(
        f"{len(pairs)} of {len(heldout)} evaluation problems are also training problems: {shown}{more}; "
        "take them out of one of the two sets, or the pass rate measures memory"
    )


def _content(problem: Problem) -> str:
    tests = [_test_content(test) for test in problem.tests]
    fields = (problem.id, problem.prompt, problem.level, problem.complexity, problem.entry_point, problem.starter_code)
    judged = (problem.tags, problem.language, problem.time_limit_s, problem.memory_limit_mb, problem.checker)
    content = (fields, judged, problem.comparison, tests)
    # A Verilog reference decides what is right: it counts, where a Python solution does not.
    return repr(content if problem.bench is None else (*content, problem.bench, problem.solution))


def _test_content(test: Test) -> str:
    if not isinstance(test, CallTest):
        return repr(test)
    values = (test.args, dict(test.kwargs) or None, test.expected)
    text = repr(values)
    return _value_content(values) if "{" in text else text  # "{": it may hold a set, whose order is not fixed


def _value_content(value: Any) -> str:
    if isinstance(value, set | frozenset):
        return f"set({','.join(sorted(map(_value_content, value)))})"
    if isinstance(value, dict):
        return f"dict({','.join(f'{_value_content(k)}:{_value_content(v)}' for k, v in value.items())})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({','.join(map(_value_content, value))})"
    return repr(value)

"""Right programs in the forms that published sets have: what plain Python passes, passes here (``published_forms``)."""

import subprocess
import sys
import types
import unittest

import pytest
from published_forms import CLASSES, FILES, FUNCTIONS, PROGRAMS

from grpo_project.problems.problem import AssertTest, CaseTest, CheckTest, Problem, StdioTest
from grpo_project.verifier import Job, Verifier

MODULE = {"exercism": "leap"}


def passes_plainly(program: str, test: str, case: str = "", module_name: str = "solution") -> bool:
    """Whether ``test`` runs through after ``program``; its ``case``, where it is a file of some."""
    module = types.ModuleType(module_name)
    sys.modules[module_name], before = module, sys.modules.get(module_name)
    try:
        exec(program, module.__dict__)
        names = {} if case else dict(module.__dict__)
        exec(test, names)
        if not case:
            return True
        first, _, method = case.partition(".")
        if not method:
            names[first]()
            return True
        if not issubclass(names[first], unittest.TestCase):
            getattr(names[first](), method)()
            return True
        result = names[first](method).run()
        return result is not None and result.testsRun == 1 and result.wasSuccessful()
    finally:
        sys.modules.pop(module_name)
        if before is not None:
            sys.modules[module_name] = before


@pytest.fixture(scope="module")
def verifier():
    with Verifier(cache=False) as verifier:
        yield verifier


def failures(verifier: Verifier, rows: list[tuple[str, Problem, str]]) -> list[str]:
    verdicts = verifier.verify_many([Job(problem, f"```python\n{program}\n```") for _, problem, program in rows])
    return [f"{name}: {v.message}" for (name, _, _), v in zip(rows, verdicts, strict=True) if not v.solved]


def of_source(name: str, program: str, test: str, *, check: bool = False, **options) -> Problem:
    if check:
        body = "\n".join("    " + line for line in test.splitlines())
        return Problem(name, "", (CheckTest(f"def check(f):\n{body}\n"),), entry_point="f", solution=program, **options)
    return Problem(name, "", (AssertTest(test),), solution=program, **options)


def test_the_programs_are_right_in_plain_python():
    for name, program, test in (*FUNCTIONS, *CLASSES):
        assert passes_plainly(program, test), name
    for name, program, source, case in FILES:
        assert passes_plainly(program, source, case, MODULE.get(name, "solution")), name
    for name, program, given, wanted in PROGRAMS:
        done = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == wanted.split(), name


@pytest.mark.parametrize("check", [False, True], ids=["asserts", "check function"])
def test_functions(verifier, check):
    rows = [(name, of_source(name, program, test, check=check), program) for name, program, test in FUNCTIONS]
    if check:  # names beside the entry point are the program's there, too
        rows = [row for row in rows if row[0] not in ("own exception", "two functions", "constant")]
    assert failures(verifier, rows) == []


def test_classes(verifier):
    rows = [(name, of_source(name, program, test), program) for name, program, test in CLASSES]
    assert failures(verifier, rows) == []


def test_files_of_cases(verifier):
    rows = []
    for name, program, source, case in FILES:
        tests = (CaseTest(source, case, MODULE.get(name, "solution")),)
        rows.append((name, Problem(name, "", tests, solution=program), program))
    assert failures(verifier, rows) == []


def test_programs(verifier):
    rows = [(name, Problem(name, "", (StdioTest(i, o),), solution=p), p) for name, p, i, o in PROGRAMS]
    assert failures(verifier, rows) == []

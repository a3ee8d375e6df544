"""The public face: one job, many jobs, the order of verdicts."""

import subprocess
import sys
from pathlib import Path

import pytest

import grpo_project
from grpo_project.problems.problem import CallTest, Problem, StdioTest
from grpo_project.verifier import Job, Status, Verifier

CLIP = Problem(
    "clip",
    "Clip x to lo..hi.",
    (CallTest((5, 0, 3), 3), CallTest((1, 0, 3), 1)),
    entry_point="clip",
    starter_code="def clip(x, lo, hi):\n",
)
RIGHT = "    return max(lo, min(x, hi))\n"


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2) as verifier:
        yield verifier


def test_a_right_body_passes(verifier):
    verdict = verifier.verify(Job(CLIP, RIGHT))
    assert (verdict.status, verdict.passed, verdict.total) == (Status.PASSED, 2, 2)


def test_verdicts_come_in_the_order_of_the_jobs(verifier):
    answers = [RIGHT, "    return 1\n", "no code at all", RIGHT]
    verdicts = verifier.verify_many([Job(CLIP, answer) for answer in answers])
    assert [verdict.status for verdict in verdicts] == ["passed", "failed", "wrong_format", "passed"]


def test_a_program_is_judged_by_what_it_prints(verifier):
    problem = Problem("sum", "Add.", (StdioTest("1 2\n", "3\n"), StdioTest("5 6\n", "11\n")))
    verdict = verifier.verify(Job(problem, "```python\nprint(sum(map(int, input().split())))\n```"))
    assert verdict.solved
    assert not verifier.verify(Job(problem, "```python\nprint(3)\n```")).solved


LOADED = """
import sys, types
for name, path in (("grpo_project", sys.argv[1]), ("grpo_project.verifier", sys.argv[1] + "/verifier")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
import grpo_project.verifier.cage.candidate
from grpo_project.verifier.cage import zygote
zygote.preload()
print(*sys.modules)
"""


def test_a_zygote_loads_little():
    """Every megabyte of it costs every candidate; these would double its start as well."""
    package = str(Path(grpo_project.__file__).parent)
    command = [sys.executable, "-s", "-S", "-P", "-c", LOADED, package]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "random" in loaded
    assert {"dataclasses", "inspect", "ast", "threading", "subprocess", "pathlib", "logging"}.isdisjoint(loaded)

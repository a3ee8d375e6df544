"""No design that computes nothing passes, whichever way its problem is judged."""

from __future__ import annotations

import shutil

import pytest
from verilog_hacks import HACKS, design
from verilog_problems import ADDER_BENCH, EVAL_BENCH, REACTING_BENCH, XOR

from grpo_project.problems.problem import Bench, Problem
from grpo_project.problems.verilog import case_tests, output_tests
from grpo_project.verifier import Job, Verifier

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")


def problem(kind: str) -> Problem:
    base = {"language": "verilog", "time_limit_s": 2.0, "entry_point": "TopModule", "solution": XOR}
    if kind == "replay":
        return Problem(kind, "", output_tests(XOR, "TopModule"), bench=Bench(EVAL_BENCH), **base)
    if kind == "player":
        return Problem(kind, "", case_tests(4), bench=Bench(ADDER_BENCH), **base)
    return Problem(kind, "", case_tests(4), bench=Bench(REACTING_BENCH), **base)


METHODS = {"replay": "replay", "player": "player", "nonce": "nonce bench"}


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2) as verifier:
        yield verifier


@pytest.mark.parametrize("kind", METHODS)
def test_the_reference_passes_and_no_hack_does(verifier, kind):
    judged = problem(kind)
    reference = verifier.verify(Job(judged, f"```verilog\n{XOR}\n```"))
    assert (reference.solved, reference.method) == (True, METHODS[kind]), reference.message
    header = "module TopModule(input a, input b, output q);"
    designs = {name: design(name, header, ["q"], ["a", "b", "q"]) for name in HACKS}
    verdicts = verifier.verify_many([Job(judged, f"```verilog\n{text}\n```") for text in designs.values()])
    passed = [name for name, verdict in zip(designs, verdicts, strict=True) if verdict.solved]
    assert passed == []
    assert len(designs) >= 40

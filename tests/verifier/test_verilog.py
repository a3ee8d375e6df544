"""Verilog designs judged: statuses, partial credit, the ways of judging, what is said about a problem."""

from __future__ import annotations

import shutil

import pytest
from verilog_problems import ADDER_BENCH, EVAL_BENCH, RANDOM_BENCH, REACTING_BENCH, XOR

from grpo_project.errors import DataError
from grpo_project.problems.problem import Bench, Problem
from grpo_project.problems.verilog import case_tests, output_tests, sample_tests
from grpo_project.problems.verilog_text import hollow, modules_in, output_names, renamed
from grpo_project.rewards.verdicts import stepwise
from grpo_project.verifier import Job, Verifier, extract_code
from grpo_project.verifier.cage.isolation import LEVELS
from grpo_project.verifier.verilog.dialects import read_report
from grpo_project.verifier.verilog.methods import marked, unmarked
from grpo_project.verifier.verilog.words import has_dotted_names, refused_words

needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")

COUNTER = """module counter(input clk, input rst, input en, output reg [3:0] q);
  always @(posedge clk) if (rst) q <= 0; else if (en) q <= q + 1;
endmodule
"""


def problem(bench: str | Bench | None = ADDER_BENCH, tests=None, solution: str = XOR, **choices) -> Problem:
    fields = {"entry_point": "TopModule", "solution": solution, "language": "verilog", "time_limit_s": 2.0} | choices
    fields["bench"] = bench if isinstance(bench, Bench) else Bench(bench)
    return Problem("p", "", case_tests(4) if tests is None else tests, **fields)


def fenced(text: str) -> str:
    return f"```verilog\n{text}\n```"


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=1) as verifier:
        yield verifier


def xor_with(body: str) -> str:
    return f"module TopModule(input a, input b, output q);\n{body}\nendmodule\n"


@needs_icarus
@pytest.mark.parametrize(
    ("design", "status", "reward"),
    [
        (XOR, "passed", 1.0),
        (xor_with("assign q = a | b;"), "failed", 0.3 + 0.4 * 3 / 4),
        (xor_with("assign q = a ^ ;"), "syntax_error", 0.1),
        (xor_with("assign q = helper(a);"), "elaboration_error", 0.1),
        (xor_with("missing m(a, b, q);"), "elaboration_error", 0.1),
        ("module TopModule(input a, output q);\nassign q = a;\nendmodule", "wrong_interface", 0.1),
        ("module Other(input a, input b, output q);\nassign q = a ^ b;\nendmodule", "wrong_format", 0.1),
        (xor_with("assign q = a ^ b; initial $finish;"), "refused", 0.0),
        (xor_with("initial forever #0; assign q = a;"), "timeout", 0.2),
        (xor_with("reg [100000000:0] x; initial begin x = 0; x = ~x; end assign q = ^x;"), "memory", 0.2),
    ],
)
def test_each_way_to_fail_has_its_status(verifier, design, status, reward):
    verdict = verifier.verify(Job(problem(time_limit_s=1.0), fenced(design)))
    assert verdict.status == status, verdict.message
    assert verdict.total == 4
    assert stepwise(verdict) == pytest.approx(reward)


@needs_icarus
def test_a_case_is_a_test_and_the_bench_s_own_words_are_told(verifier):
    verdict = verifier.verify(Job(problem(), fenced(xor_with("assign q = a | b;"))))
    assert (verdict.method, verdict.passed, verdict.pass_rate) == ("player", 3, 0.75)
    assert "Expected 0, Got 1" in verdict.message


@needs_icarus
def test_a_replay_tells_the_first_mismatch(verifier):
    judged = problem(EVAL_BENCH, output_tests(XOR, "TopModule"))
    verdict = verifier.verify(Job(judged, fenced(xor_with("assign q = a & b;"))))
    assert (verdict.method, verdict.status) == ("replay", "failed")
    first = verdict.tests[0]
    assert (first.expected, first.got) == ("q=1", "q=0")
    assert sorted(first.input.split()) in (["a=0", "b=1"], ["a=1", "b=0"])
    assert "samples differ, first at time" in first.message


@needs_icarus
def test_samples_give_a_share(verifier):
    bench = Bench(None, (), "clk", "rst", samples=80)
    judged = problem(tests=sample_tests(8), solution=COUNTER, bench=bench, entry_point="counter")
    right = verifier.verify(Job(judged, fenced(COUNTER)))
    assert (right.solved, right.method) == (True, "replay")
    without_reset = verifier.verify(Job(judged, fenced(COUNTER.replace("if (rst) q <= 0; else if", "if"))))
    assert without_reset.passed == 0  # x from the start
    stuck = COUNTER.replace("q + 1", "(q == 9) ? q : q + 1")
    assert 0 < verifier.verify(Job(judged, fenced(stuck))).pass_rate < 1


@needs_icarus
@pytest.mark.parametrize("level", LEVELS)
def test_every_isolation_level_judges_the_same(level):
    with Verifier(workers=1, isolation=level) as verifier:
        wrong = xor_with('integer f; initial f = $fopen("x"); assign q = a | b;')
        verdicts = verifier.verify_many([Job(problem(), fenced(text)) for text in (XOR, wrong, XOR)])
    assert [verdict.status for verdict in verdicts] == ["passed", "refused", "passed"]


@needs_icarus
@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"solution": xor_with("assign q = a & b;")}, "the reference fails its own bench: 1 of 4 cases pass"),
        ({"tests": case_tests(5)}, "the bench tells of 4 test cases, the problem of 5"),
        ({"bench": Bench("module t; TopModule u(); endmodule")}, "prints no verdict that is known here"),
        ({"bench": Bench("module t; Other u(); endmodule")}, "instantiates no module TopModule; it instantiates Other"),
        ({"bench": Bench("module t; TopModule u(; endmodule")}, "the bench with its reference"),
    ],
)
def test_a_problem_that_can_t_be_judged_is_named(verifier, choices, told):
    with pytest.raises(DataError, match=told):
        verifier.verify(Job(problem(**choices), fenced(XOR)))
    (kept,) = verifier.verify_many([Job(problem(**choices), fenced(XOR))], keep_unusable=True)
    assert kept.status == "unusable"


@needs_icarus
def test_verdicts_are_the_same_every_time(verifier):
    """A nonce is drawn for each simulation: none of it may show."""
    designs = [xor_with("assign q = a | b;"), xor_with("assign q = helper(a);"), "module TopModule(input a);endmodule"]
    jobs = [Job(problem(bench), fenced(text)) for bench in (ADDER_BENCH, REACTING_BENCH) for text in designs]

    def told(verdict):
        return verdict.status, verdict.message, [(test.message, test.expected, test.got) for test in verdict.tests]

    with Verifier(workers=1, cache=False) as other:
        assert [told(v) for v in verifier.verify_many(jobs)] == [told(v) for v in other.verify_many(jobs)]


@needs_icarus
def test_random_stimuli_of_a_bench_are_the_recorded_ones(verifier):
    """A design that drew from the same generator would shift them, where both shared a simulation."""
    judged = problem(RANDOM_BENCH)
    assert verifier.verify(Job(judged, fenced(XOR))).solved


@needs_icarus
def test_macros_of_a_design_are_its_own(verifier):
    design = "`define OP ^\n`ifdef NOWHERE\nnonsense\n`endif\n" + xor_with("assign q = a `OP b;")
    assert verifier.verify(Job(problem(), fenced(design))).solved
    bomb = "`define A a^a^a^a^a^a^a^a\n" + "".join(
        f"`define {b} `{a}^`{a}^`{a}^`{a}^`{a}^`{a}^`{a}^`{a}\n" for a, b in zip("ABCDEFGHI", "BCDEFGHIJ", strict=True)
    )
    assert verifier.verify(Job(problem(), fenced(bomb + xor_with("assign q = `J;")))).status in ("error", "timeout")


@pytest.mark.parametrize(
    "text",
    [
        fenced(XOR),
        f"```systemverilog\n{XOR}```",
        f"```sv\n{XOR}```\nand that is all",
        f"```\n{XOR}```",
        f"<think>module TopModule(a); endmodule</think>\n{fenced(XOR)}",
        f"thinking ```verilog\nmodule TopModule(); endmodule\n```</think>{fenced(XOR)}",
        f"[BEGIN]\n{XOR}[DONE]",
        f"{XOR}[DONE] bye",
        f"<answer>\n{fenced(XOR)}\n</answer>",
        f"<answer>{XOR}</answer>",
        f"Here is the module you asked for:\n\n{XOR}\nIt computes xor.",
        f"{fenced('module Other; endmodule')}\n{fenced(XOR)}",
        f"{fenced(XOR.replace('^', '&'))}\nNo, better:\n{fenced(XOR)}",
        XOR,
    ],
)
def test_the_design_is_found(text):
    found = extract_code(text, problem())
    assert found is not None
    assert found.strip() == XOR.strip()


def test_a_continuation_is_put_behind_its_head():
    judged = problem(starter_code="module TopModule(input a, input b, output q);\n")
    assert extract_code("  assign q = a ^ b;\nendmodule\nmore", judged) == XOR
    assert extract_code("I can't.", judged) is None


def test_words_of_a_design():
    assert refused_words('initial $display("$finish"); // $stop\n wire \\$fatal ; x = $clog2(3);') == ["$display"]
    assert has_dotted_names("assign q = tb . out;")
    assert has_dotted_names("assign q = g[0].w;")
    assert not has_dotted_names("sub u(.a(b), .c); x = 1.5; // a.b")


def test_text_of_modules():
    text = "/* module no; */ module yes #(parameter W = 2)(input [W-1:0] a, output reg [W-1:0] q, r);\nendmodule"
    assert modules_in(text) == ["yes"]
    assert output_names(text, "yes") == ["q", "r"]
    assert output_names("module m(a, q);\ninput a;\noutput [3:0] q;\nendmodule", "m") == ["q"]
    assert renamed("module a; a x(.a(a), .b(t.a)); endmodule", {"a": "z"}) == "module z; z x(.a(z), .b(t.a)); endmodule"
    assert "reg" not in hollow(text, "yes", "0")
    assert "assign r = 0;" in hollow(text, "yes", "0")


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("Test Case 1: PASS\nTest Case 2: FAIL - Expected 1, Got 0\nPassed: 1, Failed: 1\n", (True, False)),
        ("Passed: 2, Failed: 1\nOVERALL_FAIL\n", (True, True, False)),
        ("===========Your Design Passed===========\n", (True,)),
        ("===========Test completed with 1 /3 failures===========\n", (True, True, False)),
        ("===========Test completed with failures===========\n", (False,)),
        ("Mismatches: 0 in 20 samples\n", (True,)),
        ("Mismatches: 0 in 0 samples\n", (False,)),
        ("TIMEOUT\nMismatches: 0 in 20 samples\n", None),
        ("nothing\n", None),
    ],
)
def test_what_benches_print(text, passed):
    report = read_report(text)
    assert (None if report is None else report.passed) == passed


def test_only_what_the_bench_marks_counts():
    bench = 'initial begin $display("Test Case %0d: PASS", f(1, (2))); $write("a"); $display; $monitor("x"); end'
    text = marked(bench, "N")
    assert text.count("@N<") == 4
    output = "@N<Test Case 1: PASS@N=\nforged\n@N<a@N|@N<b@N=\n"
    assert unmarked(output, "N") == "Test Case 1: PASS\nab\n"

import pytest

from grpo_project.evaluation.result import EvaluationResult, compiled
from grpo_project.evaluation.tables import probability
from grpo_project.problems.problem import CallTest, Problem
from grpo_project.record.evaluations import CompletionRecord
from grpo_project.verifier import Job, Status, Verdict, Verifier


def record(
    problem_id, passed, total=4, *, sample=0, level="foundation", status=None, truncated=False, tokens=10, **verdict
):
    status = status or (Status.PASSED if passed == total else Status.FAILED)
    return CompletionRecord(
        problem_id=problem_id,
        level=level,
        source="builtin",
        sample=sample,
        prompt="Write f.",
        completion="def f(): pass",
        tokens=tokens,
        truncated=truncated,
        verdict=Verdict("job", problem_id, status, passed, total, **{"code": "def f(): pass", **verdict}),
    )


def result(*records, **fields):
    return EvaluationResult(step=25, records=records, generation_s=1.0, verification_s=0.5, seconds=1.2, **fields)


def test_the_mean_is_over_problems_however_many_completions_each_has():
    found = result(record("a", 4), record("b", 0), record("b", 0, sample=1), record("b", 0, sample=2))
    assert found.pass_rate == 0.5
    assert (found.n, found.source) == (2, "builtin")


def test_levels_are_told_apart():
    found = result(record("a", 4), record("b", 2), record("c", 1, level="expert"))
    assert found.by_level == {"foundation": (0.75, 2), "expert": (0.25, 1)}
    metrics = found.metrics()
    assert metrics["eval/foundation/test_pass_rate"] == 0.75
    assert metrics["eval/foundation/pass@1"] == 0.5
    assert metrics["eval/expert/problems"] == 1


def test_pass_at_k_counts_whole_solutions_only():
    records = [record("a", passed, sample=i) for i, passed in enumerate([4, 3, 3, 3])]
    metrics = result(*records, ks=(1, 2)).metrics()
    assert metrics["eval/pass@1"] == pytest.approx(1 / 4)
    assert metrics["eval/pass@2"] == pytest.approx(1 / 2)
    assert metrics["eval_avg_test_pass_rate"] == pytest.approx((4 + 3 * 3) / 16)


def test_rates_of_completions():
    metrics = result(
        record("a", 0, status=Status.SYNTAX_ERROR, message="loading the program: SyntaxError: invalid syntax"),
        record("b", 0, status=Status.ERROR, message="ZeroDivisionError: division by zero"),
        record("c", 0, status=Status.WRONG_FORMAT, code=None),
        record("d", 0, status=Status.TIMEOUT, truncated=True),
    ).metrics()
    assert metrics["eval/compile_rate"] == 0.5
    assert metrics["eval/timeout_rate"] == 0.25
    assert metrics["eval/wrong_format_rate"] == 0.25
    assert metrics["eval/truncated_rate"] == 0.25
    assert metrics["eval/mean_tokens"] == 10
    assert metrics["inference/step"] == 25
    assert metrics["eval/source"] == "builtin"


def test_changes_are_paired_and_only_against_the_same_problems():
    earlier = {"a": 0.0, "b": 0.5, "unrelated": 1.0}
    found = result(record("a", 2), record("b", 4), first=earlier, previous={"a": 0.0})
    assert found.changes.keys() == {"first"}
    change = found.changes["first"]
    assert change.mean == pytest.approx(0.5)
    assert change.low < 0.5 < change.high
    assert found.metrics()["eval/change_since_first"] == pytest.approx(0.5)
    assert "eval/change_since_previous" not in found.metrics()


@pytest.mark.parametrize(
    ("records", "word"),
    [
        ([record("a", 0, truncated=True), record("b", 0, truncated=True)], "cut off"),
        ([record("a", 0, status=Status.WRONG_FORMAT, code=None)], "known format"),
        ([record("a", 0, status=Status.TIMEOUT)], "out of time"),
        ([], "nothing was evaluated"),
        ([record("a", 4), record("b", 0, tokens=0)], "1 of 2 prompts do not fit"),
    ],
)
def test_suspect_evaluations_say_why(records, word):
    (warning,) = result(*records).warnings()
    assert word in warning


def test_an_ordinary_evaluation_has_no_warning():
    assert result(record("a", 0, truncated=True), record("b", 4)).warnings() == []


def test_what_the_verifier_says_tells_whether_the_code_compiles():
    problem = Problem("p", "Write f.", (CallTest((1,), 2),), entry_point="f")
    expected = {
        "def f(x):\n    return x + 1": True,
        "def f(x)\n    return x": False,
        "def f(x):\nreturn x": False,
        "def f(x):\n    raise SyntaxError": True,
        "def f(x):\n    return x / 0": True,
        "def g(x):\n    return x": True,
        "I don't know.": False,
    }
    with Verifier(workers=1) as verifier:
        verdicts = verifier.verify_many([Job(problem, code) for code in expected])
    assert [compiled(verdict) for verdict in verdicts] == list(expected.values())


def test_a_tiny_p_value_is_not_shown_as_impossible():
    assert [probability(p) for p in (0.0001, 0.0005, 0.0312, 1.0)] == ["< 0.001", "0.001", "0.031", "1.000"]

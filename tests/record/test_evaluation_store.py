import json

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_project.errors import JournalError
from grpo_project.record.evaluations import CompletionRecord, EvaluationStore, read_evaluations
from grpo_project.record.journal import Journal
from grpo_project.verifier.verdict import Status, TestResult, Verdict


def record(problem_id="p", passed=1):
    tests = (TestResult(Status.FAILED, input="f(1)", expected="2", got="1", cpu_s=0.5), TestResult(Status.PASSED))
    verdict = Verdict("job", problem_id, Status.FAILED, passed, 2, tests, code="def f(x): return x")
    return CompletionRecord(problem_id, "expert", "builtin", 0, "Write f.", "```python ...", 9, False, verdict)


def rows(folder, **selection):
    return [(r["attempt"], r["step"], r["passed"]) for r in read_evaluations(folder, **selection).to_pylist()]


def test_everything_about_a_completion_is_kept(tmp_path):
    EvaluationStore(tmp_path, 0).write(25, [record()])
    (kept,) = read_evaluations(tmp_path).to_pylist()
    assert kept["tests"][0] == {
        "status": "failed",
        "message": "",
        "input": "f(1)",
        "expected": "2",
        "got": "1",
        "cpu_s": 0.5,
    }
    wanted = {"step": 25, "source": "builtin", "code": "def f(x): return x", "status": "failed", "tokens": 9}
    assert {name: kept[name] for name in wanted} == wanted


texts = st.text(st.characters(), max_size=8)
seconds = st.floats(0, 1e6)
results = st.builds(
    TestResult, st.sampled_from(Status), message=texts, input=texts, expected=texts, got=texts, cpu_s=seconds
)
verdicts = st.builds(
    Verdict,
    *(st.just(""), st.just("p"), st.sampled_from(Status), st.integers(0, 9), st.integers(1, 9)),
    tests=st.lists(results, max_size=3).map(tuple),
    code=st.none() | texts,
    message=texts,
    weak=st.booleans(),
    cpu_s=seconds,
)


@given(verdicts)
def test_a_verdict_comes_back_from_its_row_on_disk(verdict):
    kept = CompletionRecord("p", "expert", "builtin", 0, "Write f.", "text", 9, False, verdict)
    assert CompletionRecord.from_row(json.loads(json.dumps(kept.to_row()))) == kept


def test_a_file_of_before_has_nulls_for_newer_columns(tmp_path):
    path = EvaluationStore(tmp_path, 0).write(25, [record()])
    pq.write_table(pq.read_table(path).drop_columns(["message", "weak", "cpu_s"]), path)
    (row,) = read_evaluations(tmp_path).to_pylist()
    assert (row["status"], row["message"], row["weak"], row["cpu_s"]) == ("failed", None, None, None)


def test_an_evaluation_is_never_overwritten(tmp_path):
    store = EvaluationStore(tmp_path, 0)
    path = store.write(25, [record()])
    before = path.read_bytes()
    with pytest.raises(JournalError, match="exists already"):
        store.write(25, [record("q")])
    assert path.read_bytes() == before


def test_an_evaluation_made_again_after_a_resume_replaces_the_first(tmp_path):
    for attempt, resumed in enumerate([0, 25]):
        with Journal(tmp_path, attempt) as journal:
            journal.event("resumed" if attempt else "started", step=resumed)
        store = EvaluationStore(tmp_path, attempt)
        for step in (25, 50):
            store.write(step, [record(passed=attempt)])
    assert rows(tmp_path) == [(1, 25, 1), (1, 50, 1)]
    assert len(rows(tmp_path, only_canonical=False)) == 4


def test_without_a_number_the_next_free_attempt_is_taken(tmp_path):
    assert EvaluationStore(tmp_path).attempt == 0
    EvaluationStore(tmp_path).write(0, [record()])
    assert EvaluationStore(tmp_path).attempt == 1


def test_what_a_killed_writer_left_is_removed_and_not_read(tmp_path):
    leftover = tmp_path / "evaluations" / "step_00000025_a000.parquet.tmp"
    leftover.parent.mkdir()
    leftover.write_bytes(b"PAR1")
    assert rows(tmp_path) == []
    EvaluationStore(tmp_path, 1)
    assert not leftover.exists()

"""An evaluation that goes on from its folder."""

from grpo_project.evaluation.saved import SavedEvaluation
from grpo_project.record.evaluations import CompletionRecord
from grpo_project.verifier.verdict import Status, Verdict


def test_a_line_that_cannot_be_read_costs_its_batch_alone(tmp_path, caplog):
    verdict = Verdict("", "p", Status.PASSED, 1, 1)
    saved = SavedEvaluation(tmp_path, "m", {"seed": 1})
    for batch in range(3):
        saved.append(batch, [CompletionRecord("p", "e", "s", 0, "Write.", "x", 1, False, verdict)])
    path = saved.folder / "batches.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"garbage\n" + b'{"batch": 1, "records": [{"verdict": {}}]}\n' + lines[2])
    assert sorted(saved.finished_batches()) == [0, 2]
    assert "line 2 can't be read" in caplog.text
    assert "line 3 can't be read" in caplog.text

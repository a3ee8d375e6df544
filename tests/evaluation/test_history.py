"""What checkpoints hold of earlier evaluations stays short, however many there were."""

import json

from test_result import record

from grpo_project.evaluation.history import KEPT, EvaluationHistory
from grpo_project.evaluation.result import EvaluationResult


def after(evaluations: int) -> EvaluationHistory:
    history = EvaluationHistory()
    for step in range(evaluations):
        records = (record("a", step % 5), record("b", 4))
        history.add(EvaluationResult(step, records, generation_s=1.0, verification_s=0.5, seconds=1.2))
        history.add_failure(step, "the sandbox is gone")
    return history


def test_the_newest_are_kept_and_all_are_counted():
    history = EvaluationHistory.from_dict(json.loads(json.dumps(after(3000).to_dict())))
    assert history.steps == list(range(3000 - KEPT, 3000))
    assert len(history.failures) == KEPT
    summary = history.summary()
    assert (summary["evaluation_count"], summary["last_step"], len(summary["history"])) == (3000, 2999, KEPT)
    assert len(json.dumps(after(3000).to_dict())) == len(json.dumps(after(2000).to_dict()))
    assert history.first_rates == {"a": 0.0, "b": 1.0}


def test_a_checkpoint_that_kept_all_is_taken_over():
    saved = after(3).to_dict()
    del saved["count"]
    assert EvaluationHistory.from_dict(saved).count == 3

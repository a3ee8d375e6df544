"""Alarms: what raises each, that it is raised once, and when it can come again."""

import json

import pytest

from grpo_project.curriculum.diagnosis import BATCHES, Diagnosis, GroupResult
from grpo_project.verifier.verdict import Status

P, F, W = Status.PASSED, Status.FAILED, Status.WRONG_FORMAT
SOLVED = GroupResult("p", [1.0] * 4, [P] * 4)
FAILED = GroupResult("p", [0.0] * 4, [F] * 4)
ALIKE = GroupResult("p", [0.6] * 4, [F] * 4, [0.6] * 4)
MIXED = GroupResult("p", [1.0, 0.0, 0.0, 1.0], [P, F, F, P])


def kinds(batches, diagnosis=None):
    diagnosis = diagnosis or Diagnosis()
    for step, groups in enumerate(batches, start=1):
        diagnosis.observe_rollouts(step, "foundation", groups)
    return [alarm.kind for alarm in diagnosis.take_new()]


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([SOLVED] * 10, ["too_easy"]),
        ([FAILED] * 10, ["too_hard"]),
        ([SOLVED] * 5 + [FAILED] * 5, ["no_signal"]),
        ([ALIKE] * 10, ["no_signal"]),
        ([SOLVED] * 9 + [MIXED], ["too_easy"]),
        ([SOLVED] * 8 + [MIXED] * 2, []),
        ([GroupResult("p", [0.0, 0.1], [W, W])] * 10, ["wrong_format"]),
        ([GroupResult("p", [0.0, 0.1], [F, F], truncated=2)] * 10, ["truncated"]),
        ([GroupResult("p", [0.0, 0.0], [W, W], truncated=2)] * 10, ["wrong_format", "truncated", "too_hard"]),
    ],
)
def test_what_teaches_nothing_is_told_once_with_its_cause(groups, expected):
    assert kinds([groups] * (3 * BATCHES)) == expected


def test_the_cause_tells_easy_from_hard_and_names_a_remedy():
    diagnosis = Diagnosis()
    for step in range(BATCHES):
        diagnosis.observe_rollouts(step, "expert", [FAILED] * 9 + [MIXED])
    (alarm,) = diagnosis.take_new()
    assert alarm.cause == (
        "90% of the groups of the last 8 batches have no variance, so there is no gradient: all their completions fail."
    )
    assert "easier problems" in alarm.remedy
    assert (alarm.stage, alarm.step) == ("expert", BATCHES - 1)
    assert str(alarm) == f"{alarm.cause} {alarm.remedy}"


def test_nothing_is_said_on_a_single_bad_batch():
    assert kinds([[FAILED] * 10] * (BATCHES - 1)) == []


def test_an_alarm_can_come_again_after_its_condition_ended():
    diagnosis = Diagnosis()
    assert kinds([[FAILED] * 10] * BATCHES, diagnosis) == ["too_hard"]
    assert diagnosis.active == {"too_hard"}
    assert kinds([[MIXED] * 10] * BATCHES, diagnosis) == []
    assert diagnosis.active == set()
    assert kinds([[FAILED] * 10] * BATCHES, diagnosis) == ["too_hard"]


def test_an_evaluation_that_never_comes():
    diagnosis = Diagnosis(evaluation_interval=5)
    assert kinds([[MIXED]] * 16, diagnosis) == []
    diagnosis.observe_rollouts(17, "s", [MIXED])
    (alarm,) = diagnosis.take_new()
    assert alarm.kind == "no_evaluation"
    assert alarm.cause == "No evaluation has arrived for 16 steps; one was expected every 5."
    diagnosis.observe_evaluation(18, "s", "")
    assert diagnosis.active == set()
    assert kinds([[MIXED]] * 500, Diagnosis(evaluation_interval=0)) == []


def test_state_round_trip():
    diagnosis, copy = Diagnosis(5), Diagnosis(5)
    for step in range(1, 40):
        diagnosis.observe_rollouts(step, "s", [FAILED] * 3 + [MIXED])
    copy.load_state_dict(json.loads(json.dumps(diagnosis.state_dict())))
    assert copy.state_dict() == diagnosis.state_dict()
    assert copy.zero_variance_share == diagnosis.zero_variance_share == 0.75
    assert copy.take_new() == diagnosis.take_new() != []

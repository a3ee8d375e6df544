"""What each gate asks for before a stage is left."""

import json

import pytest

from grpo_project.curriculum.gate import ConfidentGate, ThresholdGate
from grpo_project.curriculum.stages import Stage

STAGE = Stage("foundation", threshold=0.7)


def test_the_threshold_gate_averages_the_last_window_after_enough_evaluations():
    gate, stage = ThresholdGate(2), Stage("s", threshold=0.7, window=2, min_evaluations=3)
    asked = []
    for rate in (0.9, 0.9, 0.4, 0.9, 0.6):
        gate.add_evaluation(0, rate, 8)
        asked.append(gate.missing(0, stage, 0.7))
    assert asked == [
        "2 more evaluation(s) of the stage (at least 3)",
        "1 more evaluation(s) of the stage (at least 3)",
        "a mean of 0.70 over the last 2 evaluations",
        "a mean of 0.70 over the last 2 evaluations",
        "",
    ]
    assert gate.measure(0, stage).rate == pytest.approx(0.75)
    gate.moved(1, 0)
    assert gate.measure(0, stage).rate is None
    assert gate.missing(0, stage, 0.7) == "3 more evaluation(s) of the stage (at least 3)"


def test_eight_lucky_samples_are_not_enough_for_the_confident_gate():
    gate = ConfidentGate(1)
    gate.add_evaluation(0, 1.0, 8)
    gate.end_evaluation()
    assert gate.missing(0, STAGE, 0.7) == "a lower confidence bound above 0.70"
    for _ in range(12):
        gate.add_rollout(0, 1.0)
    assert gate.missing(0, STAGE, 0.7) == ""


def test_rollouts_alone_wait_for_an_evaluation():
    gate = ConfidentGate(1)
    for _ in range(60):
        gate.add_rollout(0, 1.0)
    assert gate.missing(0, STAGE, 0.7) == "1 more evaluation(s) of the stage's problems (at least 1)"
    assert gate.missing(0, Stage("s", threshold=0.7, min_evaluations=0), 0.7) == ""


def test_an_evaluation_of_problems_without_a_level_is_no_evidence_for_a_stage():
    gate = ConfidentGate(2)
    for _ in range(60):
        gate.add_rollout(1, 1.0)
    gate.add_unlabelled_evaluation(0, 0.1, 100)
    gate.end_evaluation()
    assert gate.missing(1, STAGE, 0.7) == ""
    assert gate.measure(0, STAGE).rate is None
    by_evaluations = ThresholdGate(2)
    by_evaluations.add_unlabelled_evaluation(0, 0.1, 100)
    assert by_evaluations.measure(0, STAGE).rate == pytest.approx(0.1)


def test_held_out_problems_veto_what_was_learnt_by_heart():
    gate = ConfidentGate(1)
    for _ in range(4):
        for _ in range(30):
            gate.add_rollout(0, 1.0)
        gate.add_evaluation(0, 0.25, 8)
        gate.end_evaluation()
    assert gate.measure(0, STAGE).interval[0] > 0.7
    assert "this is memory" in gate.missing(0, STAGE, 0.7)


def test_bad_luck_at_first_does_not_block_for_ever():
    gate = ConfidentGate(1)
    for _ in range(100):
        gate.add_rollout(0, 0.0)
    gate.add_evaluation(0, 0.0, 8)
    gate.end_evaluation()
    needed = 0
    while gate.missing(0, STAGE, 0.7):
        gate.add_rollout(0, 1.0)
        needed += 1
        assert needed < 40


def test_evidence_without_any_evaluation_stays_bounded_and_keeps_a_bet_open():
    gate = ConfidentGate(1, memory=64)
    for i in range(1000):
        gate.add_rollout(0, float(i % 2))
    measure = gate.measure(0, STAGE)
    assert measure.count <= 64
    assert measure.interval[0] < 0.5 < measure.interval[1]


def rolled(gate, index, rates):
    for rate in rates:
        gate.add_rollout(index, rate)


def test_a_fall_is_noticed_and_then_learnt_again():
    gate = ConfidentGate(2)
    rolled(gate, 0, [1.0] * 40)
    gate.end_evaluation()
    gate.moved(0, 1)
    assert not gate.has_fallen(0, STAGE, below=0.6)
    rolled(gate, 0, [0.2] * 40)
    assert gate.has_fallen(0, STAGE, below=0.6)
    assert not gate.has_fallen(1, STAGE, below=0.6)
    gate.moved(1, 0)
    assert not gate.has_fallen(0, STAGE, below=0.6)
    assert gate.measure(0, STAGE).rate is None


def test_weakness_before_a_stage_was_left_is_no_fall():
    gate = ConfidentGate(2)
    rolled(gate, 0, [0.0] * 100)
    gate.add_evaluation(0, 0.0, 8)
    gate.end_evaluation()
    rolled(gate, 0, [1.0] * 60)
    assert gate.missing(0, STAGE, 0.7) == ""
    gate.moved(0, 1)
    rolled(gate, 0, [1.0] * 10)
    assert not gate.has_fallen(0, STAGE, below=0.6)


@pytest.mark.parametrize("cls", [ThresholdGate, ConfidentGate])
def test_state_round_trip(cls):
    gate, copy = cls(2), cls(2)
    for step in range(30):
        gate.add_rollout(0, step / 30)
        gate.add_evaluation(1, 0.3, 7)
        gate.end_evaluation()
        if step == 10:
            gate.moved(0, 1)
    copy.load_state_dict(json.loads(json.dumps(gate.state_dict())))
    assert copy.state_dict() == gate.state_dict()
    assert [copy.measure(i, STAGE) for i in range(2)] == [gate.measure(i, STAGE) for i in range(2)]

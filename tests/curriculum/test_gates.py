"""What the gate asks for before a stage is left."""

import json
from random import Random

import pytest

from grpo_project.curriculum.gate import Gate
from grpo_project.curriculum.stages import Stage

STAGE = Stage("foundation", threshold=0.7)


def test_eight_lucky_samples_are_not_enough_for_the_gate():
    gate = Gate(1)
    gate.add_evaluation({0: (1.0, 8)})
    assert gate.missing(0, STAGE, 0.7) == "a lower confidence bound above 0.70"
    for _ in range(12):
        gate.add_rollout(0, 1.0)
    assert gate.missing(0, STAGE, 0.7) == ""


def test_rollouts_alone_wait_for_an_evaluation():
    gate = Gate(1)
    for _ in range(60):
        gate.add_rollout(0, 1.0)
    assert gate.missing(0, STAGE, 0.7) == "1 more evaluation(s) of the stage's problems (at least 1)"
    assert gate.missing(0, Stage("s", threshold=0.7, min_evaluations=0), 0.7) == ""


def test_an_evaluation_of_problems_without_a_level_is_no_evidence_for_a_stage():
    gate = Gate(2)
    for _ in range(60):
        gate.add_rollout(1, 1.0)
    gate.add_foreign_evaluation()
    assert gate.missing(1, STAGE, 0.7) == ""
    assert gate.measure(0).rate is None


def test_held_out_problems_veto_what_was_learnt_by_heart():
    gate = Gate(1)
    for _ in range(4):
        for _ in range(30):
            gate.add_rollout(0, 1.0)
        gate.add_evaluation({0: (0.25, 8)})
    assert gate.measure(0).interval[0] > 0.7
    assert "this is memory" in gate.missing(0, STAGE, 0.7)


def test_bad_luck_at_first_does_not_block_for_ever():
    gate = Gate(1)
    for _ in range(100):
        gate.add_rollout(0, 0.0)
    gate.add_evaluation({0: (0.0, 8)})
    rolled(gate, 0, [1.0] * 60)
    assert "they alone are surely below 0.70" in gate.missing(0, STAGE, 0.7), "until the next evaluation"
    gate.add_evaluation({0: (1.0, 8)})
    needed = 0
    while gate.missing(0, STAGE, 0.7):
        gate.add_rollout(0, 1.0)
        needed += 1
        assert needed < 20


def test_evidence_without_any_evaluation_stays_bounded_and_keeps_a_bet_open():
    gate = Gate(1, memory=64)
    for i in range(1000):
        gate.add_rollout(0, float(i % 2))
    measure = gate.measure(0)
    assert measure.count <= 64
    assert measure.interval[0] < 0.5 < measure.interval[1]


def rolled(gate, index, rates):
    for rate in rates:
        gate.add_rollout(index, rate)


def test_state_round_trip():
    gate, copy = Gate(2), Gate(2)
    for step in range(30):
        gate.add_rollout(0, step / 30)
        gate.add_evaluation({1: (0.3, 7)})
    copy.load_state_dict(json.loads(json.dumps(gate.state_dict())))
    assert copy.state_dict() == gate.state_dict()
    assert [copy.measure(i) for i in range(2)] == [gate.measure(i) for i in range(2)]


def left_too_early(rate, n_held_out, every, steps, seed):
    """Whether a stage is left although its problems are solved with chance ``rate`` only, below the threshold of 0.7.

    The held-out problems are fixed and answered greedily: each is solved at every evaluation, or at none.
    """
    rng, gate = Random(seed), Gate(1)
    held_out = sum(rng.random() < rate for _ in range(n_held_out)) / n_held_out
    for step in range(steps):
        if step % every == 0:
            gate.add_evaluation({0: (held_out, n_held_out)})
        rolled(gate, 0, [min(1.0, max(0.0, rng.gauss(rate, 0.2))) for _ in range(8) if rng.random() < 0.09])
        if step % 5 == 0 and not gate.missing(0, STAGE, 0.7):
            return True
    return False


@pytest.mark.parametrize(
    ("rate", "n_held_out", "every", "steps"),
    [(0.6, 2, 5, 300), (0.6, 2, 10, 300), (0.65, 8, 25, 600), (0.69, 8, 10, 300), (0.69, 40, 10, 300)],
)
def test_outcomes_that_repeat_are_no_fresh_evidence(rate, n_held_out, every, steps):
    """At ``alpha`` 0.05 three of 60 runs may end so. (With every evaluation as new evidence the first had 14.)"""
    assert sum(left_too_early(rate, n_held_out, every, steps, seed) for seed in range(60)) <= 3


def test_a_state_of_version_2_keeps_its_groups_as_evidence():
    """Its held-out results are left out: it counted them anew at each evaluation."""
    older = {
        "values": [1.0] * 10 + [1.0, 0.0] + [1.0] * 20,
        "weights": [1.0] * 10 + [6.0, 2.0] + [1.0] * 20,
        "held_out": [0] * 10 + [1, 1] + [0] * 20,
        "starts": [[0, 1], [12, 2]],
        "evaluations": 1,
        "left_as": 0,
    }
    gate, same = Gate(1), Gate(1)
    gate.load_state_dict({"ordinal": 2, "stages": [older]})
    rolled(same, 0, [1.0] * 10)
    same.add_evaluation({})
    rolled(same, 0, [1.0] * 20)
    assert gate.measure(0) == same.measure(0)
    assert gate.missing(0, STAGE, 0.7) == ""

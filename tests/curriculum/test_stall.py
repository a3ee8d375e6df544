"""When a stage counts as stalled."""

import pytest
from learners import problems_of, restored

from grpo_project.curriculum import Curriculum, CurriculumSettings
from grpo_project.curriculum.progress import Stall
from grpo_project.problems.problem import LEVELS


def stalls(rates, patience=4):
    """The number of the evaluation (from 1) at which it is noticed; None if never."""
    stall = Stall(patience=patience)
    return next((i for i, rate in enumerate(rates, start=1) if stall.observe(rate, 0.7)), None)


@pytest.mark.parametrize(
    ("rates", "noticed"),
    [
        ([0.5] * 10, 4),
        ([0.5, 0.5, 0.5], None),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], None),
        ([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4], 7),
        ([0.6, 0.5, 0.4, 0.3], 4),
        ([0.05 * i for i in range(20)], 12),  # progress all the time: told nevertheless after three times as many
        ([None] * 4, 4),  # nothing is measured at all
        ([None, 0.3, 0.6, None], None),
        ([0.3, 0.4, None, None], 4),
    ],
)
def test_no_progress_over_the_patience_or_none_to_be_seen(rates, noticed):
    assert stalls(rates) == noticed


def test_patience_begins_anew_after_a_reset():
    stall = Stall(patience=2)
    assert [stall.observe(0.5, 0.7) for _ in range(2)] == [False, True]
    stall.reset()
    assert [stall.observe(0.5, 0.7) for _ in range(2)] == [False, True]
    assert stall.cause("expert") == "Stage expert has made no progress towards 0.70 over 2 evaluations."


TRAIN = problems_of(4)
STUCK = dict.fromkeys(LEVELS, (0.1, 4))


def stopped():
    curriculum = Curriculum(TRAIN, on_stall="stop")
    for step in range(0, 150, 25):
        curriculum.observe_evaluation(step, 0.1, 20, STUCK)
    assert "Stage foundation has made no progress towards 0.70 over 6 evaluations." in curriculum.stop_reason
    return curriculum


@pytest.mark.parametrize("changed", [{"on_stall": "warn"}, {"on_stall": "advance"}, {"threshold": 0.6}])
def test_other_flags_let_a_run_go_on_that_a_stall_ended(changed):
    assert restored(stopped(), Curriculum(TRAIN, **{"on_stall": "stop", **changed})).stop_reason is None


def test_more_patience_lets_it_go_on_too():
    patient = Curriculum(TRAIN, CurriculumSettings(patience=12), on_stall="stop")
    assert restored(stopped(), patient).stop_reason is None


def test_with_the_same_flags_it_stays_stopped_and_says_what_to_do():
    """A run that was killed after that checkpoint ends like the one that nobody killed."""
    reason = restored(stopped(), Curriculum(TRAIN, on_stall="stop")).stop_reason
    assert reason == stopped().stop_reason
    assert "--on_stall warn --allow_config_change" in reason


def test_a_second_stall_stops_it_again():
    curriculum = restored(stopped(), Curriculum(TRAIN, on_stall="stop", threshold=0.6))
    for step in range(150, 300, 25):
        assert curriculum.stop_reason is None
        curriculum.observe_evaluation(step, 0.1, 20, STUCK)
    assert "towards 0.60" in curriculum.stop_reason

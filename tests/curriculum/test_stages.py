"""Which problems a stage takes, and how a batch is shared out."""

import pytest

from grpo_project.curriculum.stages import DEFAULT_STAGES, MIXED, Stage, batch_shares, rates_by_stage
from grpo_project.problems.problem import LEVELS, Problem, StdioTest


def problem(level="foundation", complexity=None, tags=()):
    return Problem("p", "", (StdioTest("", ""),), level=level, complexity=complexity, tags=tags)


@pytest.mark.parametrize(
    ("stage", "chosen", "expected"),
    [
        (Stage("s", levels=("expert", "advanced")), problem("advanced"), True),
        (Stage("s", levels=("expert",)), problem("advanced"), False),
        (Stage("s", tags=("a", "b")), problem(tags=("b", "c")), True),
        (Stage("s", tags=("a",)), problem(tags=("b",)), False),
        (Stage("s", complexity=(2, 4)), problem(complexity=2.0), True),
        (Stage("s", complexity=(2, 4)), problem(complexity=4.0), False),
        (Stage("s", complexity=(8, 10)), problem(complexity=10.0), True),
        (Stage("s", complexity=(2, 4)), problem(), False),
        (Stage("s", levels=("expert",), tags=("a",)), problem("expert"), False),
        (Stage("s"), problem("unknown"), True),
    ],
)
def test_selectors(stage, chosen, expected):
    assert stage.selects(chosen) is expected


def test_the_defaults_are_the_guides_levels_in_order():
    assert tuple(stage.name for stage in DEFAULT_STAGES) == LEVELS
    assert all(stage.levels == (stage.name,) and stage.threshold for stage in DEFAULT_STAGES)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Stage("s", levels=("expert",)), True),
        (Stage("s", levels=("expert",), tags=("a", "b")), True),
        (Stage("s", levels=("expert",), tags=("b",)), False),
        (Stage("s", levels=("unknown",)), False),
        (Stage("s", complexity=(2, 4)), True),
        (Stage("s", tags=("a",)), False),
        (Stage("s"), False),
    ],
)
def test_what_a_problem_may_come_to_belong_to_by_being_sorted(stage, expected):
    assert stage.could_select(problem("unknown", tags=("a",))) is expected


def shares(current, sizes=(9, 9, 9, 9, 9, 45)):
    return [round(share, 9) for share in batch_shares((*DEFAULT_STAGES, MIXED), sizes, current)]


def test_a_batch_is_shared_between_the_stage_earlier_and_later_ones():
    assert shares(0) == [0.3, 0.175, 0.175, 0.175, 0.175, 0]  # nothing is earlier: all that is shared goes forward
    assert shares(2) == [0.15, 0.15, 0.3, 0.2, 0.2, 0]
    assert shares(4) == [0.175, 0.175, 0.175, 0.175, 0.3, 0]
    assert shares(5) == [0.16, 0.16, 0.16, 0.16, 0.16, 0.2]


def test_stages_without_problems_get_nothing():
    assert shares(2, (0, 0, 9, 0, 9, 18)) == [0, 0, 0.3, 0, 0.7, 0]
    assert shares(5, (0, 0, 0, 0, 0, 7)) == [0, 0, 0, 0, 0, 1]
    assert shares(0, (0, 0, 9, 0, 9, 18)) == [0, 0, 0.5, 0, 0.5, 0], "the current one may be empty too"
    assert shares(0, (0, 0, 0, 0, 0, 18)) == [0] * 6


def test_what_an_evaluation_says_about_each_stage():
    stages = (Stage("low", levels=("foundation", "elementary")), Stage("tagged", tags=("x",)), Stage("all"))
    by_level = {"foundation": (1.0, 3), "elementary": (0.2, 1), "expert": (0.0, 4)}
    assert rates_by_stage(stages, 0.4, 8, by_level, None) == {0: (pytest.approx(0.8), 4), 2: (0.4, 8)}
    by_problem = [(problem(), 1.0), (problem(tags=("x",)), 0.5), (problem("expert"), 0.0)]
    found = rates_by_stage(stages, 0.5, 3, {}, by_problem)
    assert found == {0: (0.75, 2), 1: (0.5, 1), 2: (0.5, 3)}

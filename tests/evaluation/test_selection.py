import random
from collections import Counter

import pytest

from grpo_project.errors import ConfigError
from grpo_project.evaluation.selection import select_problems
from grpo_project.problems.problem import CallTest, Problem


def problems(**counts):
    return [
        Problem(id=f"{level}-{i}", prompt=f"{level} {i}", tests=(CallTest((1,), 2),), level=level)
        for level, count in counts.items()
        for i in range(count)
    ]


POOL = problems(expert=50, foundation=50, elementary=3)


def levels_of(chosen):
    return Counter(problem.level for problem in chosen)


def test_levels_share_the_places_and_a_small_level_leaves_its_own_to_the_others():
    assert levels_of(select_problems(POOL, 8, seed=0)) == {"foundation": 3, "elementary": 3, "expert": 2}
    assert levels_of(select_problems(POOL, 20, seed=0)) == {"foundation": 9, "elementary": 3, "expert": 8}


def test_the_easiest_level_comes_first():
    assert [p.level for p in select_problems(POOL, 4, seed=0)] == ["foundation", "foundation", "elementary", "expert"]


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_the_file():
    shuffled = random.Random(1).sample(POOL, len(POOL))
    assert select_problems(POOL, 8, seed=3) == select_problems(shuffled, 8, seed=3)
    assert select_problems(POOL, 8, seed=3) != select_problems(POOL, 8, seed=4)


def test_a_larger_choice_keeps_the_smaller_one():
    small, large = ({p.id for p in select_problems(POOL, count, seed=0)} for count in (8, 30))
    assert small < large


def test_asking_for_more_than_there_is_gives_all():
    assert len(select_problems(POOL, 1000, seed=0)) == len(POOL)


def test_levels_can_be_named():
    assert levels_of(select_problems(POOL, 4, seed=0, levels=["expert"])) == {"expert": 4}
    with pytest.raises(ConfigError, match="no evaluation problem has level 'advanced'"):
        select_problems(POOL, 4, seed=0, levels=["advanced"])


def test_unknown_levels_come_last():
    pool = problems(unknown=2, foundation=2)
    assert [p.level for p in select_problems(pool, 4, seed=0)] == ["foundation"] * 2 + ["unknown"] * 2


def test_an_empty_set_is_refused():
    with pytest.raises(ConfigError, match="the evaluation set is empty"):
        select_problems([], 8, seed=0)

import random
from collections import Counter
from dataclasses import replace

import pytest

from grpo_project.errors import ConfigError
from grpo_project.problems.identity import check_disjoint
from grpo_project.problems.problem import CallTest, Problem
from grpo_project.problems.selection import hold_out, select_problems


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


def test_a_twentieth_is_held_out_with_the_levels_in_balance():
    pool = problems(foundation=4000, expert=4000, elementary=40)
    train, heldout = hold_out(pool, 0.05, seed=0)
    assert levels_of(heldout) == {"foundation": 196, "elementary": 10, "expert": 196}
    assert sorted(p.id for p in (*train, *heldout)) == sorted(p.id for p in pool)
    held = {problem.id for problem in heldout}
    assert list(train) == [problem for problem in pool if problem.id not in held], "in their order"


@pytest.mark.parametrize(
    ("size", "share", "expected"), [(64, 0.05, 16), (400, 0.05, 20), (20_000, 0.05, 512), (40, 0.5, 20)]
)
def test_at_least_16_and_at_most_512_are_held_out(size, share, expected):
    train, heldout = hold_out(problems(foundation=size), share, seed=0)
    assert (len(heldout), len(train)) == (expected, size - expected)


@pytest.mark.parametrize(("size", "share"), [(63, 0.05), (10, 0.05), (20, 0.5), (1000, 0.0), (0, 0.05)])
def test_a_set_that_is_too_small_is_not_parted(size, share):
    assert hold_out(problems(foundation=size), share, seed=0) is None


def test_the_parts_depend_on_the_seed_and_not_on_the_order():
    pool = problems(foundation=300, expert=300)
    shuffled = random.Random(0).sample(pool, len(pool))
    first, again, other = (hold_out(p, 0.05, seed=s) for p, s in ((pool, 1), (shuffled, 1), (pool, 2)))
    assert {p.id for p in first[1]} == {p.id for p in again[1]} != {p.id for p in other[1]}


def test_a_prompt_that_occurs_twice_is_never_held_out():
    """One of the two would be trained on, and the other measure memory."""
    pool = problems(foundation=200)
    twins = [replace(problem, id=f"twin-{problem.id}", prompt=f" {problem.prompt.upper()}") for problem in pool[:150]]
    train, heldout = hold_out([*pool, *twins], 0.1, seed=0)
    assert len(heldout) == 35
    check_disjoint(train, heldout)

"""Bounds from betting: right often enough, tight enough, and valid whenever one looks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_project.curriculum.confidence import confidence_bounds, refuting_start, start_weight

ONE = [(0, 1)]


def bounds_of(values, starts=ONE, alpha=0.05):
    return confidence_bounds(np.array(values, dtype=float), np.ones(len(values)), starts, alpha)


def test_the_bets_share_alpha():
    assert sum(start_weight(j) for j in range(1, 100_000)) == pytest.approx(1.0, abs=1e-4)


def test_nothing_is_known_without_values():
    assert bounds_of([]) is None
    assert confidence_bounds(np.ones(3), np.ones(3), [(3, 2)], 0.05) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_bounds_enclose_the_mean(values):
    bounds = bounds_of(values)
    assert 0 <= bounds.lower <= bounds.mean + 1e-5
    assert bounds.mean - 1e-5 <= bounds.upper <= 1
    assert bounds.count == len(values)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_the_decision_agrees_with_the_bound(values, threshold):
    lower = bounds_of(values).lower
    if abs(lower - threshold) > 1e-4:
        refuted = refuting_start(np.array(values), np.ones(len(values)), ONE, 0.05, threshold)
        assert (refuted == 0) == (lower > threshold)


def test_an_average_of_many_is_never_worth_more_than_the_values_themselves():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.beta(2, 2, size=20)
        total = values.sum()
        split = confidence_bounds(np.array([1.0, 0.0]), np.array([total, 20 - total]), ONE, 0.05)
        assert split.lower <= bounds_of(values).lower + 1e-6
        assert split.count == pytest.approx(20)


def test_low_variance_is_rewarded():
    """The same mean and number of values: groups of eight tell more than single completions."""
    single = [1.0] * 64 + [0.0] * 16
    grouped = [0.75, 0.85] * 40
    assert bounds_of(grouped).lower > bounds_of(single).lower + 0.05


def test_looking_all_the_time_is_wrong_no_more_often_than_alpha():
    """Where a plain 95% interval, looked at after every value, is wrong several times as often."""
    rng = np.random.default_rng(1)
    alpha, runs, length = 0.1, 300, 200
    wrong = plain_wrong = 0
    for _ in range(runs):
        values = (rng.random(length) < 0.6).astype(float)
        starts = [(i, j) for j, i in enumerate(range(0, length, 40), start=1)]
        looks = range(5, length + 1, 5)
        wrong += any(
            refuting_start(values[:n], np.ones(n), [s for s in starts if s[0] < n], alpha, 0.6) is not None
            for n in looks
        )
        plain_wrong += any(
            values[:n].mean() - 1.28 * max(values[:n].std(), 1e-9) / n**0.5 > 0.6 for n in looks
        )  # one-sided 90%
    assert wrong / runs <= alpha
    assert plain_wrong / runs > 2 * alpha


def test_a_later_start_forgets_what_the_learner_could_not_do():
    values = [0.0] * 100 + [1.0] * 30
    assert bounds_of(values).lower < 0.3
    later = bounds_of(values, [(0, 1), (100, 2)])
    assert later.lower > 0.75
    assert (later.start, later.count) == (100, 30)

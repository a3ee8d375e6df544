"""Bounds from betting: right often enough, tight enough, and valid whenever one looks."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_project.curriculum.confidence import Bet, confidence_bounds, refutes, so_few_by_chance, start_weight

ONE = [Bet(0, 1)]


def bounds_of(values, bets=ONE, alpha=0.05):
    return confidence_bounds(np.array(values, dtype=float), bets, alpha)


def test_the_bets_share_alpha():
    assert sum(start_weight(j) for j in range(1, 100_000)) == pytest.approx(1.0, abs=1e-4)


def test_nothing_is_known_without_values():
    assert bounds_of([]) is None
    assert bounds_of([1.0] * 3, [Bet(3, 2)]) is None


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
        assert refutes(np.array(values), ONE, 0.05, threshold) == (lower > threshold)


def test_an_average_of_many_is_never_worth_more_than_the_values_themselves():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.beta(2, 2, size=20)
        total = values.sum()
        split = bounds_of([], [Bet(0, 1, solved=total, failed=20 - total)])
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
        bets = [Bet(i, j) for j, i in enumerate(range(0, length, 40), start=1)]
        looks = range(5, length + 1, 5)
        wrong += any(refutes(values[:n], [bet for bet in bets if bet.position < n], alpha, 0.6) for n in looks)
        plain_wrong += any(
            values[:n].mean() - 1.28 * max(values[:n].std(), 1e-9) / n**0.5 > 0.6 for n in looks
        )  # one-sided 90%
    assert wrong / runs <= alpha
    assert plain_wrong / runs > 2 * alpha


def test_a_later_start_forgets_what_the_learner_could_not_do():
    values = [0.0] * 100 + [1.0] * 30
    assert bounds_of(values).lower < 0.3
    later = bounds_of(values, [Bet(0, 1), Bet(100, 2)])
    assert later.lower > 0.75
    assert later.count == 30


def test_held_out_outcomes_count_like_values_that_came_first():
    values = [1.0, 0.0, 1.0, 1.0, 0.5, 0.75]
    held_out = [1.0, 1.0, 1.0, 0.0]
    alone, joined = bounds_of(values, [Bet(0, 1, solved=3, failed=1)]), bounds_of([*held_out, *values])
    assert (alone.lower, alone.mean, alone.upper) == pytest.approx((joined.lower, joined.mean, joined.upper), abs=1e-5)
    assert alone.count == joined.count == 10


@pytest.mark.parametrize(("solved", "failed"), [(0, 8), (2, 6), (7, 1), (8, 0), (3, 0), (400, 1600)])
def test_the_binomial_tail_is_exact(solved, failed):
    n = solved + failed
    terms = (math.comb(n, k) * Fraction(7, 10) ** k * Fraction(3, 10) ** (n - k) for k in range(solved + 1))
    exact = sum(terms)
    assert so_few_by_chance(solved, failed, 0.7) == pytest.approx(float(exact))
    assert so_few_by_chance(solved - 0.4, failed + 0.4, 0.7) == pytest.approx(float(exact)) or solved == 0

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_project.evaluation.estimators import (
    mean_interval,
    paired_change,
    paired_p_value,
    pass_at_k,
    wilson_interval,
)

RATES = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@pytest.mark.parametrize(("samples", "correct", "k"), [(5, 2, 1), (5, 2, 3), (7, 0, 4), (7, 7, 7), (10, 3, 10)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_completion(samples, correct, k):
    draws = list(combinations(range(samples), k))
    expected = sum(any(i < correct for i in draw) for draw in draws) / len(draws)
    assert pass_at_k(samples, correct, k) == pytest.approx(expected)


@given(st.integers(1, 300), st.data())
def test_pass_at_k_equals_the_closed_form(samples, data):
    correct = data.draw(st.integers(0, samples))
    k = data.draw(st.integers(1, samples))
    closed = 1 - math.comb(samples - correct, k) / math.comb(samples, k)
    assert pass_at_k(samples, correct, k) == pytest.approx(closed, abs=1e-9)


@pytest.mark.parametrize(("samples", "correct", "k"), [(5, 6, 1), (5, -1, 1), (5, 2, 6), (5, 2, 0)])
def test_pass_at_k_refuses_impossible_counts(samples, correct, k):
    with pytest.raises(ValueError, match="pass@k"):
        pass_at_k(samples, correct, k)


def test_wilson_matches_the_published_example():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 is 0.2553 to 0.3662.
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60))
def test_mean_interval_of_yes_or_no_values_is_wilsons(values):
    estimate = mean_interval(values)
    assert (estimate.low, estimate.high) == pytest.approx(wilson_interval(estimate.mean, len(values)), abs=1e-12)


@given(RATES)
def test_the_interval_contains_the_mean_and_is_never_wider_than_for_yes_or_no_values(values):
    estimate = mean_interval(values)
    low, high = wilson_interval(estimate.mean, len(values))
    assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1
    assert estimate.high - estimate.low <= high - low + 1e-9


def test_equal_values_do_not_claim_certainty():
    estimate = mean_interval([0.5] * 8)
    assert estimate.high - estimate.low > 0.2


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no problems"):
        mean_interval([])


def test_a_rate_outside_of_0_to_1_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        mean_interval([0.5, 1.5])


TESTS_PER_PROBLEM = 6
SOLVE_RATES = {  # true solve rate of a random problem; the truth is its mean
    "all alike, half": (lambda rng, shape: np.full(shape, 0.5), 0.5),
    "all alike, easy": (lambda rng, shape: np.full(shape, 0.9), 0.9),
    "easy or hard": (lambda rng, shape: rng.beta(0.5, 0.5, shape), 0.5),
    "mostly hard": (lambda rng, shape: rng.beta(0.3, 3.0, shape), 0.3 / 3.3),
    "in the middle": (lambda rng, shape: rng.beta(2.0, 5.0, shape), 2 / 7),
}


@pytest.mark.parametrize("n", [8, 20, 100])
@pytest.mark.parametrize("name", SOLVE_RATES)
@pytest.mark.parametrize("tests", [1, TESTS_PER_PROBLEM], ids=["solved or not", "share of tests"])
def test_coverage_of_the_95_percent_interval(name, n, tests):
    draw, truth = SOLVE_RATES[name]
    rng = np.random.default_rng(7)
    values = rng.binomial(tests, draw(rng, (400, n))) / tests
    estimates = [mean_interval(row) for row in values.tolist()]
    covered = np.mean([e.low <= truth <= e.high for e in estimates])
    assert covered >= 0.92  # 95% less what 400 rounds leave to chance; discrete values can't do better than about 93%


@pytest.mark.parametrize("n", [8, 30, 100])
@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_coverage_of_the_paired_change(n, shift):
    rng = np.random.default_rng(11)
    rates = rng.uniform(0, 0.8, (400, n))
    before = rng.binomial(TESTS_PER_PROBLEM, rates) / TESTS_PER_PROBLEM
    after = rng.binomial(TESTS_PER_PROBLEM, rates + shift) / TESTS_PER_PROBLEM
    changes = [paired_change(b, a) for b, a in zip(before.tolist(), after.tolist(), strict=True)]
    assert np.mean([c.low <= shift <= c.high for c in changes]) >= 0.93


def test_paired_change_is_narrower_than_two_separate_intervals_when_problems_differ():
    before = [0.0, 0.1, 0.9, 1.0] * 10
    after = [value * 0.9 + 0.1 for value in before]
    change = paired_change(before, after)
    separate = mean_interval(after)
    assert change.mean == pytest.approx(0.05)
    assert change.high - change.low < (separate.high - separate.low) / 2


def test_p_value_of_changed_problems_is_mcnemars_exact_one():
    before = [0.0] * 9 + [1.0] + [1.0] * 5
    after = [1.0] * 9 + [0.0] + [1.0] * 5
    tail = sum(math.comb(10, i) for i in (0, 1))
    assert paired_p_value(before, after) == pytest.approx(2 * tail / 2**10)


def test_p_value_without_any_change_is_1():
    assert paired_p_value([0.2, 0.8], [0.2, 0.8]) == 1.0


def test_p_value_of_many_problems_is_near_the_exact_one_and_repeats():
    before, after = [0.0] * 20 + [1.0] * 8, [1.0] * 20 + [0.0] * 8
    exact = 2 * sum(math.comb(28, i) for i in range(9)) / 2**28
    assert paired_p_value(before, after) == paired_p_value(before, after)
    assert paired_p_value(before, after) == pytest.approx(exact, abs=0.005)


def test_p_values_under_no_change_are_not_too_small():
    rng = np.random.default_rng(3)
    rates = rng.uniform(0, 1, (300, 12))
    pairs = [(rng.binomial(6, r) / 6, rng.binomial(6, r) / 6) for r in rates]
    small = np.mean([paired_p_value(a.tolist(), b.tolist()) <= 0.05 for a, b in pairs])
    assert small <= 0.08

"""Samplers draw what they promise, and their state is all that matters."""

import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_project.curriculum.bandit import BanditSampler
from grpo_project.curriculum.fenwick import FenwickTree
from grpo_project.curriculum.sampler import Draw, LearnableSampler, Outcome, StagedSampler, UniformSampler

POOLS = [list(range(0, 10)), list(range(10, 20)), [], list(range(20))]
SHARES = [0.6, 0.4, 0.0, 0.0]
HALF = Outcome(0.5, 8, True, 1.0)
SOLVED = Outcome(1.0, 8, False, 0.0)
HOPELESS = Outcome(0.0, 8, False, 0.0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_the_tree_draws_by_weight_and_does_not_remember_how_it_got_there(weights, data):
    tree = FenwickTree([1] * len(weights))
    for position in data.draw(st.permutations(range(len(weights)))):
        tree.set(position, weights[position])
    found = Counter(tree.find(target) for target in range(tree.total))
    assert found == Counter({i: w for i, w in enumerate(weights) if w})
    rebuilt = FenwickTree(weights)
    assert [rebuilt.find(t) for t in range(rebuilt.total)] == [tree.find(t) for t in range(tree.total)]
    assert (len(tree), tree.total) == (len(weights), sum(weights))


def test_staged_takes_stages_by_share_and_problems_uniformly():
    sampler, rng = StagedSampler(POOLS, 20), Random(0)
    draws = [sampler.draw(SHARES, rng) for _ in range(20_000)]
    stages = Counter(draw.stage for draw in draws)
    assert set(stages) == {0, 1}
    assert stages[0] / 20_000 == pytest.approx(0.6, abs=0.02)
    problems = Counter(draw.problem for draw in draws if draw.stage == 0)
    assert set(problems) == set(POOLS[0])
    assert max(problems.values()) < 1.2 * min(problems.values())
    assert all(draw.probe for draw in draws)


def test_uniform_ignores_the_stages():
    sampler, rng = UniformSampler([[0, 1], [], [1, 2]], 4), Random(0)
    draws = [sampler.draw([1.0, 0.0, 0.0], rng) for _ in range(8000)]
    assert Counter(draw.problem for draw in draws).keys() == {0, 1, 2, 3}
    assert {(d.problem, d.stage, d.probe) for d in draws} == {(0, 0, True), (1, 0, True), (2, 2, True), (3, 0, False)}


def visited(outcomes, stage=0, rounds=20):
    sampler = LearnableSampler(POOLS, 20)
    for _ in range(rounds):
        for problem, outcome in outcomes.items():
            sampler.observe(Draw(problem, stage, False), outcome)
    return sampler


def test_learnable_prefers_what_is_half_solved_and_starves_nothing():
    outcomes = {i: SOLVED for i in range(4)} | {i: HOPELESS for i in range(4, 8)} | {8: HALF, 9: HALF}
    sampler, rng = visited(outcomes), Random(0)
    drawn = Counter(sampler.draw([1.0, 0, 0, 0], rng).problem for _ in range(10_000))
    assert set(drawn) == set(POOLS[0])
    assert drawn[8] + drawn[9] > 5_000
    assert min(drawn.values()) > 0.4 * 10_000 * 0.5 / 10  # the probes' share at least, less chance


def test_probes_are_uniform_whatever_the_estimates():
    outcomes = {i: SOLVED for i in range(9)} | {9: HALF}
    sampler, rng = visited(outcomes), Random(1)
    draws = [sampler.draw([1.0, 0, 0, 0], rng) for _ in range(20_000)]
    probes = Counter(draw.problem for draw in draws if draw.probe)
    assert sum(probes.values()) / 20_000 == pytest.approx(0.5, abs=0.02)
    assert max(probes.values()) < 1.2 * min(probes.values())


def test_without_estimates_every_draw_is_a_probe():
    sampler, rng = LearnableSampler(POOLS, 20), Random(0)
    assert all(sampler.draw(SHARES, rng).probe for _ in range(200))


def test_a_group_that_scores_alike_teaches_nothing_even_at_half():
    alike = Outcome(0.5, 8, False, 0.0)
    sampler, rng = visited({0: alike, 1: HALF}), Random(0)
    drawn = Counter(d.problem for d in (sampler.draw([1.0, 0, 0, 0], rng) for _ in range(20_000)) if not d.probe)
    assert drawn[0] < drawn[1] / 3


def test_estimates_forget():
    sampler = visited({0: HOPELESS})
    before = sampler.state_dict()["counts"][0]
    for _ in range(3):
        sampler.observe(Draw(0, 0, False), HALF)
    _, a, b = sampler.state_dict()["counts"][0]
    assert before[1] / (before[1] + before[2]) < 0.02
    assert 0.25 < a / (a + b) < 0.5


def test_a_stage_that_teaches_nothing_gives_its_share_away():
    sampler = LearnableSampler(POOLS, 20)
    for _ in range(40):
        sampler.observe(Draw(3, 0, True), SOLVED)
        sampler.observe(Draw(13, 1, True), HALF)
    weights = sampler.stage_weights(SHARES)
    assert weights[0] / sum(weights) < 0.03
    assert weights[0] > 0 and weights[2] == 0


def test_entropy_falls_as_the_sampler_concentrates():
    fresh = LearnableSampler(POOLS, 20).metrics(0)["curriculum/entropy"]
    focused = visited({i: SOLVED for i in range(9)} | {9: HALF}).metrics(0)["curriculum/entropy"]
    assert fresh == pytest.approx(1.0)
    assert focused < 0.95


def test_the_bandit_goes_where_advantages_are_and_keeps_a_floor():
    sampler, rng = BanditSampler(POOLS, 20), Random(0)
    for _ in range(50):
        sampler.observe(Draw(0, 0, True), SOLVED)
        sampler.observe(Draw(10, 1, True), HALF)
    stages = Counter(sampler.draw([0.5, 0.5, 0.0, 0.0], rng).stage for _ in range(5000))
    assert set(stages) == {0, 1}
    assert 0.08 < stages[0] / 5000 < 0.2
    assert sampler.metrics(0)["curriculum/entropy"] < 1


@pytest.mark.parametrize("cls", [StagedSampler, UniformSampler, LearnableSampler, BanditSampler])
def test_state_round_trip_gives_the_same_draws(cls):
    sampler, copy, rng = cls(POOLS, 20), cls(POOLS, 20), Random(0)
    for _ in range(300):
        draw = sampler.draw(SHARES, rng)
        rate = rng.random()
        sampler.observe(draw, Outcome(rate, 8, True, rate))
    copy.observe(Draw(1, 0, True), HALF)  # what it had learnt before is gone
    copy.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    one, other = Random(5), Random(5)
    assert [sampler.draw(SHARES, one) for _ in range(500)] == [copy.draw(SHARES, other) for _ in range(500)]
    assert copy.metrics(0) == sampler.metrics(0)

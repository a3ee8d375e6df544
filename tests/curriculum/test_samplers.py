"""Samplers draw what they promise, and their state is all that matters."""

import json
import math
from collections import Counter
from random import Random

import pytest

from grpo_project.curriculum.learnable import LearnableSampler, PassRateModel, features
from grpo_project.curriculum.sampler import ALL, Draw, Outcome, StagedSampler, UniformSampler
from grpo_project.problems.problem import Problem, StdioTest

PROBLEMS = [Problem(f"p{i}", f"Solve number {chr(97 + i)}.", (StdioTest("", ""),)) for i in range(20)]
POOLS = [list(range(0, 10)), list(range(10, 20)), [], list(range(20))]
SHARES = [0.6, 0.4, 0.0, 0.0]
HALF = Outcome(0.5, 8, True)
SOLVED = Outcome(1.0, 8, False)
HOPELESS = Outcome(0.0, 8, False)


def test_staged_takes_stages_by_share_and_problems_uniformly():
    sampler, rng = StagedSampler(POOLS, PROBLEMS), Random(0)
    draws = [sampler.draw(SHARES, rng) for _ in range(20_000)]
    stages = Counter(draw.stage for draw in draws)
    assert set(stages) == {0, 1}
    assert stages[0] / 20_000 == pytest.approx(0.6, abs=0.02)
    problems = Counter(draw.problem for draw in draws if draw.stage == 0)
    assert set(problems) == set(POOLS[0])
    assert max(problems.values()) < 1.2 * min(problems.values())
    assert all(draw.probe for draw in draws)


def test_uniform_ignores_the_stages():
    sampler, rng = UniformSampler([[0, 1], [], [1, 2]], PROBLEMS[:4]), Random(0)
    draws = [sampler.draw([1.0, 0.0, 0.0], rng) for _ in range(8000)]
    drawn = Counter(draw.problem for draw in draws)
    assert drawn.keys() == {0, 1, 2, 3}
    assert max(drawn.values()) < 1.1 * min(drawn.values())
    assert {(draw.stage, draw.probe) for draw in draws} == {(ALL, True)}


def visited(outcomes, stage=0, rounds=20):
    sampler = LearnableSampler(POOLS, PROBLEMS)
    for _ in range(rounds):
        for problem, outcome in outcomes.items():
            sampler.observe(Draw(problem, stage, False), outcome)
    return sampler


def test_learnable_prefers_what_is_half_solved_and_starves_nothing():
    outcomes = {i: SOLVED for i in range(4)} | {i: HOPELESS for i in range(4, 8)} | {8: HALF, 9: HALF}
    sampler, rng = visited(outcomes), Random(0)
    drawn = Counter(sampler.draw([1.0, 0, 0, 0], rng).problem for _ in range(10_000))
    assert set(drawn) == set(POOLS[0])
    assert drawn[8] + drawn[9] > 6_000
    assert min(drawn.values()) > 0.4 * 10_000 * sampler.probe_share / 10  # the probes' share at least, less chance


def test_probes_are_uniform_whatever_the_estimates():
    outcomes = {i: SOLVED for i in range(9)} | {9: HALF}
    sampler, rng = visited(outcomes), Random(1)
    draws = [sampler.draw([1.0, 0, 0, 0], rng) for _ in range(20_000)]
    probes = Counter(draw.problem for draw in draws if draw.probe)
    assert sum(probes.values()) / 20_000 == pytest.approx(sampler.probe_share, abs=0.02)
    assert max(probes.values()) < 1.2 * min(probes.values())


def test_problems_never_tried_are_known_by_those_like_them():
    """Half of the problems are about sorting and always solved, half about primes and solved half of the time."""
    kinds = ("sort the list of", "count the primes up to")
    problems = [Problem(str(i), f"{kinds[i % 2]} {chr(97 + i // 2)}", (StdioTest("", ""),)) for i in range(40)]
    sampler = LearnableSampler([list(range(40))], problems)
    for i in range(10):
        sampler.observe(Draw(i, 0, True), SOLVED if i % 2 == 0 else HALF)
    assert sampler.pass_rate(30) > 0.8
    assert sampler.pass_rate(31) == pytest.approx(0.5, abs=0.15)
    rng = Random(0)
    drawn = Counter(draw.problem % 2 for draw in (sampler.draw([1.0], rng) for _ in range(4000)) if not draw.probe)
    assert drawn[1] > 4 * drawn[0]


def test_the_model_learns_pass_rates_from_words_tags_and_levels():
    rng = Random(0)
    words, tags, levels = ("walk", "reach", "order"), ("list", "text"), ("foundation", "expert")
    rates = {"walk": 0.9, "reach": 0.5, "order": 0.2, "list": 0.1, "text": -0.1, "foundation": 0.0, "expert": -0.1}
    problems, truth = [], []
    for i in range(600):
        word, tag, level = rng.choice(words), rng.choice(tags), rng.choice(levels)
        problems.append(Problem(str(i), f"{word} it {i}", (StdioTest("", ""),), level=level, tags=(tag,)))
        truth.append(min(1.0, max(0.0, rates[word] + rates[tag] + rates[level])))
    model = PassRateModel(problems)
    assert {model.predict(i) for i in range(600)} == {0.5}
    for i in range(500):
        model.observe(i, sum(rng.random() < truth[i] for _ in range(8)) / 8)
    error = sum((model.predict(i) - truth[i]) ** 2 for i in range(500, 600)) / 100
    spread = sum((truth[i] - 0.5) ** 2 for i in range(500, 600)) / 100
    assert error < spread / 3


def test_prompts_in_any_script_have_features():
    chinese = Problem("c", "\u6c42\u548c", (StdioTest("", ""),))
    same_start = Problem("d", "\u6c42\u79ef", (StdioTest("", ""),))
    shared = set(features(chinese)) & set(features(same_start))
    assert 2 <= len(shared) < len(features(chinese))
    assert features(Problem("e", "12", (StdioTest("", ""),)))


def test_a_group_that_scores_alike_teaches_nothing_even_at_half():
    alike = Outcome(0.5, 8, False)
    sampler, rng = visited({0: alike, 1: HALF}), Random(0)
    drawn = Counter(d.problem for d in (sampler.draw([1.0, 0, 0, 0], rng) for _ in range(20_000)) if not d.probe)
    assert drawn[0] < drawn[1] / 3


@pytest.mark.parametrize("visits", [0, 1, 6])
def test_learnability_is_the_expectation_under_the_posterior(visits):
    """Not its value at the mean: what is known of an untried problem is little, so its p(1-p) is less than that."""
    sampler = LearnableSampler(POOLS, PROBLEMS, memory=1.0)
    for _ in range(visits):
        sampler.observe(Draw(3, 0, False), HALF)
    a = b = (sampler.prior + 8 * visits) / 2  # solved half of the time, predicted to be: symmetric
    rng = Random(0)
    drawn = [rng.betavariate(a, b) for _ in range(20_000)]
    assert sampler.learnability(3) == pytest.approx(sum(4 * p * (1 - p) for p in drawn) / len(drawn), abs=0.01)


def test_estimates_forget():
    sampler = visited({0: HOPELESS})
    assert sampler.pass_rate(0) < 0.02
    for _ in range(3):
        sampler.observe(Draw(0, 0, False), HALF)
    assert 0.25 < sampler.pass_rate(0) < 0.5


def test_a_stage_that_teaches_nothing_gives_its_share_away():
    sampler = LearnableSampler(POOLS, PROBLEMS)
    for _ in range(40):
        sampler.observe(Draw(3, 0, True), SOLVED)
        sampler.observe(Draw(13, 1, True), HALF)
    weights = sampler.stage_weights(SHARES)
    assert weights[0] / sum(weights) < 0.3  # of a share of 0.6
    assert weights[0] > 0 and weights[2] == 0


def test_entropy_falls_as_the_sampler_concentrates():
    """The estimate from candidates against the entropy of what is really drawn."""
    assert LearnableSampler(POOLS, PROBLEMS).metrics(0)["curriculum/entropy"] == 1.0
    sampler, rng = visited({i: SOLVED for i in range(8)} | {8: HALF, 9: HALF}), Random(0)
    drawn = Counter(sampler.draw([1.0, 0, 0, 0], rng).problem for _ in range(20_000))
    real = -sum(n / 20_000 * math.log(n / 20_000) for n in drawn.values()) / math.log(10)
    assert sampler.metrics(0)["curriculum/entropy"] == pytest.approx(real, abs=0.08)
    assert real < 0.9


@pytest.mark.parametrize("cls", [StagedSampler, UniformSampler, LearnableSampler])
def test_state_round_trip_gives_the_same_draws(cls):
    sampler, copy, rng = cls(POOLS, PROBLEMS), cls(POOLS, PROBLEMS), Random(0)
    for _ in range(300):
        draw = sampler.draw(SHARES, rng)
        rate = rng.random()
        sampler.observe(draw, Outcome(rate, 8, True))
    copy.observe(Draw(1, 0, True), HALF)  # what it had learnt before is gone
    copy.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    one, other = Random(5), Random(5)
    assert [sampler.draw(SHARES, one) for _ in range(500)] == [copy.draw(SHARES, other) for _ in range(500)]
    assert copy.metrics(0) == sampler.metrics(0)

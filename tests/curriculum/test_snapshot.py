"""Undoing an unfinished step: exactly, and at a price that does not grow with what was visited or sorted before."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from random import Random

import pytest
from learners import HELDOUT_RATES, group_result, problems_of

from grpo_project.curriculum import Curriculum, CurriculumSettings, UniformSource
from grpo_project.problems.problem import Problem

TRAIN = problems_of(30)
UNLABELLED = [replace(problem, level="unknown") if i % 3 else problem for i, problem in enumerate(TRAIN)]


def train(source, rng: Random, steps: int, first: int = 1) -> None:
    """Some steps; now and then a draw whose results never come, a redraw, or an evaluation."""
    for step in range(first, first + steps):
        problems = source.draw(rng.randint(1, 12))
        if rng.random() < 0.2:
            continue
        rewards = [[float(rng.random() < rate) for _ in range(8)] for rate in (rng.random() for _ in problems)]
        source.observe_rollouts(step, [group_result(*group) for group in zip(problems, rewards, strict=True)])
        if rng.random() < 0.3:
            source.observe_resampling(step, rng.randint(0, 8), 8, 1)
        if rng.random() < 0.3:
            source.observe_evaluation(step, 0.5, 40, HELDOUT_RATES)


def state_of(source) -> str:
    return json.dumps(source.state_dict())


@pytest.mark.parametrize("problems", [TRAIN, UNLABELLED], ids=["levels", "without levels"])
@pytest.mark.parametrize("sampler", ["learnable", "staged", "uniform", "no curriculum"])
def test_what_happened_since_a_snapshot_is_undone(sampler, problems):
    for seed in range(12):
        rng = Random(seed)
        if sampler == "no curriculum":
            source = UniformSource(problems, seed=seed)
        else:
            source = Curriculum(problems, CurriculumSettings(sampler=sampler), seed=seed)
        train(source, rng, steps=rng.randint(0, 20))
        snapshot, before, metrics = source.snapshot(), state_of(source), source.metrics()
        for _ in range(2):  # a snapshot can be gone back to again
            train(source, rng, steps=rng.randint(1, 8), first=100)
            assert state_of(source) != before
            source.restore(snapshot)
            assert state_of(source) == before
            assert source.metrics() == metrics
        copy = type(source)(problems, source.settings) if sampler != "no curriculum" else UniformSource(problems)
        copy.load_state_dict(json.loads(before))
        one, other = Random(seed), Random(seed)
        train(source, one, steps=10, first=30)
        train(copy, other, steps=10, first=30)
        assert state_of(source) == state_of(copy)


def test_only_the_newest_snapshot_can_be_gone_back_to():
    curriculum = Curriculum(TRAIN, seed=0)
    old = curriculum.snapshot()
    train(curriculum, Random(0), steps=3)
    curriculum.snapshot()
    with pytest.raises(ValueError, match="an older snapshot"):
        curriculum.restore(old)


@pytest.mark.parametrize("level", ["foundation", "unknown"])
def test_a_snapshot_is_no_larger_where_more_was_visited_or_sorted(level):
    def allocated(visited: int) -> int:
        """Bytes allocated while a snapshot is taken, at their peak."""
        problems = [Problem(f"p{i}", "add to x", TRAIN[0].tests, level=level) for i in range(visited)]
        curriculum = Curriculum(problems, seed=0)
        for i in range(0, visited, 100):
            curriculum.observe_rollouts(1, [group_result(p, [1.0, 0.0]) for p in problems[i : i + 100]])
        curriculum.take_alarms()
        tracemalloc.start()
        curriculum.snapshot()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few, many = allocated(1_000), allocated(20_000)
    assert many < 1.1 * few

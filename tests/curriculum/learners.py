"""Simulated learners and a training loop over them, for gates and samplers.

A learner has a skill for each level; a completion of a problem is right with a chance that depends on the skill and on
the problem. Training on a group adds to the skill in proportion to the variance of the group's rewards, as GRPO does.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from random import Random

from grpo_project.curriculum import Alarm, Curriculum, Decision, GroupResult
from grpo_project.problems.problem import LEVELS, Problem, StdioTest
from grpo_project.verifier.verdict import Status

GROUP = 8
TESTS = (StdioTest("", ""),)


def problems_of(per_level: int, name: str = "train") -> list[Problem]:
    return [Problem(f"{name}-{level}-{i}", "", TESTS, level=level) for i in range(per_level) for level in LEVELS]


@dataclass
class Learner:
    """``start`` is the skill (log odds) of each level, ``rate`` what a group of the largest variance adds to it."""

    seed: int
    start: tuple[float, ...] = (1.0, 0.3, -0.3, -0.8, -1.3)
    rate: float = 0.05
    best: float = 3.5
    transfer: float = 0.3
    forgets: float = 0.0
    """What every level loses in each step."""
    spread: float = 1.0
    """Standard deviation of the problems' own difficulty, in log odds."""
    skill: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.skill = dict(zip(LEVELS, self.start, strict=True))

    def chance(self, problem: Problem) -> float:
        return 1 / (1 + math.exp(-self.skill[problem.level] - Random(problem.id).gauss(0, self.spread)))

    def attempt(self, problem: Problem, n: int = GROUP) -> list[float]:
        chance = self.chance(problem)
        return [float(self.rng.random() < chance) for _ in range(n)]

    def greedy(self, problem: Problem) -> float:
        """What a greedy answer comes to: the same whenever it is asked for, as long as the learner stays the same.

        A problem is solved from a chance on that is its own, so that their mean is what ``pass_rate`` says.
        """
        return float(self.chance(problem) > Random(f"greedy {problem.id}").random())

    def train(self, groups: list[tuple[Problem, list[float]]]) -> None:
        for problem, rewards in groups:
            mean = sum(rewards) / len(rewards)
            gain = self.rate * 4 * mean * (1 - mean)
            for distance, level in _neighbours(problem.level):
                self.skill[level] = min(self.best, self.skill[level] + gain * self.transfer**distance)
        for level in LEVELS:
            self.skill[level] -= self.forgets

    def pass_rate(self, level: str, problems: list[Problem]) -> float:
        chances = [self.chance(problem) for problem in problems if problem.level == level]
        return sum(chances) / len(chances)


def _neighbours(level: str) -> list[tuple[int, str]]:
    return [(abs(i - LEVELS.index(level)), other) for i, other in enumerate(LEVELS)]


@dataclass
class History:
    decisions: list[Decision] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)

    @property
    def moves(self) -> list[Decision]:
        return [decision for decision in self.decisions if decision.action != "hold"]


def simulate(
    curriculum: Curriculum,
    learner: Learner,
    heldout: list[Problem],
    *,
    first: int = 1,
    steps: int = 150,
    groups: int = 8,
    every: int = 25,
    history: History | None = None,
) -> History:
    """Train from step ``first`` to ``steps``, with an evaluation before the first step and every ``every`` steps."""
    history = history or History()
    if first == 1 and every:
        evaluate(curriculum, learner, heldout, 0, history)
    for step in range(first, steps + 1):
        batch = [(problem, learner.attempt(problem)) for problem in curriculum.draw(groups)]
        history.drawn += [problem.id for problem, _ in batch]
        decision = curriculum.observe_rollouts(step, [group_result(*group) for group in batch])
        if decision:
            history.decisions.append(decision)
        learner.train(batch)
        if every and step % every == 0:
            evaluate(curriculum, learner, heldout, step, history)
        history.alarms += curriculum.take_alarms()
        if curriculum.stop_reason:
            break
    return history


def group_result(problem: Problem, rewards: list[float]) -> GroupResult:
    statuses = [Status.PASSED if reward == 1.0 else Status.FAILED for reward in rewards]
    return GroupResult(problem.id, rewards, statuses, rewards)


def evaluate(curriculum: Curriculum, learner: Learner, heldout: list[Problem], step: int, history: History) -> None:
    by_level = {}
    for level in LEVELS:
        rates = [learner.greedy(problem) for problem in heldout if problem.level == level]
        by_level[level] = (sum(rates) / len(rates), len(rates))
    total = sum(rate * n for rate, n in by_level.values()) / len(heldout)
    history.decisions.append(curriculum.observe_evaluation(step, total, len(heldout), by_level))


def restored(curriculum: Curriculum, fresh: Curriculum) -> Curriculum:
    """``fresh`` with the state of ``curriculum``, as a checkpoint carries it: through JSON."""
    fresh.load_state_dict(json.loads(json.dumps(curriculum.state_dict(), allow_nan=False)))
    return fresh


HELDOUT_RATES = dict(zip(LEVELS, ((0.75, 8), (0.625, 8), (0.5, 8), (0.375, 8), (0.25, 8)), strict=True))
"""An evaluation of 40 problems, by level."""

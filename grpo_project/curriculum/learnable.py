"""The learnable sampler: prefers problems that are solved half of the time, and predicts which ones those are."""

from __future__ import annotations

import math
import re
import zlib
from array import array
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

from grpo_project.curriculum.sampler import Draw, Outcome, pick
from grpo_project.problems.problem import Problem

BUCKETS = 1 << 14
MAX_WORDS = 64
"""Words read of a prompt, from its start."""
RATE = 1.3
"""How far a group moves the log odds of its own problem, for a surprise of 1. High: the model it describes changes."""
_WORD = re.compile(r"[a-z]+|[^\x00-\x7f]")  # scripts without spaces go by character
_KEPT = 1 << 15


class LearnableSampler:
    """Prefers what is solved half of the time: by p(1-p), the variance of its pass rate, among stages and in them.

    A group's mean squared advantage, before it is normalised, is the variance of its rewards; with rewards of 0 and 1
    that is p(1-p), largest for problems that are solved half of the time (LILO, arXiv 2502.12272).

    *Stages*: a stage's share is weighted by the square of its learnability, the running mean of 4 p(1-p) over its
    probes. The square leans clearly towards the most learnable (what was tried: ``docs/curriculum.md``).

    *Problems*: p is a Beta posterior for each problem. Its prior is worth ``prior`` completions and has the mean that a
    ``PassRateModel`` predicts from the problem's words, tags and level: a problem that was never tried is known by
    those like it. It forgets: a visit keeps ``memory`` of the earlier counts, since the model changes. A group whose
    rewards were all alike counts as solved or as hopeless, whichever is nearer: it taught nothing, even if each
    completion passed the same half of the tests.

    A draw is a probe with chance ``probe_share``; otherwise ``candidates`` problems are drawn uniformly from the stage
    and one of them is taken by the cube of its expected 4 p(1-p), with a floor. The cost does not depend on the number
    of problems.
    """

    prior = 4.0
    candidates = 16
    floor = 0.1  # learnability that a problem is given at least, so that none starves between probes
    stage_memory = 0.9  # of a stage's learnability, at each of its probes
    stage_floor = (
        0.5  # learnability that a stage is given at least: a gate needs probes of a stage that is nearly solved
    )
    entropy_memory = 0.99  # of the entropy's averages, at each candidate

    def __init__(
        self,
        pools: Sequence[Sequence[int]],
        problems: Sequence[Problem],
        probe_share: float = 0.3,
        memory: float = 0.75,
    ) -> None:
        self.probe_share = probe_share
        self.memory = memory
        self._pools = pools
        self._model = PassRateModel(problems)
        self._learnability = [1.0] * len(pools)
        self._places: dict[int, int] = {}  # visited problem -> place in the two lists of counts
        self._solved, self._failed = array("d"), array("d")
        self._overwritten: list[tuple[int, float, float]] | None = None  # place and counts before, since a snapshot
        self._mean_weight = [1.0] * len(pools)
        self._information = [0.0] * len(pools)  # mean of x ln x, x a candidate's chance relative to a uniform draw's

    def draw(self, shares: Sequence[float], rng: Random) -> Draw:
        stage = pick(self.stage_weights(shares), rng)
        pool = self._pools[stage]
        if rng.random() < self.probe_share:
            return Draw(rng.choice(pool), stage, True)
        found = [rng.choice(pool) for _ in range(self.candidates)]
        weights = [self._weight(problem) for problem in found]
        for weight in weights:
            self._note_weight(stage, weight)
        return Draw(found[pick(weights, rng)], stage, False)

    def stage_weights(self, shares: Sequence[float]) -> list[float]:
        """The shares, weighted by learnability; they don't add up to 1."""
        return [
            share * max(learnability, self.stage_floor) ** 2
            for share, learnability in zip(shares, self._learnability, strict=True)
        ]

    def pass_rate(self, problem: int) -> float:
        """The estimate for a problem, between 0 and 1."""
        a, b = self._posterior(problem)
        return a / (a + b)

    def observe(self, draw: Draw, outcome: Outcome) -> None:
        p = outcome.pass_rate if outcome.varied else float(outcome.pass_rate >= 0.5)
        self._model.observe(draw.problem, p)
        place = self._places.setdefault(draw.problem, len(self._places))
        if place == len(self._solved):
            self._solved.append(0.0)
            self._failed.append(0.0)
        if self._overwritten is not None:
            self._overwritten.append((place, self._solved[place], self._failed[place]))
        self._solved[place] = self.memory * self._solved[place] + outcome.size * p
        self._failed[place] = self.memory * self._failed[place] + outcome.size * (1.0 - p)
        if draw.probe:
            old = self._learnability[draw.stage]
            self._learnability[draw.stage] = old + (1.0 - self.stage_memory) * (4.0 * p * (1.0 - p) - old)

    def _posterior(self, problem: int) -> tuple[float, float]:
        """(a, b) of the problem's Beta distribution."""
        predicted = self._model.predict(problem)
        a, b = self.prior * predicted, self.prior * (1.0 - predicted)
        place = self._places.get(problem)
        return (a, b) if place is None else (a + self._solved[place], b + self._failed[place])

    def learnability(self, problem: int) -> float:
        """The expectation of 4 p(1-p), 0 to 1: at the mean m of a + b counts, 4 m(1-m) (a+b) / (a+b+1)."""
        a, b = self._posterior(problem)
        return 4.0 * a * b / ((a + b) * (a + b + 1.0))

    def _weight(self, problem: int) -> float:
        return float(max(self.floor, self.learnability(problem)) ** 3)

    def _note_weight(self, stage: int, weight: float) -> None:
        new = 1.0 - self.entropy_memory
        self._mean_weight[stage] += new * (weight - self._mean_weight[stage])
        x = self.probe_share + (1.0 - self.probe_share) * weight / self._mean_weight[stage]
        self._information[stage] += new * (x * math.log(x) - self._information[stage])

    def metrics(self, current: int) -> dict[str, float]:
        """``curriculum/entropy``: of the draws within the stage, as a share of the uniform distribution's."""
        size = len(self._pools[current])
        entropy = 1.0 if size < 2 else max(0.0, min(1.0, 1.0 - self._information[current] / math.log(size)))
        return {"curriculum/entropy": entropy, "curriculum/visited_problems": float(len(self._places))}

    def state_dict(self) -> dict[str, Any]:
        return {
            "visited": list(self._places),
            "solved": self._solved.tolist(),
            "failed": self._failed.tolist(),
            "model": self._model.state_dict(),
            **self._stage_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._places = {problem: place for place, problem in enumerate(state["visited"])}
        self._solved, self._failed = array("d", state["solved"]), array("d", state["failed"])
        self._overwritten = None
        self._model.load_state_dict(state["model"])
        self._load_stage_state(state)

    def snapshot(self) -> tuple[int, array[float], dict[str, Any]]:
        self._overwritten = []
        return len(self._places), self._model.weights[:], self._stage_state()

    def restore(self, snapshot: tuple[int, array[float], dict[str, Any]]) -> None:
        n_visited, weights, stages = snapshot
        for place, solved, failed in reversed(self._overwritten or ()):
            self._solved[place], self._failed[place] = solved, failed
        self._overwritten = []
        del self._solved[n_visited:], self._failed[n_visited:]
        while len(self._places) > n_visited:
            self._places.popitem()  # the newest
        self._model.weights = weights[:]
        self._load_stage_state(stages)

    def _stage_state(self) -> dict[str, Any]:
        return {
            "learnability": list(self._learnability),
            "mean_weight": list(self._mean_weight),
            "information": list(self._information),
        }

    def _load_stage_state(self, state: dict[str, Any]) -> None:
        self._learnability = list(state["learnability"])
        self._mean_weight = list(state["mean_weight"])
        self._information = list(state["information"])


class PassRateModel:
    """Predicts pass rates of ``problems``, by index. Before the first group it says 1/2 for each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._problems = problems
        self.weights = array("d", bytes(8 * BUCKETS))
        self._features: dict[int, tuple[int, ...]] = {}

    def predict(self, problem: int) -> float:
        """The pass rate to be expected, between 0 and 1."""
        features = self._features_of(problem)
        score = sum(map(self.weights.__getitem__, features)) / math.sqrt(len(features))
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, score))))

    def observe(self, problem: int, pass_rate: float) -> None:
        """A group of completions of ``problem`` had this pass rate."""
        features = self._features_of(problem)
        change = RATE * (pass_rate - self.predict(problem)) / math.sqrt(len(features))
        for feature in features:
            self.weights[feature] += change

    def _features_of(self, problem: int) -> tuple[int, ...]:
        if problem not in self._features:
            if len(self._features) >= _KEPT:
                self._features.clear()
            self._features[problem] = features(self._problems[problem])
        return self._features[problem]

    def state_dict(self) -> dict[str, Any]:
        known = [bucket for bucket, weight in enumerate(self.weights) if weight]
        return {"buckets": known, "weights": [self.weights[bucket] for bucket in known]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights = array("d", bytes(8 * BUCKETS))
        for bucket, weight in zip(state["buckets"], state["weights"], strict=True):
            self.weights[bucket] = weight


def features(problem: Problem) -> tuple[int, ...]:
    """The table's places that a problem's features hash to; at least one."""
    words = ["^", *_WORD.findall(problem.prompt.lower())[:MAX_WORDS], "$"]
    names = {*words, *map(" ".join, pairwise(words))}
    names |= {f"tag:{tag}" for tag in problem.tags} | {f"level:{problem.level}"}
    return tuple(sorted({zlib.crc32(name.encode()) % BUCKETS for name in names}))

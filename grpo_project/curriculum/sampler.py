"""Samplers: which problem comes next.

A draw is a *probe* if its problem was drawn uniformly from its stage. Only probes are evidence for a gate: a sampler
that prefers problems which are solved half of the time would make every stage look half solved. The learnable sampler
therefore goes on drawing a share of its problems uniformly, which also keeps every problem alive.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple, Protocol

from grpo_project.curriculum.fenwick import FenwickTree


class Draw(NamedTuple):
    """One drawn problem, by index into the training problems, and the stage that it was drawn for."""

    problem: int
    stage: int
    probe: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a group of completions of one problem came to."""

    pass_rate: float
    """Mean over the group, 0 to 1."""
    size: int
    varied: bool
    """Whether the rewards differed; otherwise GRPO's advantages are all zero and the group teaches nothing."""
    mean_abs_advantage: float
    """Mean of abs(reward - mean) / standard deviation; 0 where the rewards are all alike."""


class Sampler(Protocol):
    """Draws problems. All randomness comes from the ``rng`` that is passed in; all state is in ``state_dict``."""

    def draw(self, shares: Sequence[float], rng: Random) -> Draw:
        """The next problem. ``shares[i]`` is the share of stage i; empty stages have none."""

    def observe(self, draw: Draw, outcome: Outcome) -> None: ...

    def metrics(self, current: int) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def pick(shares: Sequence[float], rng: Random) -> int:
    """An index, drawn by its share. Never one whose share is 0."""
    edges = list(accumulate(shares))
    return min(bisect.bisect_right(edges, rng.random() * edges[-1]), _last_positive(shares))


def _last_positive(shares: Sequence[float]) -> int:
    return max(i for i, share in enumerate(shares) if share > 0.0)


class StagedSampler:
    """A stage by its share, then a problem uniformly from it. Every draw is a probe."""

    def __init__(self, pools: Sequence[Sequence[int]], n_problems: int) -> None:
        self._pools = pools

    def draw(self, shares: Sequence[float], rng: Random) -> Draw:
        stage = pick(shares, rng)
        return Draw(rng.choice(self._pools[stage]), stage, True)

    def observe(self, draw: Draw, outcome: Outcome) -> None:
        """Outcomes change nothing."""

    def metrics(self, current: int) -> dict[str, float]:
        return {"curriculum/entropy": 1.0}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class UniformSampler(StagedSampler):
    """The control: any problem, uniformly, whatever the stage. A draw is a probe of the first stage that holds it."""

    def __init__(self, pools: Sequence[Sequence[int]], n_problems: int) -> None:
        super().__init__(pools, n_problems)
        self._stage_of = array("h", [-1]) * n_problems
        for stage in reversed(range(len(pools))):
            for problem in pools[stage]:
                self._stage_of[problem] = stage

    def draw(self, shares: Sequence[float], rng: Random) -> Draw:
        problem = rng.randrange(len(self._stage_of))
        stage = self._stage_of[problem]
        return Draw(problem, max(stage, 0), stage >= 0)


class LearnableSampler:
    """Prefers what is solved half of the time: by p(1-p), the variance of its pass rate, among stages and in them.

    A group's mean squared advantage, before it is normalised, is the variance of its rewards; with rewards of 0 and 1
    that is p(1-p), largest for problems that are solved half of the time (LILO, arXiv 2502.12272).

    *Stages*: a stage's share is weighted by the square of its learnability, the running mean of 4 p(1-p) over its
    probes. The square leans clearly towards the most learnable (what was tried: ``docs/curriculum.md``).

    *Problems*: p is a Beta posterior for each problem, which forgets: a visit keeps ``memory`` of the earlier counts,
    since the model changes. Its expected p(1-p) is ab / ((a+b)(a+b+1)). A group whose rewards were all alike counts as
    solved or as hopeless, whichever is nearer: it taught nothing, even if each completion passed the same half of the
    tests. The estimates choose as far as there are any: in a stage of which the part v has been visited, a draw goes by
    them with chance ``(1 - probe_share) * v``, and is a probe otherwise.

    A draw costs O(log N), and so does an observation.
    """

    scale = 4000  # weights are whole numbers: p = 1/2 gives 1,000
    prior = 0.5  # Jeffreys': an unvisited problem weighs half of what a perfectly balanced one does
    stage_memory = 0.9  # of a stage's learnability, at each of its probes
    stage_floor = 0.1  # learnability that a stage is given at least, so that it goes on being probed

    def __init__(
        self, pools: Sequence[Sequence[int]], n_problems: int, probe_share: float = 0.5, memory: float = 0.75
    ) -> None:
        self.probe_share = probe_share
        self.memory = memory
        self._pools = pools
        self._learnability = [1.0] * len(pools)
        self._counts: dict[int, tuple[float, float]] = {}  # problem -> (a, b) of its Beta, of visited problems
        self._positions = []  # for each pool: problem -> position in it, or -1
        for pool in pools:
            positions = array("l", [-1]) * n_problems
            for position, problem in enumerate(pool):
                positions[problem] = position
            self._positions.append(positions)
        self._reset_weights()

    def draw(self, shares: Sequence[float], rng: Random) -> Draw:
        stage = pick(self.stage_weights(shares), rng)
        pool, tree = self._pools[stage], self._trees[stage]
        if rng.random() < self._probe_chance(stage):
            return Draw(rng.choice(pool), stage, True)
        return Draw(pool[tree.find(rng.randrange(tree.total))], stage, False)

    def stage_weights(self, shares: Sequence[float]) -> list[float]:
        """The shares, weighted by learnability; they don't add up to 1."""
        return [
            share * max(learnability, self.stage_floor) ** 2
            for share, learnability in zip(shares, self._learnability, strict=True)
        ]

    def _probe_chance(self, stage: int) -> float:
        return 1.0 - (1.0 - self.probe_share) * self._visited[stage] / len(self._pools[stage])

    def observe(self, draw: Draw, outcome: Outcome) -> None:
        p = outcome.pass_rate if outcome.varied else float(outcome.pass_rate >= 0.5)
        a, b = self._counts.get(draw.problem, (self.prior, self.prior))
        a = self.prior + self.memory * (a - self.prior) + outcome.size * p
        b = self.prior + self.memory * (b - self.prior) + outcome.size * (1.0 - p)
        self._set_counts(draw.problem, a, b)
        if draw.probe:
            old = self._learnability[draw.stage]
            self._learnability[draw.stage] = old + (1.0 - self.stage_memory) * (4.0 * p * (1.0 - p) - old)

    def _set_counts(self, problem: int, a: float, b: float) -> None:
        is_first_visit = problem not in self._counts
        self._counts[problem] = (a, b)
        weight = self._weight(a, b)
        for stage, positions in enumerate(self._positions):
            if positions[problem] >= 0:
                tree, histogram = self._trees[stage], self._histograms[stage]
                histogram[tree[positions[problem]]] -= 1
                histogram[weight] += 1
                tree.set(positions[problem], weight)
                self._visited[stage] += is_first_visit

    def _weight(self, a: float, b: float) -> int:
        return max(1, round(self.scale * a * b / ((a + b) * (a + b + 1.0))))

    def _reset_weights(self) -> None:
        unvisited = self._weight(self.prior, self.prior)
        self._visited = [0] * len(self._pools)
        self._trees = [FenwickTree([unvisited] * len(pool)) for pool in self._pools]
        self._histograms = [array("q", [0]) * (self.scale // 4 + 1) for _ in self._pools]  # weight -> problems
        for pool, histogram in zip(self._pools, self._histograms, strict=True):
            histogram[unvisited] = len(pool)

    def metrics(self, current: int) -> dict[str, float]:
        """``curriculum/entropy``: of the draws within the stage, as a share of the uniform distribution's."""
        return {"curriculum/entropy": self._entropy(current), "curriculum/visited_problems": float(len(self._counts))}

    def _entropy(self, stage: int) -> float:
        size, total = len(self._pools[stage]), self._trees[stage].total
        if size < 2:
            return 1.0
        entropy, probe = 0.0, self._probe_chance(stage)
        for weight, count in enumerate(self._histograms[stage]):
            if count:
                q = probe / size + (1.0 - probe) * weight / total
                entropy -= count * q * math.log(q)
        return entropy / math.log(size)

    def state_dict(self) -> dict[str, Any]:
        return {
            "learnability": list(self._learnability),
            "counts": [[problem, a, b] for problem, (a, b) in self._counts.items()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._learnability = list(state["learnability"])
        self._counts.clear()
        self._reset_weights()
        for problem, a, b in state["counts"]:
            self._set_counts(problem, a, b)

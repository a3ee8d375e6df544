"""Samplers: which problem comes next.

A draw is a *probe* if its problem was drawn uniformly from its stage. Only probes are evidence for a gate: a sampler
that prefers problems which are solved half of the time would make every stage look half solved. The learnable sampler
therefore goes on drawing a share of its problems uniformly, which also keeps every problem alive.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple, Protocol

from grpo_project.problems.problem import Problem

ALL = -1
"""In a draw, in a stage's place: from all problems, for no stage in particular."""


class Draw(NamedTuple):
    """One drawn problem, by index into the training problems, and the stage that it was drawn for (or ``ALL``)."""

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


class Sampler(Protocol):
    """Draws problems from pools that grow as problems are sorted into stages.

    All randomness comes from the ``rng`` that is passed in; all state is in ``state_dict``.
    """

    def draw(self, shares: Sequence[float], rng: Random) -> Draw:
        """The next problem. ``shares[i]`` is the share of stage i; empty stages have none."""

    def observe(self, draw: Draw, outcome: Outcome) -> None:
        """What became of a draw; also of draws by others, which are no probes."""

    def metrics(self, current: int) -> dict[str, float]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def snapshot(self) -> Any:
        """A point that ``restore`` can go back to, until the next one is taken. Its cost has a bound."""

    def restore(self, snapshot: Any) -> None: ...


def pick(shares: Sequence[float], rng: Random) -> int:
    """An index, drawn by its share. Never one whose share is 0."""
    edges = list(accumulate(shares))
    return min(bisect.bisect_right(edges, rng.random() * edges[-1]), _last_positive(shares))


def _last_positive(shares: Sequence[float]) -> int:
    return max(i for i, share in enumerate(shares) if share > 0.0)


class StagedSampler:
    """A stage by its share, then a problem uniformly from it. Every draw is a probe."""

    def __init__(self, pools: Sequence[Sequence[int]], problems: Sequence[Problem]) -> None:
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

    def snapshot(self) -> None:
        """There is no state."""

    def restore(self, snapshot: None) -> None:
        pass


class UniformSampler(StagedSampler):
    """The control: any problem, uniformly, whatever the stage. A draw is a probe of each stage that has the problem."""

    def __init__(self, pools: Sequence[Sequence[int]], problems: Sequence[Problem]) -> None:
        super().__init__(pools, problems)
        self._n_problems = len(problems)

    def draw(self, shares: Sequence[float], rng: Random) -> Draw:
        return Draw(rng.randrange(self._n_problems), ALL, True)

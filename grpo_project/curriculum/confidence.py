"""Confidence bounds on a pass rate that stay valid however often one looks: betting on its mean.

To doubt that the mean of values in [0, 1] is at most m, bet on each next value. The capital after values x_1, x_2, ...
is the product of 1 + l (x_i - m) for a stake l between 0 and 1/m. If the mean really is at most m, capital doesn't grow
on average, so it ever reaches 1/alpha with probability alpha at most (Ville's inequality), at whatever moment one stops
and looks. Where it does, m is refuted. All stakes of a grid are played and averaged, so that low variance pays off
without being known beforehand. (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
JRSS B 2024; arXiv 2010.09686.)

A learner improves, and what it could not do a hundred steps ago must not hold it back. So a new bet also starts at
every evaluation; the j-th gets alpha * w_j, and the w_j add up to 1, so that all of them together err with alpha.

Held-out problems are fixed and answered greedily, so their outcomes repeat from one evaluation to the next: the second
look at them says nothing new. So a bet counts each of them once, as it was answered at the evaluation where it starts.
Over the choice of the held-out problems that is one more independent value for each, and the bets of later evaluations,
which count the same problems again, share alpha as said. (Taking every evaluation's outcomes for new ones left 14 of 60
stages that were to be left in 3 at most.) Outcomes that are known by their mean r over n problems count as r n ones and
(1 - r) n zeros. By concavity of the logarithm that never overstates the capital.

This covers one-sided bounds for values whose mean may drift below m. It doesn't cover values drawn with a bias: what is
fed in must be uniform draws, and held-out problems chosen by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97])
"""As shares of the largest stake allowed, 1/m."""
START_BALANCE = 4
"""w_j = 4 / ((j + 3)(j + 4)): sums to 1 over j = 1, 2, ... and falls slowly at first."""
BISECTIONS = 20  # bounds to about 1e-6


@dataclass(frozen=True, slots=True)
class Bounds:
    """One-sided bounds, each wrong with chance alpha at most over the whole run, from the start that says most."""

    mean: float
    lower: float
    upper: float
    count: float
    """Values since that start, held-out problems included."""


def start_weight(ordinal: int) -> float:
    """The share of alpha that the bet with this ordinal (1, 2, ...) may spend."""
    return START_BALANCE / ((ordinal + START_BALANCE - 1) * (ordinal + START_BALANCE))


@dataclass(frozen=True, slots=True)
class Bet:
    """Where a bet starts: with the outcomes of held-out problems, then with the value at ``position``."""

    position: int
    ordinal: int
    """1, 2, ... in the order of their starts: what share of alpha it may spend."""
    solved: float = 0.0
    """Held-out problems, by weight."""
    failed: float = 0.0

    def against(self) -> Bet:
        """The same for 1 - x in the place of each x."""
        return Bet(self.position, self.ordinal, self.failed, self.solved)


def confidence_bounds(values: NDArray[np.float64], bets: Sequence[Bet], alpha: float) -> Bounds | None:
    """Bounds on the present mean of ``values``, shape ``(N,)``, in the order they came; None without any."""
    bets = _with_data(bets, len(values))
    if not bets:
        return None
    required = _required(bets, alpha)
    lower = _largest_refuted(lambda mean: float((_log_capital(values, bets, mean) - required).max()))
    best = int((_log_capital(values, bets, max(lower, 1e-6)) - required).argmax())
    opposite = [bets[best].against()]
    upper = 1.0 - _largest_refuted(lambda mean: float(_log_capital(1.0 - values, opposite, mean)[0] - required[best]))
    bet, since = bets[best], values[bets[best].position :]
    count = len(since) + bet.solved + bet.failed
    return Bounds((float(since.sum()) + bet.solved) / count, lower, upper, count)


def refutes(values: NDArray[np.float64], bets: Sequence[Bet], alpha: float, mean: float) -> bool:
    """Whether a bet refutes, at error ``alpha`` for all of them together, that the mean is at most ``mean``."""
    bets = _with_data(bets, len(values))
    if not bets or mean >= 1.0:
        return False
    return mean <= 0.0 or bool((_log_capital(values, bets, mean) >= _required(bets, alpha)).any())


def so_few_by_chance(solved: float, failed: float, rate: float) -> float:
    """The chance of at most ``solved`` (rounded up) of the problems if each is solved with chance ``rate``: exact."""
    n = round(solved + failed)
    most = min(n, math.ceil(solved - 1e-9))
    if most == n or not 0.0 < rate < 1.0:
        return float(most == n or rate <= 0.0)
    ways = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(most + 1))
    return sum(math.exp(way + k * math.log(rate) + (n - k) * math.log1p(-rate)) for k, way in enumerate(ways))


def _with_data(bets: Sequence[Bet], n_values: int) -> list[Bet]:
    return [bet for bet in bets if bet.position < n_values or bet.solved + bet.failed > 0.0]


def _required(bets: Sequence[Bet], alpha: float) -> NDArray[np.float64]:
    """The log capital with which each bet has won, shape ``(bets,)``."""
    return np.array([-math.log(alpha * start_weight(bet.ordinal)) for bet in bets])


def _log_capital(values: NDArray[np.float64], bets: Sequence[Bet], mean: float) -> NDArray[np.float64]:
    """Log capital of each bet against "at most ``mean``", shape ``(bets,)``."""
    growth = np.log(1.0 - STAKES + STAKES * (values[:, None] / mean))  # (N, stakes)
    since = np.zeros((len(values) + 1, len(STAKES)))
    since[:-1] = np.cumsum(growth[::-1], axis=0)[::-1]
    solved, failed = (np.array([[getattr(bet, name)] for bet in bets]) for name in ("solved", "failed"))
    capital = since[[bet.position for bet in bets]]
    capital = capital + solved * np.log(1.0 - STAKES + STAKES / mean) + failed * np.log(1.0 - STAKES)
    peak = capital.max(axis=1, keepdims=True)
    return (peak[:, 0] + np.log(np.exp(capital - peak).mean(axis=1))).astype(np.float64)


def _largest_refuted(margin: Callable[[float], float]) -> float:
    """The largest mean whose margin is not negative; the margin falls as the mean grows."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if margin(middle) >= 0 else (low, middle)
    return low

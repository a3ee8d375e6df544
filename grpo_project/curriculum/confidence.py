"""Confidence bounds on a pass rate that stay valid however often one looks: betting on its mean.

To doubt that the mean of values in [0, 1] is at most m, bet on each next value. The capital after values x_1, x_2, ...
is the product of 1 + l (x_i - m) for a stake l between 0 and 1/m. If the mean really is at most m, capital doesn't grow
on average, so it ever reaches 1/alpha with probability alpha at most (Ville's inequality), at whatever moment one stops
and looks. Where it does, m is refuted. All stakes of a grid are played and averaged, so that low variance pays off
without being known beforehand. (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
JRSS B 2024; arXiv 2010.09686.)

A learner improves, and what it could not do a hundred steps ago must not hold it back. So a new bet also starts at
every evaluation; the j-th gets alpha * w_j, and the w_j add up to 1, so that all of them together err with alpha.

A value may carry a weight. Only values 0 and 1 may carry another than 1: n results known by their mean r alone count as
r n ones and (1 - r) n zeros. By concavity of the logarithm that never overstates the capital.

This covers one-sided bounds for values whose mean may drift below m. It doesn't cover values drawn with a bias: what is
fed in must be uniform draws, or the held-out set itself.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Values since that start, by weight."""
    start: int
    """Position of the first value that counts."""


def start_weight(ordinal: int) -> float:
    """The share of alpha that the bet with this ordinal (1, 2, ...) may spend."""
    return START_BALANCE / ((ordinal + START_BALANCE - 1) * (ordinal + START_BALANCE))


def confidence_bounds(
    values: NDArray[np.float64], weights: NDArray[np.float64], starts: list[tuple[int, int]], alpha: float
) -> Bounds | None:
    """Bounds on the present mean of ``values``, shape ``(N,)``, in the order they came; None without any.

    ``starts`` holds ``(position, ordinal)`` of each bet's first value.
    """
    starts = [(position, ordinal) for position, ordinal in starts if position < len(values)]
    if not starts:
        return None
    positions = np.array([position for position, _ in starts])
    required = np.array([-np.log(alpha * start_weight(ordinal)) for _, ordinal in starts])

    def margins(mean: float, data: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much each start's log capital exceeds what refutes ``mean``."""
        return _log_capital(data, weights, mean)[positions] - required

    lower = _largest_refuted(lambda mean: float(margins(mean, values).max()))
    best = int(margins(max(lower, 1e-6), values).argmax())
    upper = 1.0 - _largest_refuted(lambda mean: float(margins(mean, 1.0 - values)[best]))
    start = int(positions[best])
    count = float(weights[start:].sum())
    return Bounds(float(values[start:] @ weights[start:]) / count, lower, upper, count, start)


def refuting_start(
    values: NDArray[np.float64], weights: NDArray[np.float64], starts: list[tuple[int, int]], alpha: float, mean: float
) -> int | None:
    """The position of the latest start whose bet refutes, at error ``alpha``, that the mean is at most ``mean``."""
    starts = [(position, ordinal) for position, ordinal in starts if position < len(values)]
    if not starts or mean >= 1.0:
        return None
    if mean <= 0.0:
        return starts[-1][0]
    capital = _log_capital(values, weights, mean)
    won = (p for p, ordinal in reversed(starts) if capital[p] >= -np.log(alpha * start_weight(ordinal)))
    return next(won, None)


def _log_capital(values: NDArray[np.float64], weights: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Log capital of a bet against "at most ``mean``" for each first value, shape ``(N,)``."""
    growth = weights[:, None] * np.log(1.0 - STAKES + STAKES * (values[:, None] / mean))  # (N, stakes)
    capital = np.cumsum(growth[::-1], axis=0)[::-1]
    peak = capital.max(axis=1, keepdims=True)
    return (peak[:, 0] + np.log(np.exp(capital - peak).mean(axis=1))).astype(np.float64)


def _largest_refuted(margin: Callable[[float], float]) -> float:
    """The largest mean whose margin is not negative; the margin falls as the mean grows."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if margin(middle) >= 0 else (low, middle)
    return low

"""When a stage counts as stalled."""

import pytest

from grpo_project.curriculum.progress import Stall


def stalls(rates, patience=4):
    """The number of the evaluation (from 1) at which it is noticed; None if never."""
    stall = Stall(patience=patience)
    return next((i for i, rate in enumerate(rates, start=1) if stall.observe(rate, 0.7)), None)


@pytest.mark.parametrize(
    ("rates", "noticed"),
    [
        ([0.5] * 10, 4),
        ([0.5, 0.5, 0.5], None),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], None),
        ([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4], 7),
        ([0.6, 0.5, 0.4, 0.3], 4),
        ([0.05 * i for i in range(20)], 12),  # progress all the time: told nevertheless after three times as many
        ([None] * 4, 4),  # nothing is measured at all
        ([None, 0.3, 0.6, None], None),
        ([0.3, 0.4, None, None], 4),
    ],
)
def test_no_progress_over_the_patience_or_none_to_be_seen(rates, noticed):
    assert stalls(rates) == noticed


def test_patience_begins_anew_after_a_reset():
    stall = Stall(patience=2)
    assert [stall.observe(0.5, 0.7) for _ in range(2)] == [False, True]
    stall.reset()
    assert [stall.observe(0.5, 0.7) for _ in range(2)] == [False, True]
    assert stall.cause("expert") == "Stage expert has made no progress towards 0.70 over 2 evaluations."

"""Another number of processes: the global batch is kept, and each optimizer step has the rows that it had before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_project.errors import CheckpointError, ConfigError
from grpo_project.training.elastic import Layout, fitted, redistributed


def batch(rows: list[int], width: int) -> dict[str, Any]:
    """Rows that are told apart by their number, padded to ``width``."""
    ids = torch.tensor([[row] + [7] * (width - 1) for row in rows])
    return {
        "prompt_ids": torch.tensor([[0, row] for row in rows]),
        "prompt_mask": torch.tensor([[0, 1] for _ in rows]),
        "completion_ids": ids,
        "completion_mask": torch.ones_like(ids),
        "advantages": torch.tensor(rows, dtype=torch.float32),
        "num_items_in_batch": torch.tensor(99),
    }


def states(layout: Layout, step: int, buffered: bool) -> list[dict[str, Any]]:
    """Those of all ranks, whose buffers hold the rows 0, 1, 2 ... in the order of slots and ranks."""
    found = []
    for rank in range(layout.world):
        slots = []
        for slot in range(layout.steps_per_generation):
            first = (slot * layout.world + rank) * layout.per_device
            slots.append(batch(list(range(first, first + layout.per_device)), width=2 + rank))
        found.append(
            {
                "step": step,
                "layout": {
                    "world": layout.world,
                    "per_device": layout.per_device,
                    "accumulation": layout.accumulation,
                    "steps_per_generation": layout.steps_per_generation,
                },
                "buffered_inputs": slots if buffered else None,
                "loss": torch.tensor(float(rank)),
            }
        )
    return found


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([1, 2, 3, 4, 6]),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 2, 3, 4, 5, 6, 8, 12]),
)
def test_each_optimizer_step_keeps_its_rows(
    world: int, per_device: int, accumulation: int, steps: int, others: int
) -> None:
    before = Layout(world, per_device, accumulation, accumulation * steps)
    try:
        now = fitted(before, others, 8)
    except ConfigError:
        assert before.optimizer_batch % others or before.generation_batch % others
        return
    assert (now.optimizer_batch, now.generation_batch) == (before.optimizer_batch, before.generation_batch)
    done = 1 % steps  # optimizer steps into the buffer
    saved = states(before, step=done * accumulation, buffered=done > 0)
    ranks = [redistributed(saved, now, rank, pad_token_id=0) for rank in range(others)]
    assert {state["step"] for state in ranks} == {done * now.accumulation}
    if not done:
        assert all(state["buffered_inputs"] is None for state in ranks)
        return
    for step in range(steps):
        slots = range(step * now.accumulation, (step + 1) * now.accumulation)
        rows = [r for slot in slots for state in ranks for r in state["buffered_inputs"][slot]["advantages"].tolist()]
        size = before.optimizer_batch
        assert sorted(rows) == list(range(step * size, (step + 1) * size))
    for state in ranks:
        for slot in state["buffered_inputs"]:
            for row, ids, mask in zip(slot["advantages"], slot["completion_ids"], slot["completion_mask"], strict=True):
                assert ids[0] == row and (ids[1:] == 7 * mask[1:]).all() and mask[0] == 1
            assert slot["num_items_in_batch"] == 99


def test_numbers_that_do_not_divide_are_named() -> None:
    with pytest.raises(
        ConfigError, match=r"24 completions a step .* which 5 processes can't .*; 1, 2, 3, 4, 6, 8, 12, 24"
    ):
        fitted(Layout(2, 4, 3, 3), 5, 8)


def test_the_size_on_a_device_never_grows_beyond_what_was_asked() -> None:
    assert fitted(Layout(4, 4, 1, 2), 1, 4) == Layout(1, 4, 4, 8)
    assert fitted(Layout(1, 8, 2, 2), 4, 8) == Layout(4, 4, 1, 1)


def test_a_place_between_boundaries_is_refused() -> None:
    saved = states(Layout(2, 2, 1, 4), step=1, buffered=True)
    with pytest.raises(CheckpointError, match="go on with 2 processes"):
        redistributed(saved, Layout(1, 8, 1, 2), 0, pad_token_id=0)
    for state in saved:
        del state["layout"]
    with pytest.raises(CheckpointError, match=r"of version 0\.1"):
        redistributed(saved, Layout(1, 4, 1, 4), 0, pad_token_id=0)

"""Going on with another number of processes: what counts is the global batch.

A run records how many completions a generation and an optimizer step take over all ranks (G and N). Started again on
another number of ranks, it keeps both: the size on each device and the accumulation are fitted to the ranks at hand.
Draws of problems, optimizer, scheduler, curriculum and journal go on as they were, and each completion has the random
numbers that it would have had. What differs is rounding, and dropout, which draws from each rank's own state.

Letters: W ranks, P completions on each device at once, A micro-batches of an optimizer step, S of a generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grpo_project.errors import CheckpointError, ConfigError
from grpo_project.generation.generation_batch import concatenate


@dataclass(frozen=True, slots=True)
class Layout:
    """How a global batch is spread: S and A micro-batches of P completions on each of W ranks."""

    world: int
    per_device: int
    accumulation: int
    steps_per_generation: int

    @classmethod
    def of(cls, args: Any) -> Layout:
        """That of a ``GRPOConfig``."""
        return cls(
            args.world_size,
            args.per_device_train_batch_size,
            args.gradient_accumulation_steps,
            args.steps_per_generation,
        )

    @property
    def micro_batch(self) -> int:
        """Completions of all ranks in one micro-batch."""
        return self.world * self.per_device

    @property
    def optimizer_batch(self) -> int:
        """N."""
        return self.micro_batch * self.accumulation

    @property
    def generation_batch(self) -> int:
        """G."""
        return self.micro_batch * self.steps_per_generation


def fitted(recorded: Layout, world: int, most_per_device: int) -> Layout:
    """The recorded G and N on ``world`` ranks, with as many completions on each device as go, at most so many.

    Raises:
        ConfigError: they can't be shared out evenly; the message names numbers of ranks that can.
    """
    for per_device in range(most_per_device, 0, -1):
        micro = world * per_device
        if recorded.optimizer_batch % micro == 0 and recorded.generation_batch % micro == 0:
            return Layout(world, per_device, recorded.optimizer_batch // micro, recorded.generation_batch // micro)
    possible = [n for n in range(1, 65) if recorded.optimizer_batch % n == 0 and recorded.generation_batch % n == 0]
    raise ConfigError(
        f"this run trains on {recorded.optimizer_batch} completions a step ({recorded.generation_batch} a generation), "
        f"which {world} processes can't share evenly; {', '.join(map(str, possible))} can"
    )


def recorded_layout(config: Mapping[str, Any], world: int) -> Layout:
    """That of an earlier start, from its flags as ``run.json`` has them."""
    grpo = config["grpo"]
    return Layout(
        world,
        grpo["per_device_train_batch_size"],
        grpo["gradient_accumulation_steps"],
        grpo["steps_per_generation"],
    )


def apply(layout: Layout, args: Any) -> None:
    """Make a ``GRPOConfig`` that of ``layout``."""
    args.per_device_train_batch_size = layout.per_device
    args.gradient_accumulation_steps = layout.accumulation
    args.steps_per_generation = layout.steps_per_generation
    args.generation_batch_size = layout.generation_batch


def redistributed(states: Sequence[Mapping[str, Any]], layout: Layout, rank: int, pad_token_id: int) -> dict[str, Any]:
    """The exact state of ``rank`` in ``layout``, from those of all ranks of another one (``ExactState.exact_state``).

    Raises:
        CheckpointError: the checkpoint is of a version that did not record its layout, or lies where the new layout
            has no boundary between micro-batches.
    """
    if any("layout" not in state for state in states):
        raise CheckpointError("this checkpoint can only go on with as many processes as made it: it is of version 0.1")
    before = Layout(**states[0]["layout"])
    rows = states[0]["step"] * before.micro_batch
    buffers = [state["buffered_inputs"] for state in states]
    aligned = before.steps_per_generation % before.accumulation == 0
    if rows % layout.micro_batch or (buffers[0] is not None and not aligned):
        raise CheckpointError(
            f"this checkpoint lies amid a generation that {layout.world} processes can't share evenly; go on with "
            f"{before.world} processes until the next checkpoint"
        )
    state = dict(states[0])
    state["step"] = rows // layout.micro_batch
    state["loss"] = sum(one["loss"] for one in states) / len(states)
    if buffers[0] is not None:
        state["buffered_inputs"] = _shared_out(buffers, before, layout, rank, pad_token_id)
    return state


def _shared_out(
    buffers: Sequence[Sequence[dict[str, Any]]], before: Layout, now: Layout, rank: int, pad_token_id: int
) -> list[dict[str, Any]]:
    """``rank``'s micro-batches: each optimizer step keeps its rows, which other ranks may compute now."""
    mine = []
    for first in range(0, before.steps_per_generation, before.accumulation):
        slots = range(first, first + before.accumulation)
        rows = concatenate([buffer[slot] for slot in slots for buffer in buffers], pad_token_id)
        for slot in range(now.accumulation):
            start = (slot * now.world + rank) * now.per_device
            mine.append(
                {
                    name: value[start : start + now.per_device] if getattr(value, "ndim", 0) else value
                    for name, value in rows.items()
                }
            )
    return mine

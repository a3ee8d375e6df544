"""One evaluation of a model in training: each process takes its share and all get the whole result.

It is made again where that can help: once after a fault of ours, and in smaller batches to fit the memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, gather_object
from accelerate.utils.memory import clear_device_cache

from grpo_project.errors import InfrastructureError
from grpo_project.evaluation.evaluator import Batches, EvaluationAbandoned, EvaluationOutOfMemory, Evaluator, in_order
from grpo_project.evaluation.result import EvaluationResult
from grpo_project.generation.generator import generation_mode

Report = Callable[..., None]
"""Told as ``(event, message, **fields)`` why the evaluation is made again."""


def measure_persistently(
    evaluator: Evaluator, measure: Callable[[], EvaluationResult], report: Report
) -> EvaluationResult:
    """``measure()``, with the same weights and at once, until it succeeds or there is no point in going on.

    All of the evaluation is made again, so that what it finds does not depend on where it failed. ``measure`` raises
    the same on every rank, so all of them decide alike.

    Raises:
        EvaluationOutOfMemory: a single completion is too much.
        InfrastructureError: it failed twice.
    """
    failed = False
    while True:
        try:
            return measure()
        except EvaluationOutOfMemory as error:
            if not evaluator.halve_batch(PartialState().num_processes):
                raise
            message = f"{error}; going on with batches of {evaluator.batch_size}, here and in later evaluations"
            report("evaluation_batch_halved", message, batch_size=evaluator.batch_size, reason=str(error))
        except InfrastructureError as error:
            if failed:
                raise
            failed = True
            report("evaluation_repeated", f"evaluating again, since the evaluation failed: {error}", reason=str(error))


@dataclass(slots=True)
class Share:
    """What one rank found, or why it found nothing."""

    batches: Batches = field(default_factory=Batches)
    out_of_memory: str = ""
    failure: str = ""
    abandoned: bool = False


def evaluate_on_all_ranks(
    evaluator: Evaluator,
    model: Any,
    step: int,
    ks: Sequence[int],
    *,
    accelerator: Accelerator | None = None,
    gradient_checkpointing_kwargs: dict[str, Any] | None = None,
) -> EvaluationResult:
    """Evaluate ``model`` and return the same result on every rank; without process groups this is the only one.

    ``accelerator`` is needed where weights are sharded (``is_sharded``).

    Raises:
        EvaluationOutOfMemory: on every rank, if a batch was too large on any; where the weights are sharded, on that
            rank alone, which ends the training: the others wait in the midst of a forward pass that it can't join.
        InfrastructureError: on every rank, if any rank's judge failed.
        EvaluationAbandoned: on every rank, if any rank was to stop.
    """
    started = time.perf_counter()
    ranks = PartialState()
    in_lockstep = ranks.num_processes > 1 and is_sharded()
    share = Share()
    try:
        with generation_mode(model, accelerator, gradient_checkpointing_kwargs) as ready:
            share.batches = evaluator.run(
                ready, step, rank=ranks.process_index, world=ranks.num_processes, in_lockstep=in_lockstep
            )
    except EvaluationOutOfMemory as error:
        if in_lockstep:
            raise
        share.out_of_memory = str(error)
    except InfrastructureError as error:  # the other ranks wait for this one in `gather_object`
        share.failure = f"{type(error).__name__}: {error}"
    except EvaluationAbandoned:
        share.abandoned = True
    if share.out_of_memory:
        clear_device_cache(garbage_collection=True)
    shares: list[Share] = gather_object([share])
    if any(one.abandoned for one in shares):
        raise EvaluationAbandoned
    for one in shares:
        if one.failure:
            raise InfrastructureError(one.failure)
    for one in shares:
        if one.out_of_memory:
            raise EvaluationOutOfMemory(one.out_of_memory)
    records = [record for one in shares for record in one.batches.records]
    return EvaluationResult(
        step=step,
        records=tuple(in_order(records, evaluator.problems)),
        generation_s=max(one.batches.generation_s for one in shares),
        verification_s=max(one.batches.verification_s for one in shares),
        seconds=time.perf_counter() - started,
        ks=tuple(ks),
    )


def is_sharded() -> bool:
    """The weights of the model in training are spread over processes (FSDP, DeepSpeed)."""
    # Asking accelerate's state directly would create it; a Trainer has done so by the time that training begins.
    kind = AcceleratorState._shared_state.get("distributed_type")
    return kind in (DistributedType.FSDP, DistributedType.DEEPSPEED)

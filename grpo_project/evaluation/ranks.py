"""One evaluation on all processes of a training: each takes its share, everybody gets the whole."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, gather_object

from grpo_project.errors import InfrastructureError
from grpo_project.evaluation.evaluator import Batches, Evaluator, in_order
from grpo_project.evaluation.generation import generation_mode
from grpo_project.evaluation.result import EvaluationResult


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
        InfrastructureError: on every rank, if any rank's judge failed.
    """
    started = time.perf_counter()
    ranks = PartialState()
    failure, share = "", Batches()
    with generation_mode(model, accelerator, gradient_checkpointing_kwargs) as ready:
        try:
            share = evaluator.run(
                ready,
                step,
                rank=ranks.process_index,
                world=ranks.num_processes,
                in_lockstep=ranks.num_processes > 1 and is_sharded(),
            )
        except InfrastructureError as error:  # the other ranks wait for this one in `gather_object`
            failure = f"{type(error).__name__}: {error}"
    shares: list[tuple[str, Batches]] = gather_object([(failure, share)])
    failures = [failure for failure, _ in shares if failure]
    if failures:
        raise InfrastructureError(failures[0])
    records = [record for _, one in shares for record in one.records]
    return EvaluationResult(
        step=step,
        records=tuple(in_order(records, evaluator.problems)),
        generation_s=max(one.generation_s for _, one in shares),
        verification_s=max(one.verification_s for _, one in shares),
        seconds=time.perf_counter() - started,
        ks=tuple(ks),
    )


def is_sharded() -> bool:
    """The weights of the model in training are spread over processes (FSDP, DeepSpeed)."""
    # Asking accelerate's state directly would create it; a Trainer has done so by the time that training begins.
    kind = AcceleratorState._shared_state.get("distributed_type")
    return kind in (DistributedType.FSDP, DistributedType.DEEPSPEED)

"""Makes an evaluation again where that can help: once after a fault of ours, in smaller batches to fit the memory."""

from __future__ import annotations

from collections.abc import Callable

from accelerate import PartialState

from grpo_project.errors import InfrastructureError
from grpo_project.evaluation.evaluator import EvaluationOutOfMemory, Evaluator
from grpo_project.evaluation.result import EvaluationResult

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

"""Our metrics as transformers' choice of the best model sees them (``metric_for_best_model`` and early stopping)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy


def wanted_metric(args: TrainingArguments) -> str | None:
    """``metric_for_best_model`` as transformers looks it up: with ``eval_`` in front."""
    name = args.metric_for_best_model
    return name if name is None or name.startswith("eval_") else f"eval_{name}"


def as_trainer_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers under names that ``metric_for_best_model`` can say: ``eval/a/b`` becomes ``eval_a_b``."""
    return {name.replace("/", "_"): value for name, value in metrics.items() if not isinstance(value, str)}


def follow_best(
    args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Mapping[str, Any]
) -> None:
    """Keep ``state.best_metric`` where the trainer itself never evaluates (``eval_strategy="no"``).

    Mirrors ``Trainer._determine_best_metric``. Step 0 does not count: there is no checkpoint of it.
    """
    wanted = wanted_metric(args)
    if args.eval_strategy != IntervalStrategy.NO or wanted is None or state.global_step == 0:
        return
    value = as_trainer_metrics(metrics).get(wanted)
    if value is None:
        return
    best = state.best_metric
    if best is None or (value > best if args.greater_is_better else value < best):
        state.best_metric = value
        if args.save_strategy != SaveStrategy.NO:
            state.best_global_step = state.global_step
        if args.save_strategy == SaveStrategy.BEST:
            control.should_save = True

"""A generation batch as TRL hands it on: rows of padded prompts and completions with their advantages.

A dictionary of tensors with B rows: ``prompt_ids`` and ``prompt_mask`` (B, P), padded on the left; ``completion_ids``,
``completion_mask`` and log-probabilities (B, C), padded on the right; ``advantages`` (B,); and ``num_items_in_batch``,
the number of completion tokens of the whole batch on all ranks, of no dimension.

A row whose advantage is 0 has no part in the gradient of the policy: it can be left out of the loss, or replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from grpo_project.generation.uniforms import uniforms

Batch = dict[str, Any]
PADDED_ON_THE_LEFT = ("prompt_ids", "prompt_mask")
SAMPLED_ENTROPY = "sampled_entropy"
"""A column of ours, (B,): the sum of the entropies of a completion's tokens when they were sampled."""


def take(batch: Batch, rows: torch.Tensor) -> Batch:
    """The batch with ``rows`` (indices) alone, without the columns that are padding in all of them."""
    chosen = {
        name: value[rows] if isinstance(value, torch.Tensor) and value.dim() > 0 else value
        for name, value in batch.items()
    }
    prompt = int(chosen["prompt_mask"].sum(dim=1).max())
    completion = max(1, int(chosen["completion_mask"].sum(dim=1).max()))  # 0: all truncated, and so masked
    for name, value in chosen.items():
        if isinstance(value, torch.Tensor) and value.dim() == 2:
            chosen[name] = value[:, value.size(1) - prompt :] if name in PADDED_ON_THE_LEFT else value[:, :completion]
    return chosen


def put(batch: Batch, rows: torch.Tensor, others: Batch, pad_token_id: int) -> Batch:
    """The batch with the rows of ``others`` in the place of ``rows``, padded to the longer of the two."""
    merged = dict(batch)
    for name, value in batch.items():
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            continue
        other = others[name]
        if value.dim() == 2:
            width = max(value.size(1), other.size(1))
            fill = pad_token_id if name.endswith("_ids") else 0
            value, other = (_widen(tensor, width, fill, name in PADDED_ON_THE_LEFT) for tensor in (value, other))
        merged[name] = value.index_copy(0, rows, other)
    return merged


def concatenate(batches: Sequence[Batch], pad_token_id: int) -> Batch:
    """The rows of all, in order, padded to the widest; what has no rows is that of the first."""
    joined = dict(batches[0])
    for name, value in joined.items():
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            continue
        values = [batch[name] for batch in batches]
        if value.dim() == 2:
            width = max(one.size(1) for one in values)
            fill = pad_token_id if name.endswith("_ids") else 0
            values = [_widen(one, width, fill, name in PADDED_ON_THE_LEFT) for one in values]
        joined[name] = torch.cat(values)
    return joined


def _widen(tensor: torch.Tensor, width: int, fill: int, on_the_left: bool) -> torch.Tensor:
    missing = width - tensor.size(1)
    return torch.nn.functional.pad(tensor, (missing, 0) if on_the_left else (0, missing), value=fill)


def shuffled_rows(key: int, first: int, count: int, steps: int) -> list[list[int]]:
    """Which rows of this rank each of ``steps`` optimizer steps trains on, where one generation serves several.

    Of every ``steps`` rows that follow one another in the batch of all ranks each step gets one, by chance. So a step
    has the same rows whatever the number of ranks, and no row has to move from one rank to another: a rank's rows are
    whole such blocks.

    Args:
        key: of the random numbers (``uniforms.completion_key``).
        first, count: this rank's rows in the batch of all ranks; multiples of ``steps``.

    Returns:
        For each step its ``count / steps`` rows, counted from this rank's first.
    """
    numbers = torch.from_numpy(uniforms([key], first, count)).view(-1, steps)  # one for each row, by block
    blocks = torch.arange(0, count, steps).unsqueeze(1)
    return (blocks + numbers.argsort(dim=1)).T.tolist()


def split(batch: Batch, parts: Sequence[Sequence[int]]) -> list[Batch]:
    """One batch for each list of rows, as wide as the whole; what has no rows is in all of them."""
    return [
        {name: value[list(rows)] if getattr(value, "ndim", 0) else value for name, value in batch.items()}
        for rows in parts
    ]


def live_rows(batch: Batch, at_least: int = 1) -> torch.Tensor:
    """Indices of the rows that have an advantage, filled up with others to ``at_least`` so many."""
    live = batch["advantages"] != 0
    missing = max(0, at_least - int(live.sum()))
    live[(~live).nonzero().squeeze(1)[:missing]] = True
    return live.nonzero().squeeze(1)


def others(batch: Batch, rows: torch.Tensor) -> torch.Tensor:
    """Indices of the rows that are not among ``rows``."""
    rest = torch.ones(len(batch["advantages"]), dtype=torch.bool, device=rows.device)
    rest[rows] = False
    return rest.nonzero().squeeze(1)


def share_of_loss(loss_type: str, kept: Batch, whole: Batch) -> float:
    """What TRL's loss over the ``kept`` rows has to be multiplied with to be its loss over the ``whole`` batch.

    Losses that TRL divides by the tokens of the generation batch (dapo, cispo, vespo) are the same already; a mean over
    sequences (grpo, sapo, dr_grpo, luspo) and one over the batch's own tokens (bnpo) is not.
    """
    if loss_type in ("dapo", "cispo", "vespo"):
        return 1.0
    if loss_type == "bnpo":
        return float(kept["completion_mask"].sum() / whole["completion_mask"].sum().clamp(min=1))
    return len(kept["advantages"]) / len(whole["advantages"])

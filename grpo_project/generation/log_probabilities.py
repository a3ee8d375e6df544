"""Log-probabilities of a batch's completions, computed in packed rows or in chunks of rows of like length.

Both need a model with TRL's fused head (``trl.trainer.utils.add_fused_lm_head``), as TRL's trainer has it: it gives
log-probabilities and entropies without the logits of all words at once, at TRL's temperature.

Letters: B rows of a batch, P prompt tokens (left-padded), C completion tokens (right-padded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from trl.trainer import utils as trl_utils

from grpo_project.generation import packing
from grpo_project.generation.packing import PackedRow

LogProbabilities = tuple[torch.Tensor, torch.Tensor | None]
"""(B, C) log-probabilities, and entropies where they were asked for; 0 where the mask is 0."""

ATTENTION_COSTS = {"cpu": 1.3}
"""What a multiplication in attention with a mask costs against one in a matrix product, by type of device.

On a CPU as measured at the sizes of SmolLM2-135M, 128 to 1,024 tokens a row, forward and backward; elsewhere unknown.
"""

Autocast = Callable[[], AbstractContextManager[Any]]


def packed(
    model: Any,
    ids: torch.Tensor,
    mask: torch.Tensor,
    width: int,
    *,
    rows: Sequence[PackedRow],
    max_tokens: int,
    compute_entropy: bool = False,
    autocast: Autocast = nullcontext,
) -> LogProbabilities:
    """The batch's completions in packed ``rows``, as ``all_packed`` or ``cheapest_packing`` give them.

    Args:
        ids, mask: (B, P + C).
        width: C.
        max_tokens: of a micro-batch.
    """
    logps = torch.zeros(ids.size(0) * width, device=ids.device)
    entropies = torch.zeros_like(logps)
    for chosen in chunks_of_like_length([row.tokens for row in rows], max_tokens):
        batch = packing.collate([rows[row] for row in chosen], width, ids.device)
        with autocast(), labelled_positions_only(model):
            found = model(
                input_ids=batch.ids,
                position_ids=batch.positions,
                attention_mask=packing.as_taken_by(model, batch.attended),
                shift_labels=batch.labels,
                fused_lm_head=True,
            )
        logps = logps.index_copy(0, batch.target, found.log_probs.flatten()[batch.source].float())
        if compute_entropy:
            entropies = entropies.index_copy(0, batch.target, found.entropy.flatten()[batch.source].float())
    return logps.view(-1, width), entropies.view(-1, width) if compute_entropy else None


def by_length(
    model: Any,
    ids: torch.Tensor,
    mask: torch.Tensor,
    width: int,
    *,
    chunks: Sequence[Sequence[int]],
    compute_entropy: bool = False,
    autocast: Autocast = nullcontext,
) -> LogProbabilities:
    """``chunks`` of rows one after the other, each without the columns that are padding in all of its rows.

    The model makes its own mask: what it computes for a chunk is what TRL computes for a batch (TRL 1.16
    grpo_trainer.py:1495), up to the padding.
    """
    prompts, completions = mask[:, :-width].sum(dim=1), mask[:, -width:].sum(dim=1)
    logps: list[torch.Tensor] = []
    entropies: list[torch.Tensor] = []
    order: list[int] = []
    for rows in chunks:
        chosen = torch.tensor(rows, device=ids.device)
        prompt, completion = int(prompts[chosen].max()), max(1, int(completions[chosen].max()))
        columns = slice(ids.size(1) - width - prompt, ids.size(1) - width + completion)
        inputs, attended = ids[chosen][:, columns], mask[chosen][:, columns]
        labels = inputs.masked_fill(attended == 0, packing.IGNORED)
        labels[:, :prompt] = packing.IGNORED
        with autocast(), labelled_positions_only(model):
            found = model(input_ids=inputs, attention_mask=attended, labels=labels, fused_lm_head=True)
        missing = (0, width - completion)
        logps.append(torch.nn.functional.pad(found.log_probs[:, -completion:].float(), missing))
        if compute_entropy:
            entropies.append(torch.nn.functional.pad(found.entropy[:, -completion:].float(), missing))
        order += rows
    back = torch.tensor(order, device=ids.device).argsort()
    return torch.cat(logps)[back], torch.cat(entropies)[back] if compute_entropy else None


@contextmanager
def labelled_positions_only(model: Any) -> Iterator[None]:
    """Within it TRL's fused head computes the words of labelled positions alone, on a CPU too, in one tile if it fits.

    TRL does so where Triton runs and scores each position elsewhere, for the sake of devices that compile for each
    shape (TRL 1.16 trainer/utils.py:1642); its tile of 32,768 words is allocated whatever the vocabulary (:1506). Both
    are names of that module which its function looks up as it runs.
    """
    before = trl_utils._use_triton, trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE
    words = extract_model_from_parallel(model).get_output_embeddings().weight.size(0)
    trl_utils._use_triton = lambda device: device.type == "cpu" or before[0](device)
    trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE = min(before[1], words)
    try:
        yield
    finally:
        trl_utils._use_triton, trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE = before


def all_packed(ids: torch.Tensor, mask: torch.Tensor, width: int, max_tokens: int) -> list[PackedRow]:
    """All completions of a prompt in one row, or several where it would be longer than ``max_tokens``."""
    return packing.pack(*_halves(ids, mask, width), max_tokens)


Rows = list[tuple[int, ...]]


def _halves(ids: torch.Tensor, mask: torch.Tensor, width: int) -> tuple[Rows, Rows]:
    """Prompts and completions."""
    return unpadded(ids[:, :-width], mask[:, :-width]), unpadded(ids[:, -width:], mask[:, -width:])


def cheapest_packing(
    ids: torch.Tensor, mask: torch.Tensor, width: int, max_tokens: int, cell_cost: float
) -> list[PackedRow] | None:
    """The packed rows that cost the least, or ``None`` where the batch costs less by length.

    A longer row computes the prompt for more completions at once, and cells of attention between completions that don't
    attend to each other: tokens saved against cells added. ``cell_cost`` says how many tokens a cell is worth.
    """
    prompts, completions = _halves(ids, mask, width)
    lengths = mask.sum(dim=1).tolist()
    best, least = None, _cost(lengths, max_tokens, cell_cost)
    row_tokens = max_tokens
    while row_tokens >= max(lengths):
        rows = packing.pack(prompts, completions, row_tokens)
        if not rows:
            break
        cost = _cost([row.tokens for row in rows], max_tokens, cell_cost)
        if cost < least:
            best, least = rows, cost
        row_tokens = min(row_tokens - 1, max(row.tokens for row in rows) * 2 // 3)
    return best


def _cost(lengths: Sequence[int], max_tokens: int, cell_cost: float) -> float:
    """In tokens, of rows of these lengths, padded in chunks of like length."""
    chunks = chunks_of_like_length(lengths, max_tokens)
    longest = [max(lengths[row] for row in chunk) for chunk in chunks]
    return sum(len(chunk) * long * (1 + cell_cost * long) for chunk, long in zip(chunks, longest, strict=True))


def cell_cost(model: Any, device: torch.device) -> float:
    """How many tokens' worth of computation a cell of attention is: a query with a key, over all layers.

    By the multiplications of each (a token goes through every inner weight once, a cell twice through the width of the
    heads), times what a multiplication in attention costs more than one in a matrix product.
    """
    config, base = model.config.get_text_config(), extract_model_from_parallel(model)
    outer = {id(layer.weight) for layer in (base.get_input_embeddings(), base.get_output_embeddings()) if layer}
    inner = sum(weight.numel() for weight in base.parameters() if id(weight) not in outer)
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return ATTENTION_COSTS.get(device.type, 1.0) * 2 * width * config.num_hidden_layers / inner


def unpadded(ids: torch.Tensor, mask: torch.Tensor) -> list[tuple[int, ...]]:
    """Each row's tokens where its mask is not 0."""
    kept = zip(ids.tolist(), mask.tolist(), strict=True)
    return [tuple(token for token, here in zip(*row, strict=True) if here) for row in kept]


def chunks_of_like_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Rows by length, cut into chunks of at most ``max_tokens`` when padded to the longest, and one row at least."""
    chunks: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if chunks and (len(chunks[-1]) + 1) * lengths[row] <= max_tokens:
            chunks[-1].append(row)
        else:
            chunks.append([row])
    return chunks


def without_left_padding(prompt_lengths: Sequence[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Chunks of like length whose prompts are equally long: padding on the right is seen by no causal model."""
    chunks: list[list[int]] = []
    for prompt in sorted(set(prompt_lengths)):
        rows = [row for row, length in enumerate(prompt_lengths) if length == prompt]
        for chunk in chunks_of_like_length([lengths[row] for row in rows], max_tokens):
            chunks.append([rows[place] for place in chunk])
    return chunks


def at_least(count: int, chunks: list[list[int]]) -> list[list[int]]:
    """The same rows in ``count`` chunks or more, for ranks that have to call the model equally often."""
    chunks = list(chunks)
    while len(chunks) < count:
        largest = max(range(len(chunks)), key=lambda place: len(chunks[place]))
        rows = chunks.pop(largest)
        chunks[largest:largest] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return chunks

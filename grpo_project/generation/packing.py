"""Packing with prefix sharing: all completions of a prompt in one row, which holds the prompt once.

A packed row is the prompt without its last token, then for each completion that last token again and the completion
(Prefix Grouper, arXiv 2506.05433). A completion attends to the prompt and to itself, at the positions that it would
have alone, so every log-probability and gradient is the same up to rounding.

Letters: B completions of C tokens at most, R packed rows of T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel

IGNORED = -100
_PROMPT, _PADDING = 0, -1


def as_taken_by(model: Any, attended: torch.Tensor) -> torch.Tensor:
    """Who attends to whom, (R, 1, T, T) of booleans, in the form that the model's attention takes.

    transformers hands a mask of four dimensions on as it is (5.23, masking_utils.py:833). torch's own attention
    understands booleans; the eager one *adds* its mask (modeling_llama.py:195), to which True is 1 and hides nothing.
    """
    if extract_model_from_parallel(model).config._attn_implementation != "eager":
        return attended
    hidden = torch.finfo(model.dtype).min
    return torch.zeros(attended.shape, dtype=model.dtype, device=attended.device).masked_fill(~attended, hidden)


@dataclass(frozen=True, slots=True)
class PackedRow:
    """Completions of one prompt in a row. ``rows`` are their numbers in the batch; prompts have at least one token."""

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return len(self.prompt) - 1 + sum(1 + len(completion) for completion in self.completions)


def pack(
    prompts: Sequence[tuple[int, ...]], completions: Sequence[tuple[int, ...]], max_tokens: int
) -> list[PackedRow]:
    """One row for each prompt, or several where it would have more than ``max_tokens`` tokens.

    Completions without tokens are left out.
    """
    packed: list[PackedRow] = []
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        if completions[row]:
            by_prompt.setdefault(prompt, []).append(row)
    for prompt, rows in by_prompt.items():
        taken: list[int] = []
        tokens = len(prompt) - 1
        for row in rows:
            if taken and tokens + 1 + len(completions[row]) > max_tokens:
                packed.append(PackedRow(prompt, tuple(completions[r] for r in taken), tuple(taken)))
                taken, tokens = [], len(prompt) - 1
            taken.append(row)
            tokens += 1 + len(completions[row])
        packed.append(PackedRow(prompt, tuple(completions[r] for r in taken), tuple(taken)))
    return packed


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """R packed rows as the model takes them, and where the log-probabilities go.

    ``source`` are indices into the flattened (R, T) log-probabilities, ``target`` into the flattened (B, C) ones.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    attended: torch.Tensor
    """(R, 1, T, T): whether a query (row) attends to a key (column)."""
    labels: torch.Tensor
    """(R, T), shifted already: the token that each position predicts; ``IGNORED`` where none is asked for."""
    source: torch.Tensor
    target: torch.Tensor


def collate(rows: Sequence[PackedRow], width: int, device: torch.device) -> MicroBatch:
    """Pad packed rows to one length; ``width`` is C of the result."""
    longest = max(row.tokens for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    positions = torch.zeros((len(rows), longest), dtype=torch.long)
    segments = torch.full((len(rows), longest), _PADDING)
    labels = torch.full((len(rows), longest), IGNORED)
    source: list[int] = []
    target: list[int] = []
    for r, row in enumerate(rows):
        shared, last = row.prompt[:-1], row.prompt[-1]
        tokens, position, segment = list(shared), list(range(len(shared))), [_PROMPT] * len(shared)
        label = [IGNORED] * len(shared)
        for number, (completion, b) in enumerate(zip(row.completions, row.rows, strict=True), start=1):
            start = r * longest + len(tokens)
            source += range(start, start + len(completion))
            target += range(b * width, b * width + len(completion))
            tokens += [last, *completion]
            position += range(len(shared), len(shared) + 1 + len(completion))
            segment += [number] * (1 + len(completion))
            label += [*completion, IGNORED]
        for tensor, values in ((ids, tokens), (positions, position), (segments, segment), (labels, label)):
            tensor[r, : len(values)] = torch.tensor(values)
    segments = segments.to(device)  # the mask is the square of everything else: made where it is used
    key, query = segments[:, None, :], segments[:, :, None]
    causal = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
    attended = causal & ((key == query) | (key == _PROMPT))  # padding attends to padding: a softmax over nothing is NaN
    return MicroBatch(
        ids.to(device),
        positions.to(device),
        attended[:, None],
        labels.to(device),
        torch.tensor(source, device=device),
        torch.tensor(target, device=device),
    )

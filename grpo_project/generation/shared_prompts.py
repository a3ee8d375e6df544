"""Log-probabilities of completions that share prompts, with each prompt computed once.

All completions of a prompt go into one row: the prompt without its last token, then for each completion that last token
again and the completion (Prefix Grouper, arXiv 2506.05433). A completion sees the prompt and itself, at the positions
that it would have alone, so every log-probability and gradient is the same up to rounding.

Letters: B completions of C tokens at most, R packed rows of T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from grpo_project.generation.sampling import attends_fully

IGNORED = -100
_PROMPT, _PADDING = 0, -1


def understands(model: Any) -> bool:
    """Whether a model takes a mask of our making: full attention in every layer, computed by torch."""
    implementation = model.config._attn_implementation
    return implementation in ("sdpa", "eager") and attends_fully(model, {"attention_mask", "position_ids"})


@dataclass(frozen=True, slots=True)
class Packed:
    """Completions of one prompt in a row. ``rows`` are their numbers in the batch; prompts have at least one token."""

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return len(self.prompt) - 1 + sum(1 + len(completion) for completion in self.completions)


def pack(prompts: Sequence[tuple[int, ...]], completions: Sequence[tuple[int, ...]], most_tokens: int) -> list[Packed]:
    """One row for each prompt, or several where it would have more than ``most_tokens`` tokens.

    Completions without tokens are left out.
    """
    packed: list[Packed] = []
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        if completions[row]:
            by_prompt.setdefault(prompt, []).append(row)
    for prompt, rows in by_prompt.items():
        taken: list[int] = []
        tokens = len(prompt) - 1
        for row in rows:
            if taken and tokens + 1 + len(completions[row]) > most_tokens:
                packed.append(Packed(prompt, tuple(completions[r] for r in taken), tuple(taken)))
                taken, tokens = [], len(prompt) - 1
            taken.append(row)
            tokens += 1 + len(completions[row])
        packed.append(Packed(prompt, tuple(completions[r] for r in taken), tuple(taken)))
    return packed


@dataclass(frozen=True, slots=True)
class Chunk:
    """R packed rows as the model takes them, and where the answers go.

    ``source`` are places in the flattened (R, T) log-probabilities, ``target`` in the flattened (B, C) ones.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor
    """(R, 1, T, T): who sees whom."""
    next_ids: torch.Tensor
    """(R, T): the token that each place predicts; ``IGNORED`` where none is asked for."""
    source: torch.Tensor
    target: torch.Tensor


def lay_out(rows: Sequence[Packed], width: int, pad: int, device: torch.device) -> Chunk:
    """Put packed rows side by side; ``width`` is C of the result."""
    longest = max(row.tokens for row in rows)
    ids = torch.full((len(rows), longest), pad)
    positions = torch.zeros((len(rows), longest), dtype=torch.long)
    segments = torch.full((len(rows), longest), _PADDING)
    next_ids = torch.full((len(rows), longest), IGNORED)
    source: list[int] = []
    target: list[int] = []
    for r, row in enumerate(rows):
        shared, last = row.prompt[:-1], row.prompt[-1]
        line, place, segment = list(shared), list(range(len(shared))), [_PROMPT] * len(shared)
        wanted = [IGNORED] * len(shared)
        for number, (completion, b) in enumerate(zip(row.completions, row.rows, strict=True), start=1):
            start = r * longest + len(line)
            source += range(start, start + len(completion))
            target += range(b * width, b * width + len(completion))
            line += [last, *completion]
            place += range(len(shared), len(shared) + 1 + len(completion))
            segment += [number] * (1 + len(completion))
            wanted += [*completion, IGNORED]
        for tensor, values in ((ids, line), (positions, place), (segments, segment), (next_ids, wanted)):
            tensor[r, : len(values)] = torch.tensor(values)
    seen, seer = segments[:, None, :], segments[:, :, None]
    earlier = torch.ones(longest, longest, dtype=torch.bool).tril()
    allowed = earlier & ((seen == seer) | (seen == _PROMPT))  # padding sees padding: a row must see something
    return Chunk(
        ids.to(device),
        positions.to(device),
        allowed[:, None].to(device),
        next_ids.to(device),
        torch.tensor(source, device=device),
        torch.tensor(target, device=device),
    )

"""Sampling completions of a batch without computing what nobody needs.

Each different prompt is read once, however many completions it gets, and a completion that has ended leaves the batch.
On the embedded model ``generate`` takes twice as long (docs/experiments.md): it reads each copy of a prompt and goes on
computing ended rows until the last one ends.

Letters: B completions, P different prompts, T prompt tokens (left-padded), C generated tokens, V words.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

ENDED_SHARE = 0.125
"""Share of the batch that has to have ended before rows are taken out: each time the cache is copied."""

_SUPPORTED_SETTINGS = {
    *("max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "cache_implementation"),
}
_FORWARD_ARGUMENTS = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}


def attends_fully(model: Any, arguments: set[str]) -> bool:
    """Whether each layer attends to all earlier tokens and ``forward`` takes these arguments, below PEFT's adapters.

    Not so: sliding windows, recurrent states, PEFT's prompt learning, which puts tokens of its own in front.
    """
    if hasattr(model, "get_base_model"):
        if model.active_peft_config.is_prompt_learning:
            return False
        model = model.get_base_model()
    kinds = {type(layer).__name__ for layer in DynamicCache(config=model.config).layers}
    return kinds <= {"DynamicLayer"} and inspect.signature(model.forward).parameters.keys() >= arguments


def supports(model: Any, generation_kwargs: dict[str, Any]) -> bool:
    """Whether ``sample`` does for this model what ``generate`` would do with these arguments."""
    if (
        generation_kwargs.get("repetition_penalty") not in (None, 1.0)
        or generation_kwargs.get("cache_implementation")
        or not generation_kwargs.keys() <= _SUPPORTED_SETTINGS
    ):
        return False
    return attends_fully(model, _FORWARD_ARGUMENTS)


@torch.no_grad()
def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    on_end: Callable[[int, list[int]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[list[int]]:
    """Sample a completion of each of the B ``prompts`` (token ids); equal ones may come several times.

    Returns B lists of at most ``config.max_new_tokens`` ids, the end token included where it came. Random numbers come
    from torch's state for the model's device. ``on_end(row, ids)`` is called as soon as a completion has its end
    token, while the others go on. ``should_stop`` is asked at each token; if so, all end where they are. Without
    ``config.do_sample`` the likeliest tokens are taken.
    """
    device = model.device
    unique = list(dict.fromkeys(map(tuple, prompts)))
    index = {prompt: i for i, prompt in enumerate(unique)}
    ids, mask = _left_padded(unique, config.pad_token_id or 0, device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)  # (P, T)
    cache = DynamicCache(config=model.config)
    logits = _forward(model, ids, mask, positions, cache)

    rows = torch.tensor([index[tuple(prompt)] for prompt in prompts], device=device)  # (B,)
    cache.batch_select_indices(rows)
    logits, mask, position = logits[rows], mask[rows], positions[rows, -1:]
    warp = _warpers(config)
    ends = torch.as_tensor(config.eos_token_id, device=device).reshape(-1)
    end_tokens = set(ends.tolist())
    running = torch.arange(
        len(prompts), device=device
    )  # the completion that each row of the shrinking batch belongs to
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    tokens: list[list[int]] = [[] for _ in prompts]
    for count in range(1, config.max_new_tokens + 1):
        if config.do_sample:
            chosen = torch.multinomial(torch.softmax(warp(ids, logits.float()), dim=-1), num_samples=1)
        else:
            chosen = logits.argmax(dim=-1, keepdim=True)
        for row, token, is_ended in zip(running.tolist(), chosen[:, 0].tolist(), ended.tolist(), strict=True):
            if not is_ended:
                tokens[row].append(token)
                if on_end is not None and token in end_tokens:
                    on_end(row, tokens[row])
        ended |= torch.isin(chosen[:, 0], ends)
        left = len(ended) - int(ended.sum())
        if left == 0 or count == config.max_new_tokens or (should_stop is not None and should_stop()):
            break
        if left <= len(ended) * (1 - ENDED_SHARE):
            keep = (~ended).nonzero().squeeze(1)
            cache.batch_select_indices(keep)
            chosen, mask, position, running, ended = (
                tensor[keep] for tensor in (chosen, mask, position, running, ended)
            )
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        position = position + 1
        logits = _forward(model, chosen, mask, position, cache)
    return tokens


def _forward(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Logits of the next token, (rows, V); the cache grows by the tokens in ``ids``."""
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1]


def _left_padded(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(P, T) ids and mask."""
    longest = max(map(len, prompts))
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _warpers(config: GenerationConfig) -> LogitsProcessorList:
    """transformers' own, in the order of ``generate``."""
    warpers = LogitsProcessorList()
    if config.temperature not in (None, 1.0):
        warpers.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k:
        warpers.append(TopKLogitsWarper(config.top_k))
    if config.top_p is not None and config.top_p < 1.0:
        warpers.append(TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        warpers.append(MinPLogitsWarper(config.min_p))
    return warpers

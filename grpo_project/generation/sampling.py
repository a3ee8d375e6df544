"""Sampling completions of a batch without computing what nobody needs.

Each unique prompt is read once, however many completions it gets, and a completion that has ended leaves the batch. On
the embedded model ``generate`` takes twice as long (docs/experiments.md): it reads each copy of a prompt and goes on
computing ended rows until the last one ends.

Letters: B completions, P unique prompts, T prompt tokens (left-padded), C generated tokens, V words.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from grpo_project.generation.uniforms import uniforms

ENDED_SHARE = 0.125
"""Share of the batch that has to have ended before rows are taken out: each time the cache is copied."""

_SUPPORTED_SETTINGS = {
    *("max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "min_p"),
    *("pad_token_id", "bos_token_id", "eos_token_id"),
}
_WITHOUT_EFFECT = {
    # Sizes that max_new_tokens overrules, what is returned beside the ids, how it is compiled or cached in pieces.
    *("max_length", "use_cache", "disable_compile", "compile_config", "prefill_chunk_size", "renormalize_logits"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    # Of beam search and assisted generation, which other settings turn on.
    *("early_stopping", "length_penalty", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule"),
    *("assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind", "decoder_start_token_id"),
    *("transformers_version", "_from_model_config"),
}
_FORWARD_ARGUMENTS = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}


def windows_or_states(model: Any) -> str | None:
    """Which layers see less than all earlier tokens, in words; ``None`` if the model declares none.

    A computation on a few tokens can't show it: a window may be thousands of tokens wide.
    """
    kinds = {type(layer).__name__ for layer in DynamicCache(config=model.config).layers} - {"DynamicLayer"}
    return f"its cache has layers of type {', '.join(sorted(kinds))}" if kinds else None


def without_adapter(model: Any) -> Any:
    """The model below PEFT's adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def effective_config(model: Any, config: GenerationConfig) -> GenerationConfig:
    """What ``generate`` would make of ``config``: what is not set comes from the model's folder, then from defaults.

    As in transformers 5.23 generation/utils.py:2107-2109.
    """
    merged = copy.deepcopy(config)
    merged.update(**model.generation_config.to_dict(), defaults_only=True, allow_custom_entries=True)
    merged.update(**model.generation_config._get_default_generation_params(), defaults_only=True)
    return merged


def unsupported(model: Any, config: GenerationConfig) -> str | None:
    """Why ``sample`` can't do for this model what ``generate`` would do with ``config``; ``None`` if it can."""
    if hasattr(model, "get_base_model") and model.active_peft_config.is_prompt_learning:
        return "PEFT's prompt learning puts tokens of its own in front"
    base = without_adapter(model)
    if missing := _FORWARD_ARGUMENTS - inspect.signature(base.forward).parameters.keys():
        return f"its forward takes no {', '.join(sorted(missing))}"
    defaults = model.generation_config._get_default_generation_params()
    for name, value in effective_config(model, config).to_dict().items():
        known = name in _SUPPORTED_SETTINGS or name in _WITHOUT_EFFECT
        if not known and value is not None and value != defaults.get(name):
            return f"generation setting {name}"
    return windows_or_states(base)


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    keys: Sequence[int] | None = None,
    on_end: Callable[[int, list[int]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[list[int]]:
    """Sample a completion of each of the B ``prompts`` (token ids); equal ones may come several times.

    Returns B lists of at most ``config.max_new_tokens`` ids, the end token included where it came: a completion that is
    as long and has none was cut off.

    Args:
        config: with ``do_sample`` as it says, otherwise the likeliest tokens.
        keys: what each completion's random numbers come from (``uniforms.completion_key``); for sampling only.
        on_end: called as ``(row, ids)`` as soon as a completion has its end token, while the others go on.
        should_stop: asked at each token; if so, all end where they are.
    """
    return sample_with_entropies(model, prompts, config, keys, on_end, should_stop)[0]


@torch.no_grad()
def sample_with_entropies(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    keys: Sequence[int] | None = None,
    on_end: Callable[[int, list[int]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[list[list[int]], torch.Tensor]:
    """``sample``, and the sum of each completion's entropies, (B,); 0 without sampling.

    They are those of the whole vocabulary at ``config.temperature``, as TRL's loss has them, whatever top-k, top-p or
    min-p leave of it.
    """
    config, device = effective_config(model, config), model.device
    unique = list(dict.fromkeys(map(tuple, prompts)))
    index = {prompt: i for i, prompt in enumerate(unique)}
    ids, mask = _left_padded(unique, config.pad_token_id or 0, device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)  # (P, T)
    cache = DynamicCache(config=model.config)
    logits = _forward(model, ids, mask, positions, cache)

    rows = torch.tensor([index[tuple(prompt)] for prompt in prompts], device=device)  # (B,)
    cache.batch_select_indices(rows)
    logits, mask, position = logits[rows], mask[rows], positions[rows, -1:]
    draw = InverseCDF(config, keys, device) if config.do_sample else None
    ends = torch.tensor(end_tokens_of(config), dtype=torch.long, device=device)
    end_tokens = set(ends.tolist())
    running = torch.arange(
        len(prompts), device=device
    )  # the completion that each row of the shrinking batch belongs to
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    tokens: list[list[int]] = [[] for _ in prompts]
    entropies = torch.zeros(len(prompts), device=device)
    for count in range(1, config.max_new_tokens + 1):
        if draw is None:
            chosen = logits.argmax(dim=-1, keepdim=True)
        else:
            chosen, entropy = draw(logits, running, count - 1)
            entropies[running] += entropy * ~ended
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
    return tokens, entropies


def end_tokens_of(config: GenerationConfig) -> list[int]:
    """The tokens that end a completion: none, one or several."""
    ends = config.eos_token_id
    return [] if ends is None else torch.as_tensor(ends).reshape(-1).tolist()


class InverseCDF:
    """Tokens from logits and one uniform number each: the first token at which the cumulative distribution exceeds it.

    Args:
        config: temperature, top-k, top-p, min-p.
        keys: of the B completions.
    """

    BLOCK = 64
    """Tokens whose numbers are made at once."""

    def __init__(self, config: GenerationConfig, keys: Sequence[int] | None, device: torch.device) -> None:
        assert keys is not None, "sampling needs a key for each completion"
        self._keys, self._device = keys, device
        self._temperature, self._truncate = config.temperature or 1.0, _truncations(config)
        # In 32 bits a sum over 100,000 words is off by more than the rarer of them are worth. MPS has no 64.
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._first, self._numbers = 0, torch.empty(0)

    def __call__(
        self, logits: torch.Tensor, completions: torch.Tensor, token: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids, (rows, 1), of the ``token``-th tokens of ``completions`` (rows,) by ``logits`` (rows, V); entropies."""
        shifted = logits.float() / self._temperature
        shifted -= shifted.amax(dim=-1, keepdim=True)
        weights = shifted.exp()
        cumulative, total = self._summed(weights)
        # log Z - sum of p log(weight); a word of no probability adds nothing, and -inf times 0 is no number.
        entropy = total[:, 0].log() - torch.linalg.vecdot(weights, shifted.clamp(min=-1e9)) / total[:, 0]
        if self._truncate:
            cumulative, total = self._summed(torch.softmax(self._truncate(None, shifted), dim=-1))
        wanted = self._number(token)[completions, None] * total
        chosen = torch.searchsorted(cumulative, wanted, right=True)  # never a word of probability 0
        chosen = torch.minimum(
            chosen, torch.searchsorted(cumulative, total)
        )  # should the product round up to the total
        return chosen, entropy.float()

    def _summed(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cumulative sums, (rows, V), and their totals, (rows, 1)."""
        cumulative = weights.cumsum(dim=-1, dtype=self._dtype)
        return cumulative, cumulative[:, -1:].contiguous()

    def _number(self, token: int) -> torch.Tensor:
        if token % self.BLOCK == 0:
            self._first, numbers = token, uniforms(self._keys, token, self.BLOCK)
            self._numbers = torch.from_numpy(numbers).to(self._dtype).to(self._device)
        return self._numbers[:, token - self._first]


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


def _truncations(config: GenerationConfig) -> LogitsProcessorList:
    """transformers' own, in the order of ``generate``, after the temperature; none of them looks at earlier tokens."""
    warpers = LogitsProcessorList()
    if config.top_k:
        warpers.append(TopKLogitsWarper(config.top_k))
    if config.top_p is not None and config.top_p < 1.0:
        warpers.append(TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        warpers.append(MinPLogitsWarper(config.min_p))
    return warpers

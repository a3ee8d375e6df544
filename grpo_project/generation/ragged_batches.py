"""Generation and loss over rows of different lengths, without computing on padding or the same prompt twice.

TRL pads a batch to its longest prompt and its longest completion and computes all of it. Where the model allows,
completions are sampled by ``sampling.sample`` instead of ``generate``, and log-probabilities are computed with all
completions of a prompt in one row (``shared_prompts``), or in chunks of rows of like length. The results are TRL's, up
to rounding and to which random number goes to which row.

Letters: B rows of a batch, P prompt tokens (left-padded), C completion tokens (right-padded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from grpo_project.generation import sampling, shared_prompts

CHUNK_TOKENS = {"cpu": 1024}
"""Tokens of a chunk at most, by type of device: no more than the caches hold, no fewer than keep the device busy."""
CHUNK_TOKENS_ELSEWHERE = 16_384

LogProbabilities = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]


class RaggedBatches(GRPOTrainer):
    """Set ``ragged`` to ``False`` for TRL's own way."""

    ragged = True
    on_completion: Callable[[int, list[int]], None] | None = None
    """Told as ``(row, ids)`` that a completion has ended, while others of the batch are still being sampled."""

    @contextmanager
    def telling(self, listener: Callable[[int, list[int]], None]) -> Iterator[None]:
        """Within it, ``listener`` is told of each completion that ends."""
        self.on_completion = listener
        try:
            yield
        finally:
            self.on_completion = None

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        if images or multimodal_fields or not self._samples_itself():
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, *args, **kwargs)
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs
        ) as model:
            return sampling.sample(model, prompt_ids, self.generation_config, self.on_completion), None

    def _samples_itself(self) -> bool:
        others = self.use_vllm or self.use_transformers_continuous_batching
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled  # ranks have to call the model equally often
        if not self.ragged or others or sharded or self.pad_to_multiple_of is not None:
            return False
        return sampling.understands(self.accelerator.unwrap_model(self.model), self.generation_kwargs)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **media: Any,
    ) -> LogProbabilities:
        """TRL's, for ``input_ids`` (B, P + C) of which the last C = ``logits_to_keep`` are completions.

        Where the mask is 0 the log-probabilities and entropies are 0.
        """
        limit = CHUNK_TOKENS.get(input_ids.device.type, CHUNK_TOKENS_ELSEWHERE)
        if batch_size is not None:  # TRL's own bound on what is computed at once
            limit = min(limit, batch_size * input_ids.size(1))
        has_media = any(value is not None for value in media.values())
        # Several ranks have to call the model equally often, and a balancing loss is one of the whole batch.
        alone = self.accelerator.num_processes == 1 and not compute_aux_loss and not has_media
        something = bool(attention_mask[:, -logits_to_keep:].any())
        if not (self.ragged and alone and something) or self.pad_to_multiple_of is not None:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss, **media
            )
        if shared_prompts.understands(self.accelerator.unwrap_model(model)):
            return self._with_shared_prompts(model, input_ids, attention_mask, logits_to_keep, limit, compute_entropy)
        return self._by_length(model, input_ids, attention_mask, logits_to_keep, limit, compute_entropy)

    def _with_shared_prompts(
        self, model: Any, ids: torch.Tensor, mask: torch.Tensor, width: int, limit: int, compute_entropy: bool
    ) -> LogProbabilities:
        prompts, completions = unpadded(ids[:, :-width], mask[:, :-width]), unpadded(ids[:, -width:], mask[:, -width:])
        packed = shared_prompts.pack(prompts, completions, limit)
        logps = torch.zeros(ids.size(0) * width, device=ids.device)
        entropies = torch.zeros_like(logps)
        for rows in chunks_of_like_length([row.tokens for row in packed], limit):
            chunk = shared_prompts.lay_out(
                [packed[row] for row in rows], width, self._tokenizer.pad_token_id, ids.device
            )
            with self.accelerator.autocast():
                found = model(
                    input_ids=chunk.ids,
                    position_ids=chunk.positions,
                    attention_mask=chunk.allowed,
                    shift_labels=chunk.next_ids,
                    fused_lm_head=True,
                )
            logps = logps.index_copy(0, chunk.target, found.log_probs.flatten()[chunk.source].float())
            if compute_entropy:
                entropies = entropies.index_copy(0, chunk.target, found.entropy.flatten()[chunk.source].float())
        return logps.view(-1, width), entropies.view(-1, width) if compute_entropy else None, None

    def _by_length(
        self, model: Any, ids: torch.Tensor, mask: torch.Tensor, width: int, limit: int, compute_entropy: bool
    ) -> LogProbabilities:
        prompts, completions = mask[:, :-width].sum(dim=1), mask[:, -width:].sum(dim=1)
        logps, entropies, order = [], [], []
        for rows in chunks_of_like_length((prompts + completions).tolist(), limit):
            chosen = torch.tensor(rows, device=ids.device)
            prompt, completion = int(prompts[chosen].max()), max(1, int(completions[chosen].max()))
            columns = slice(ids.size(1) - width - prompt, ids.size(1) - width + completion)
            found, entropy, _ = super()._get_per_token_logps_and_entropies(
                model, ids[chosen][:, columns], mask[chosen][:, columns], completion, compute_entropy=compute_entropy
            )
            missing = (0, width - completion)
            logps.append(torch.nn.functional.pad(found, missing))
            if entropy is not None:
                entropies.append(torch.nn.functional.pad(entropy, missing))
            order += rows
        back = torch.tensor(order, device=ids.device).argsort()
        return torch.cat(logps)[back], torch.cat(entropies)[back] if entropies else None, None


def unpadded(ids: torch.Tensor, mask: torch.Tensor) -> list[tuple[int, ...]]:
    """Each row's tokens where its mask is not 0."""
    kept = zip(ids.tolist(), mask.tolist(), strict=True)
    return [tuple(token for token, here in zip(*row, strict=True) if here) for row in kept]


def chunks_of_like_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Rows by length, cut into chunks of at most ``tokens`` tokens when padded to the longest, and one row at least."""
    chunk: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if chunk and (len(chunk) + 1) * lengths[row] > tokens:
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk

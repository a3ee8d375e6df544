"""Padding-free batches: generation and log-probabilities without computing on padding or the same prompt twice.

TRL pads a batch to its longest prompt and its longest completion and computes all of it. Where the model allows,
completions are sampled by ``sampling.sample`` instead of ``generate``, and log-probabilities are computed in packed
rows that share prompts (``packing``), or in chunks of rows of like length. Rows without advantage are left out of the
loss. The results are TRL's, up to rounding and to which random number goes to which row.

Letters: B rows of a batch, P prompt tokens (left-padded), C completion tokens (right-padded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from grpo_project.generation import generation_batch, packing, sampling
from grpo_project.generation.generation_batch import Batch

CHUNK_TOKENS = {"cpu": 1024}
"""Tokens of a chunk at most, by type of device: no more than the caches hold, no fewer than keep the device busy."""
CHUNK_TOKENS_ELSEWHERE = 16_384

LogProbabilities = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]


class PaddingFreeBatches(GRPOTrainer):
    """Set ``padding_free`` to ``False`` for TRL's own way."""

    padding_free = True
    on_completion: Callable[[int, list[int]], None] | None = None
    """Called as ``(row, ids)`` when a completion has ended, while others of the batch are still being sampled."""

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
        # The ids and no log-probabilities, as TRL's own branch for transformers returns them (TRL 1.16
        # grpo_trainer.py:1891). Unlike there no weights are gathered: sharded models don't come here.
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs
        ) as model:
            return sampling.sample(model, prompt_ids, self.generation_config, self.on_completion), None

    def _samples_itself(self) -> bool:
        others = self.use_vllm or self.use_transformers_continuous_batching
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled  # ranks have to call the model equally often
        if not self.padding_free or others or sharded or self.pad_to_multiple_of is not None:
            return False
        return sampling.supports(self.accelerator.unwrap_model(self.model), self.generation_kwargs)

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
        if not (self.padding_free and alone and something) or self.pad_to_multiple_of is not None:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss, **media
            )
        if packing.supports(self.accelerator.unwrap_model(model)):
            return self._packed(model, input_ids, attention_mask, logits_to_keep, limit, compute_entropy)
        return self._by_length(model, input_ids, attention_mask, logits_to_keep, limit, compute_entropy)

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        """TRL's loss, computed over the rows that have an advantage: the others have no part in its gradient.

        TRL's metrics of this pass (entropy, clip ratios) are means over the rows that were computed.
        """
        if not (self.model.training and self._only_advantages_count):
            return super()._compute_loss(model, inputs)
        # As many on every rank, and at least one: all of them take part in gathering metrics (TRL 1.16
        # grpo_trainer.py:3264 and 3284) and in the backward pass.
        most = max(1, *gather_object([int(inputs["advantages"].count_nonzero())]))
        rows = generation_batch.live_rows(inputs, at_least=most)
        if len(rows) == len(inputs["advantages"]):
            return super()._compute_loss(model, inputs)
        kept = generation_batch.take(inputs, rows)
        return super()._compute_loss(model, kept) * generation_batch.share_of_loss(self.loss_type, kept, inputs)

    @property
    def _only_advantages_count(self) -> bool:
        """Whether the loss has no term that a row without advantage contributes to."""  # TRL 1.16 grpo_trainer.py:3154
        more = self._entropy_bonus_enabled or self.aux_loss_enabled or self.top_entropy_quantile < 1.0
        return self.beta == 0.0 and not more

    def _packed(
        self, model: Any, ids: torch.Tensor, mask: torch.Tensor, width: int, limit: int, compute_entropy: bool
    ) -> LogProbabilities:
        prompts, completions = unpadded(ids[:, :-width], mask[:, :-width]), unpadded(ids[:, -width:], mask[:, -width:])
        packed = packing.pack(prompts, completions, limit)
        logps = torch.zeros(ids.size(0) * width, device=ids.device)
        entropies = torch.zeros_like(logps)
        for rows in chunks_of_like_length([row.tokens for row in packed], limit):
            micro_batch = packing.collate(
                [packed[row] for row in rows], width, self._tokenizer.pad_token_id, ids.device
            )
            # TRL's fused head with labels that are shifted already (TRL 1.16 trainer/utils.py:1600): log-probabilities
            # and entropies without the (R, T, V) logits, at TRL's temperature.
            with self.accelerator.autocast():
                found = model(
                    input_ids=micro_batch.ids,
                    position_ids=micro_batch.positions,
                    attention_mask=micro_batch.attention_mask,
                    shift_labels=micro_batch.labels,
                    fused_lm_head=True,
                )
            logps = logps.index_copy(0, micro_batch.target, found.log_probs.flatten()[micro_batch.source].float())
            if compute_entropy:
                entropies = entropies.index_copy(
                    0, micro_batch.target, found.entropy.flatten()[micro_batch.source].float()
                )
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

"""Generation and loss over rows of different lengths, without computing on padding.

TRL pads a batch to its longest prompt and its longest completion and computes all of it. Where the model allows,
completions are sampled by ``sampling.sample`` instead of ``generate``, and log-probabilities are computed in chunks of
rows of like length. The results are TRL's, up to rounding and to which random number goes to which row.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from grpo_project.core import sampling

CHUNK_TOKENS = {"cpu": 1024}
"""Tokens of a chunk at most, by type of device: no more than the caches hold, no fewer than keep the device busy."""
CHUNK_TOKENS_ELSEWHERE = 16_384


class RaggedBatches(GRPOTrainer):
    """Set ``ragged`` to ``False`` for TRL's own way."""

    ragged = True

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        if images or multimodal_fields or not self._samples_itself():
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, *args, **kwargs)
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs
        ) as model:
            return sampling.sample(model, prompt_ids, self.generation_config), None

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
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """TRL's, for ``input_ids`` (B, P + C) of which the last C = ``logits_to_keep`` are completions.

        Where the mask is 0 the log-probabilities and entropies are 0.
        """
        has_media = any(value is not None for value in media.values())
        # Several ranks have to call the model equally often, and a balancing loss is one of the whole batch.
        alone = self.accelerator.num_processes == 1 and not compute_aux_loss and not has_media
        if not (self.ragged and alone) or self.pad_to_multiple_of is not None:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss, **media
            )
        prompt_width = input_ids.size(1) - logits_to_keep
        prompts = attention_mask[:, :prompt_width].sum(dim=1).tolist()
        completions = attention_mask[:, prompt_width:].sum(dim=1).tolist()
        limit = CHUNK_TOKENS.get(input_ids.device.type, CHUNK_TOKENS_ELSEWHERE)
        if batch_size is not None:  # TRL's own bound on what is computed at once
            limit = min(limit, batch_size * input_ids.size(1))
        logps, entropies, order = [], [], []
        for rows in chunks_of_like_length(prompts, completions, limit):
            chosen = torch.tensor(rows, device=input_ids.device)
            prompt, completion = max(prompts[row] for row in rows), max(1, *(completions[row] for row in rows))
            columns = slice(prompt_width - prompt, prompt_width + completion)
            found, entropy, _ = super()._get_per_token_logps_and_entropies(
                model,
                input_ids[chosen][:, columns],
                attention_mask[chosen][:, columns],
                completion,
                compute_entropy=compute_entropy,
            )
            missing = (0, logits_to_keep - completion)
            logps.append(torch.nn.functional.pad(found, missing))
            if entropy is not None:
                entropies.append(torch.nn.functional.pad(entropy, missing))
            order += rows
        back = torch.tensor(order, device=input_ids.device).argsort()
        return torch.cat(logps)[back], torch.cat(entropies)[back] if entropies else None, None


def chunks_of_like_length(prompts: list[int], completions: list[int], tokens: int) -> list[list[int]]:
    """Rows by length, cut into chunks that take at most ``tokens`` tokens when padded, and at least one row each.

    ``prompts`` and ``completions`` are the lengths of each row's parts, in tokens; both are padded to the longest.
    """
    chunks: list[list[int]] = []
    widest_prompt = widest_completion = 0
    for row in sorted(range(len(prompts)), key=lambda row: (prompts[row] + completions[row], row)):
        prompt, completion = max(widest_prompt, prompts[row]), max(widest_completion, completions[row])
        if chunks and (len(chunks[-1]) + 1) * (prompt + completion) <= tokens:
            chunks[-1].append(row)
        else:
            chunks.append([row])
            prompt, completion = prompts[row], completions[row]
        widest_prompt, widest_completion = prompt, completion
    return chunks

"""Padding-free batches: generation and log-probabilities without computing on padding or the same prompt twice.

TRL pads a batch to its longest prompt and its longest completion and computes all of it. Where the model allows,
completions are sampled by ``sampling.sample`` instead of ``generate``, and log-probabilities are computed in packed
rows that share prompts, or in chunks of rows of like length (``log_probabilities``). Rows without advantage are left
out of the loss. The results are TRL's, up to rounding and to the random numbers; what a model allows is measured once,
at start (``probe``).

Letters: B rows of a batch, P prompt tokens (left-padded), C completion tokens (right-padded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object, is_peft_model
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from grpo_project.generation import (
    generation_batch,
    log_probabilities,
    merged_weights,
    probe,
    sampling,
    vllm_requests,
)
from grpo_project.generation.generation_batch import Batch
from grpo_project.generation.log_probabilities import LogProbabilities
from grpo_project.generation.probe import Choice, Sampler, Way

MAX_TOKENS = {"cpu": 1024}
"""Tokens of a micro-batch at most, by type of device: no more than the caches hold, no fewer than keep it busy."""
MAX_TOKENS_ELSEWHERE = 16_384


class PaddingFreeBatches(GRPOTrainer):
    """Set ``padding_free`` to ``False``, before anything else, for TRL's own way.

    After construction ``way`` and ``sampler`` say what was chosen, and why nothing faster.
    """

    padding_free = True
    way: Choice
    sampler: Choice
    _keys: Sequence[int] | None = None
    _on_completion: Callable[[int, list[int]], None] | None = None
    _should_stop: Callable[[], bool] | None = None
    _sampled_entropy: torch.Tensor | None = None
    """Of the completions just sampled; ``_generate_and_score_completions`` puts it into their batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.way, self.sampler = self._choose_way(), self._choose_sampler()
        if self.use_vllm:
            self._prepare_vllm()
        self._cell_cost = (
            log_probabilities.cell_cost(self.model, self.args.device) if self.way.way == Way.PACKED else 0.0
        )

    @contextmanager
    def generating(
        self,
        keys: Sequence[int],
        on_completion: Callable[[int, list[int]], None],
        should_stop: Callable[[], bool] | None = None,
    ) -> Iterator[None]:
        """What TRL's call to generate within it is about, which hands nothing of ours through.

        Args:
            keys: of this rank's B completions (``uniforms.completion_key``).
            on_completion: called as ``(row, ids)`` when one has ended, while others are still being sampled.
            should_stop: asked at each token; all completions end where they are, for whoever throws them away.
        """
        self._keys, self._on_completion, self._should_stop = keys, on_completion, should_stop
        try:
            yield
        finally:
            self._keys, self._on_completion, self._should_stop = None, None, None

    def _prepare_vllm(self) -> None:
        """Have TRL's vLLM read merged copies of LoRA's weights, and take a seed and a stop for each completion."""
        if is_peft_model(self.model) and not self._is_sharded:
            merged_weights.sync_merged_copies(self.vllm_generation)
        if (
            self.vllm_mode != "colocate" or self.vllm_tensor_parallel_size > 1
        ):  # a server, or one batch of several ranks
            return
        llm = self.vllm_generation.llm
        whole_batch = llm.generate

        def generate(prompts: Sequence[Any], sampling_params: Any = None, use_tqdm: bool = False) -> list[Any]:
            if self._keys is None or self._on_completion is None:  # outside of `generating`
                return whole_batch(prompts, sampling_params=sampling_params, use_tqdm=use_tqdm)
            return vllm_requests.generate(
                llm, prompts, sampling_params, self._keys, self._on_completion, self.between_tokens
            )

        llm.generate = generate

    def between_tokens(self) -> None:
        """Called after each token of another engine's; may raise to leave."""

    def _choose_way(self) -> Choice:
        if not self.padding_free:
            return Choice(Way.PADDED, ("another way: switched off",))
        if self.pad_to_multiple_of is not None:
            return Choice(Way.PADDED, ("another way: pad_to_multiple_of asks for padding",))
        if self._is_sharded:
            return Choice(Way.PADDED, ("another way: the weights are sharded over processes",))
        alone = self.accelerator.num_processes == 1
        checkpointing = self.args.gradient_checkpointing_kwargs or {}
        if not alone and self.args.gradient_checkpointing and checkpointing.get("use_reentrant"):
            # Each of several forward passes would hand its gradients to DistributedDataParallel by itself.
            return Choice(Way.PADDED, ("another way: reentrant gradient checkpointing on several ranks",))
        choice = probe.log_probability_way(self.model, self.accelerator.autocast, packed=alone)
        if alone:
            return choice
        reason = f"{Way.PACKED.value}: several ranks have to call the model equally often"
        return Choice(choice.way, (reason, *choice.passed_over))

    def _choose_sampler(self) -> Choice:
        reason = None
        if not self.padding_free:
            reason = "switched off"
        elif self.use_vllm or self.use_transformers_continuous_batching:
            reason = "another engine samples"
        elif self._is_sharded:
            reason = "the weights are sharded over processes, which have to call the model equally often"
        elif self.pad_to_multiple_of is not None:
            reason = "pad_to_multiple_of asks for padding"
        if reason is not None:
            return Choice(Sampler.GENERATE, (f"{Sampler.OURS.value}: {reason}",))
        return probe.sampler(self.model, self.generation_config)

    @property
    def _is_sharded(self) -> bool:
        return self.is_fsdp_enabled or self.is_deepspeed_enabled

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        if images or multimodal_fields or self.sampler.way != Sampler.OURS or not self.padding_free:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, *args, **kwargs)
        # Outside of `generating` (TRL's own evaluation) any keys do: numbers of torch's state.
        keys = self._keys or torch.randint(2**63 - 1, (len(prompt_ids),)).tolist()
        # The ids and no log-probabilities, as TRL's own branch for transformers returns them (TRL 1.16
        # grpo_trainer.py:1891). Unlike there no weights are gathered: sharded models don't come here.
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs
        ) as model:
            ids, self._sampled_entropy = sampling.sample_with_entropies(
                model, prompt_ids, self.generation_config, keys, self._on_completion
            )
        return ids, None

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        batch = super()._generate_and_score_completions(inputs)
        if self._sampled_entropy is not None:
            batch[generation_batch.SAMPLED_ENTROPY], self._sampled_entropy = self._sampled_entropy, None
        return batch

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
        # A balancing loss is one of the whole batch.
        if self.way.way == Way.PADDED or not self.padding_free or compute_aux_loss or has_media:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss, **media
            )
        limit = MAX_TOKENS.get(input_ids.device.type, MAX_TOKENS_ELSEWHERE)
        if batch_size is not None:  # TRL's own bound on what is computed at once
            limit = min(limit, batch_size * input_ids.size(1))
        found = self._log_probabilities(model, input_ids, attention_mask, logits_to_keep, limit, compute_entropy)
        return *found, None

    def _log_probabilities(
        self, model: Any, ids: torch.Tensor, mask: torch.Tensor, width: int, limit: int, compute_entropy: bool
    ) -> LogProbabilities:
        settings: dict[str, Any] = {"compute_entropy": compute_entropy, "autocast": self.accelerator.autocast}
        if self.way.way == Way.PACKED and bool(mask[:, -width:].any()):
            rows = log_probabilities.cheapest_packing(ids, mask, width, limit, self._cell_cost)
            if rows is not None:
                return log_probabilities.packed(model, ids, mask, width, rows=rows, max_tokens=limit, **settings)
        prompts, lengths = mask[:, :-width].sum(dim=1).tolist(), mask.sum(dim=1).tolist()
        if self.way.way == Way.BY_PROMPT_LENGTH:
            chunks = log_probabilities.without_left_padding(prompts, lengths, limit)
        else:
            chunks = log_probabilities.chunks_of_like_length(lengths, limit)
        if self.accelerator.num_processes > 1:  # all have to call the model equally often; each has as many rows
            chunks = log_probabilities.at_least(max(gather_object([len(chunks)])), chunks)
        return log_probabilities.by_length(model, ids, mask, width, chunks=chunks, **settings)

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        """TRL's loss, computed over the rows that have an advantage: the others have no part in its gradient.

        TRL's metrics of this pass, ``entropy`` and the clip ratios, are put right to be of all rows, as they are with
        TRL; ``trained/entropy`` is that of the rows that were computed.
        """
        if not self.model.training:
            return super()._compute_loss(model, inputs)
        metrics = self._metrics["train"]
        if not self._only_advantages_count:
            loss = super()._compute_loss(model, inputs)
            metrics["trained/entropy"].append(metrics["entropy"][-1])
            return loss
        # As many on every rank, and at least one: all of them take part in gathering metrics (TRL 1.16
        # grpo_trainer.py:3264 and 3284) and in the backward pass.
        most = max(1, *gather_object([int(inputs["advantages"].count_nonzero())]))
        rows = generation_batch.live_rows(inputs, at_least=most)
        kept = inputs if len(rows) == len(inputs["advantages"]) else generation_batch.take(inputs, rows)
        loss = super()._compute_loss(model, kept) * generation_batch.share_of_loss(self.loss_type, kept, inputs)
        metrics["trained/entropy"].append(metrics["entropy"][-1])
        if kept is not inputs:
            self._count_idle_rows(model, metrics, inputs, rows)
        return loss

    def _count_idle_rows(self, model: Any, metrics: dict[str, list[float]], batch: Batch, kept: torch.Tensor) -> None:
        """Put the rows beside ``kept`` into the metrics just logged: their entropy, and that none of them is clipped.

        A ratio is clipped where the advantage is above or below 0 (TRL 1.16 grpo_trainer.py:3273).
        """
        idle = generation_batch.take(batch, generation_batch.others(batch, kept))
        tokens = idle["completion_mask"].sum(dim=1)
        entropy = idle.get(generation_batch.SAMPLED_ENTROPY)
        if entropy is None:  # another engine sampled, or an older version: computed now
            ids = torch.cat([idle["prompt_ids"], idle["completion_ids"]], dim=1)
            mask = torch.cat([idle["prompt_mask"], idle["completion_mask"]], dim=1)
            width = idle["completion_ids"].size(1)
            with torch.no_grad():
                entropies = self._get_per_token_logps_and_entropies(model, ids, mask, width, compute_entropy=True)[1]
            entropy = (entropies * idle["completion_mask"]).sum(dim=1)
        computed = batch["completion_mask"][kept].sum()
        sums = torch.stack([(entropy * (tokens > 0)).sum(), tokens.sum().float(), computed.float()])
        idle_entropy, idle_tokens, computed_tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
        total = max(idle_tokens + computed_tokens, 1.0)
        metrics["entropy"][-1] = (metrics["entropy"][-1] * computed_tokens + idle_entropy) / total
        share = computed_tokens / total
        if self.importance_sampling_level == "sequence":  # a ratio of a sequence, not of a token
            share = len(kept) / len(batch["advantages"])
        for name in ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "cispo_clip_ratio"):
            if metrics.get(name):
                metrics[name][-1] *= share
        if idle_tokens and metrics.get("clip_ratio/low_min"):
            metrics["clip_ratio/low_min"][-1] = 0.0

    @property
    def _only_advantages_count(self) -> bool:
        """Whether the loss has no term that a row without advantage contributes to."""  # TRL 1.16 grpo_trainer.py:3154
        more = self._entropy_bonus_enabled or self.aux_loss_enabled or self.top_entropy_quantile < 1.0
        return self.beta == 0.0 and not more

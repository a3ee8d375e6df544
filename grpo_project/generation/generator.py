"""Text from a model that is being trained, without leaving a trace in it.

Letters: B prompts of a batch, T prompt tokens (left-padded), C generated tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel
from torch.distributed.fsdp import FSDPModule
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList
from trl.distributed import DistributedBackend
from trl.models import unwrap_model_for_generation

from grpo_project.generation import probe, sampling
from grpo_project.generation.probe import Sampler
from grpo_project.generation.random_state import preserved_random_state
from grpo_project.generation.request import Generation
from grpo_project.problems.prompt import has_chat_template


@contextmanager
def generation_mode(
    model: Any, accelerator: Accelerator | None = None, gradient_checkpointing_kwargs: dict[str, Any] | None = None
) -> Iterator[Any]:
    """Yield the model ready to generate; put every module's mode and the random state back at the end.

    With an ``accelerator``, ``model`` may be wrapped or sharded (DDP, FSDP, DeepSpeed ZeRO-3): TRL's own unwrapping
    gathers the weights, and turns gradient checkpointing off and on with ``gradient_checkpointing_kwargs``. Without one
    the model must hold its weights itself. (Modules in evaluation mode don't checkpoint anyway.)
    """
    in_training = [module for module in model.modules() if module.training]
    failure: BaseException | None = None
    with preserved_random_state(), ExitStack() as stack:
        if accelerator is not None:
            unwrapped = stack.enter_context(
                unwrap_model_for_generation(
                    model, accelerator, gradient_checkpointing_kwargs=gradient_checkpointing_kwargs
                )
            )
            stack.enter_context(DistributedBackend(accelerator).summon_full_params(model, recurse=False))
        else:
            unwrapped = extract_model_from_parallel(model)
        model.eval()
        try:
            with torch.no_grad():
                yield unwrapped
        except BaseException as error:  # noqa: BLE001 - raised below: TRL's unwrapping puts nothing back after an error
            failure = error
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # a forward pass that no backward follows leaves the outermost weights gathered
        for module in in_training:
            module.training = True
    if failure is not None:
        raise failure


class StopWhen(StoppingCriteria):
    """Ends all completions of a batch as soon as ``requested()`` is true."""

    def __init__(self, requested: Callable[[], bool]) -> None:
        self.requested = requested

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.requested(), device=input_ids.device)


class ReportEnded(StoppingCriteria):
    """Reports each completion of a batch as soon as it has its end token; stops nothing.

    Args:
        end_tokens: those that end a completion.
        report: called as ``(row, ids)`` with the whole row, prompt included.
    """

    def __init__(self, end_tokens: Iterable[int], report: Callable[[int, list[int]], None]) -> None:
        self.end_tokens = frozenset(end_tokens)
        self.report = report
        self.reported: set[int] = set()
        self.none_stopped: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        if self.none_stopped is None:
            self.none_stopped = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if token in self.end_tokens and row not in self.reported:  # padding may be an end token too
                self.reported.add(row)
                self.report(row, input_ids[row].tolist())
        return self.none_stopped


class Generator:
    """Turns prompts into completions: by ``sampling.sample``, or ``model.generate`` where that has no support.

    Args:
        tokenizer: the model's; padding is on the left here whatever its own setting.
        max_new_tokens: C at most.
        temperature: 0 is greedy; otherwise plain sampling (no top-k, no top-p, no repetition penalty).
        should_stop: asked at each token; ends the completions where they are.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.should_stop = should_stop

    def generate(
        self,
        model: Any,
        prompts: Sequence[str],
        keys: Sequence[int],
        on_end: Callable[[int, Generation], None] = lambda row, made: None,
        *,
        in_lockstep: bool = False,
    ) -> list[Generation]:
        """One completion for each prompt, in order. Use it within ``generation_mode``.

        A prompt that fills the model's context gets an empty completion of no tokens, marked as truncated.

        Args:
            keys: what each completion's random numbers come from (``uniforms.completion_key``).
            on_end: called as ``(row, completion)`` once for each, while others of the batch may still be going on.
            in_lockstep: go on until all ranks are done, since each forward pass gathers weights from all of them.
        """
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
        encoded = self.encode(prompts)
        fits = [len(ids) < context for ids in encoded]
        longest = max((len(ids) for ids, fit in zip(encoded, fits, strict=True) if fit), default=1)
        # One token stands in for a prompt that does not fit: every rank generates for every batch.
        kept = [ids if fit else ids[:1] for ids, fit in zip(encoded, fits, strict=True)]
        config = self.config(model, max_new_tokens=min(self.max_new_tokens, context - longest))
        ends = set(config.eos_token_id)
        made: dict[int, Generation] = {}

        def report(row: int, ids: list[int]) -> None:
            made[row] = self._decode(ids, ends) if fits[row] else Generation("", 0, truncated=True)
            on_end(row, made[row])

        if in_lockstep or probe.sampler(model, config).way != Sampler.OURS:
            torch.manual_seed(keys[0] >> 1)  # of 63 bits: `generate` has one stream for the whole batch
            completions = self._by_transformers(model, kept, config, report, in_lockstep)
        else:
            completions = sampling.sample(model, kept, config, keys, report, self.should_stop)
        for row, ids in enumerate(completions):
            if row not in made:
                report(row, ids)
        return [made[row] for row in range(len(prompts))]

    def is_independent(self, model: Any) -> bool:
        """Whether a completion is the same whatever else is in its batch: ``generate`` samples from one stream."""
        return self.temperature == 0 or probe.sampler(model, self.config(model, 1)).way == Sampler.OURS

    def _by_transformers(
        self,
        model: Any,
        prompts: Sequence[list[int]],
        config: GenerationConfig,
        report: Callable[[int, list[int]], None],
        in_lockstep: bool,
    ) -> list[list[int]]:
        """Generated ids, (B, C), by ``model.generate``; ``report`` gets those of a row that has ended."""
        inputs = self.pad(prompts)
        start = inputs["input_ids"].shape[1]
        stopping = [] if self.should_stop is None else [StopWhen(self.should_stop)]
        reporting = ReportEnded(config.eos_token_id, lambda row, ids: report(row, ids[start:]))
        output = model.generate(
            **{name: tensor.to(model.device) for name, tensor in inputs.items()},
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([*stopping, reporting]),
            # transformers finds out by itself for ZeRO-3 and FSDP 2, not for an FSDP 1 model that was unwrapped.
            synced_gpus=True if in_lockstep else None,
        )
        return output[:, start:].tolist()

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered prompts, the same as TRL's in training."""
        # A rendered conversation holds its special tokens already; plain text gets the tokenizer's.
        special = not has_chat_template(self.tokenizer)
        return self.tokenizer(list(prompts), add_special_tokens=special, verbose=False)["input_ids"]

    def pad(self, prompts: Sequence[list[int]]) -> dict[str, torch.Tensor]:
        """``input_ids`` and ``attention_mask``, (B, T), padded on the left."""
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def config(self, model: Any, max_new_tokens: int) -> GenerationConfig:
        """Plain sampling. What else the model's folder asks for (suppressed tokens, bad words) ``generate`` adds."""
        settings = {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=self.end_tokens(model),
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            repetition_penalty=1.0,
            disable_compile=True,
            **(settings if self.temperature > 0 else {"do_sample": False}),
        )

    def end_tokens(self, model: Any) -> list[int]:
        """The tokenizer's end token and those of the model's own generation settings."""
        configured = model.generation_config.eos_token_id
        configured = configured if isinstance(configured, list) else [configured]
        return sorted({token for token in [*configured, self.tokenizer.eos_token_id] if token is not None})

    def _decode(self, ids: list[int], end_tokens: set[int]) -> Generation:
        end = next((i for i, token in enumerate(ids) if token in end_tokens), None)
        kept = ids if end is None else ids[: end + 1]
        return Generation(self.tokenizer.decode(kept, skip_special_tokens=True), len(kept), truncated=end is None)

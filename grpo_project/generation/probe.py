"""Which code computes a model, decided by measurement on the model itself, once, at start.

Class names and version strings can't say whether a model takes a mask of our making or a cache whose rows leave: they
were wrong for eight families. So a few short sequences go through each way, and each alone, as a batch of one without
any padding; log-probabilities and a gradient are compared. The first way that gives what the rows alone give is taken:
packed rows, chunks of like length, chunks without padding on the left, TRL's padded batch. Likewise
``sampling.sample`` has to choose the tokens that are likeliest when the sequence is computed anew, without a cache.

What a short computation can't show is asked about beforehand: windows and chunks wider than the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import GenerationConfig

from grpo_project.generation import log_probabilities, sampling
from grpo_project.generation.log_probabilities import Autocast
from grpo_project.generation.random_state import preserved_random_state


class Way(StrEnum):
    """How log-probabilities are computed, the fastest first."""

    PACKED = "packed rows that share prompts"
    BY_LENGTH = "chunks of like length"
    BY_PROMPT_LENGTH = "chunks of like length without padding on the left"
    PADDED = "TRL's padded batch"


class Sampler(StrEnum):
    """What samples."""

    OURS = "our sampler"
    GENERATE = "generate"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and why nothing faster: one reason for each way that was passed over."""

    way: Way | Sampler
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.way.value + "".join(f"; not {reason}" for reason in self.passed_over)


def is_out_of_memory(error: BaseException) -> bool:
    """The accelerator's memory, or the machine's, did not suffice."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and should_reduce_batch_size(error)
    )


WIDEST_WINDOW = 256
"""Tokens: the widest window or chunk that the probe's sequences are made longer than."""

TOLERANCES = {torch.float32: (1e-4, 1e-2), torch.float64: (1e-6, 1e-4), torch.float16: (2e-2, 0.1)}
"""Per type of the weights: of log-probabilities, in the mean, and of a weight's gradient, relative."""
TOLERANCE_ELSEWHERE = (5e-2, 0.3)  # bfloat16; SmolLM2-135M differs by 0.05 and 0.12 from itself

PROBED_WEIGHTS = 12
"""Weights whose gradients are compared, the first ones of the model: theirs goes through every layer."""

TOKENS_SAMPLED = 8


def log_probability_way(model: Any, autocast: Autocast = nullcontext, packed: bool = True) -> Choice:
    """The first way of computing log-probabilities that gives what rows alone give.

    Args:
        model: unwrapped, with its weights and TRL's fused head; left as it was.
        packed: whether packed rows are wanted at all.
    """
    prompts, completions = _sequences(model)
    ids, mask, width = _padded(prompts, completions, model.device)
    lengths = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]
    prompt_lengths, every = [len(prompt) for prompt in prompts], sum(lengths)
    rows = log_probabilities.all_packed(ids, mask, width, every)

    def in_chunks(chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        return log_probabilities.by_length(model, ids, mask, width, chunks=chunks, autocast=autocast)[0]

    ways: dict[Way, Callable[[], torch.Tensor]] = {
        Way.PACKED: lambda: log_probabilities.packed(
            model, ids, mask, width, rows=rows, max_tokens=2 * every, autocast=autocast
        )[0],
        Way.BY_LENGTH: lambda: in_chunks([list(range(len(ids)))]),
        Way.BY_PROMPT_LENGTH: lambda: in_chunks(
            log_probabilities.without_left_padding(prompt_lengths, lengths, len(ids) * every)
        ),
    }
    passed_over: list[str] = []
    if not packed:
        del ways[Way.PACKED]
    elif reason := _unpackable(model):
        passed_over.append(f"{Way.PACKED.value}: {reason}")
        del ways[Way.PACKED]
    with autocast():
        kind = model.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.dtype
    with _evaluating(model), preserved_random_state():
        scored = mask[:, -width:].bool()
        try:
            alone = _measured(model, lambda: in_chunks([[row] for row in range(len(ids))]), scored)
        except Exception as error:  # the boundary of the probe: any model may raise anything
            if is_out_of_memory(error):
                raise
            return Choice(Way.PADDED, (*passed_over, f"another way: a row alone raises {_in_short(error)}"))
        for way, compute in ways.items():
            try:
                reason = _difference(_measured(model, compute, scored), alone, dtype)
            except Exception as error:  # the same: this way is not for this model
                if is_out_of_memory(error):
                    raise
                reason = f"raises {_in_short(error)}"
            if reason is None:
                return Choice(way, tuple(passed_over))
            passed_over.append(f"{way.value}: {reason}")
    return Choice(Way.PADDED, tuple(passed_over))


_samplers: WeakKeyDictionary[Any, Choice] = WeakKeyDictionary()


def sampler(model: Any, config: GenerationConfig) -> Choice:
    """Whether ``sampling.sample`` is right for this model and ``config``. The model is probed once in its life."""
    if reason := sampling.unsupported(model, config):
        return Choice(Sampler.GENERATE, (f"{Sampler.OURS.value}: {reason}",))
    base = sampling.without_adapter(model)
    if base not in _samplers:
        try:
            _samplers[base] = _probed_sampler(model)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return Choice(Sampler.GENERATE, (f"{Sampler.OURS.value}: out of memory in the probe",))
    return _samplers[base]


def _probed_sampler(model: Any) -> Choice:
    prompts, _ = _sequences(model)
    unlike = [prompts[0], prompts[0], prompts[-1], prompts[-1][:2]]
    config = GenerationConfig(do_sample=False, max_new_tokens=TOKENS_SAMPLED, pad_token_id=0, eos_token_id=[-1])
    with _evaluating(model), preserved_random_state(), torch.no_grad():
        try:
            first = sampling.sample(model, unlike, config)
            config.eos_token_id = [first[0][1], first[2][2]]  # so that rows leave, at different times
            worst = 0.0
            for prompt, ids in zip(unlike, sampling.sample(model, unlike, config), strict=True):
                logits = model(input_ids=torch.tensor([[*prompt, *ids[:-1]]], device=model.device)).logits[0].float()
                logits = logits[len(prompt) - 1 :].log_softmax(dim=-1)
                chosen = logits.gather(1, torch.tensor(ids, device=model.device)[:, None])
                worst = max(worst, float((logits.max(dim=-1, keepdim=True).values - chosen).max()))
        except Exception as error:  # the same: our sampler is not for this model
            if is_out_of_memory(error):
                raise
            return Choice(Sampler.GENERATE, (f"{Sampler.OURS.value}: raises {_in_short(error)}",))
    tolerance = 10 * TOLERANCES.get(model.dtype, TOLERANCE_ELSEWHERE)[0]
    if worst > tolerance:
        reason = (
            f"it chose a token {worst:.2g} less likely, in logarithms, than the likeliest (tolerance {tolerance:.2g})"
        )
        return Choice(Sampler.GENERATE, (f"{Sampler.OURS.value}: {reason}",))
    return Choice(Sampler.OURS)


def _unpackable(model: Any) -> str | None:
    """What rules packing out without a computation, in words."""
    if hasattr(model, "get_base_model") and model.active_peft_config.is_prompt_learning:
        return "PEFT's prompt learning puts tokens of its own in front"
    implementation = model.config._attn_implementation
    if implementation not in ("sdpa", "eager"):
        return f"{implementation} attention takes no mask of ours"
    if reason := sampling.windows_or_states(sampling.without_adapter(model)):
        return reason
    wide = {name: width for name, width in _windows(model).items() if width > WIDEST_WINDOW}
    return ", ".join(f"{name} is {width} tokens, more than a probe can show" for name, width in wide.items()) or None


def _windows(model: Any) -> dict[str, int]:
    """What in the configuration may be the width of a window or chunk of attention."""
    settings = vars(model.config.get_text_config())
    return {
        name: value
        for name, value in settings.items()
        if ("window" in name or name.endswith("chunk_size")) and isinstance(value, int) and value > 1
    }


def _sequences(model: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Six prompts and completions, of two prompts, longer than the model's windows and of different lengths."""
    widest = max((width for width in _windows(model).values() if width <= WIDEST_WINDOW), default=0)
    words = model.config.get_text_config().vocab_size
    made = 0

    def tokens(count: int) -> list[int]:
        nonlocal made
        made += count
        return [words // 4 + 37 * (made + i) % max(1, words // 2) for i in range(count)]

    long, short = tokens(9 + widest), tokens(4)
    return [long, short, long, short, long, short], [tokens(count) for count in (7, 3, 2, 11, 5, 1)]


def _padded(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """(B, P + C) ids and mask as TRL pads them, and C."""
    left, width = max(map(len, prompts)), max(map(len, completions))
    ids = torch.zeros((len(prompts), left + width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        columns = slice(left - len(prompt), left + len(completion))
        ids[row, columns] = torch.tensor([*prompt, *completion])
        mask[row, columns] = 1
    return ids.to(device), mask.to(device), width


Measured = tuple[torch.Tensor, list[torch.Tensor]]
"""Log-probabilities of the completions' tokens, and the gradients of some weights."""


def _measured(model: Any, compute: Callable[[], torch.Tensor], scored: torch.Tensor) -> Measured:
    logps = compute()[scored]
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    inner = [weight for name, weight in trained if "embed" not in name and weight.dim() > 1] or [w for _, w in trained]
    weights = inner[:PROBED_WEIGHTS]
    if not weights:
        return logps.detach(), []
    signs = torch.linspace(-1, 1, len(logps), device=logps.device)
    gradients = torch.autograd.grad((logps * signs).sum(), weights, allow_unused=True)
    return logps.detach(), [g.float() for g in gradients if g is not None]


def _difference(found: Measured, alone: Measured, dtype: torch.dtype) -> str | None:
    """How the two differ, in words; ``None`` within the tolerance."""
    tolerance, relative = TOLERANCES.get(dtype, TOLERANCE_ELSEWHERE)
    off = float((found[0] - alone[0]).abs().mean())
    if not off <= tolerance * max(1.0, float(alone[0].abs().mean())):
        return f"log-probabilities differ by {off:.2g} in the mean from those of rows alone (tolerance {tolerance:.2g})"
    # A weight without influence has a gradient of rounding errors, as large as the others'.
    eps = torch.finfo(dtype if dtype.is_floating_point else torch.bfloat16).eps
    noise = eps * max((float(g.norm()) for g in alone[1]), default=0.0)
    for mine, right in zip(found[1], alone[1], strict=True):
        wrong = float((mine - right).norm())
        if not wrong <= relative * float(right.norm()) + noise:
            return f"a gradient differs by {wrong / float(right.norm()):.2g} of its size (tolerance {relative:.2g})"
    return None


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Without dropout and gradient checkpointing, which go by the modules' mode; each module's is put back."""
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


def _in_short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error).strip() else ''}"

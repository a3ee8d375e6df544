"""What computes a model is decided by a measurement on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from small_trainer import build
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    GenerationConfig,
    GPTNeoConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    RwkvConfig,
)
from trl.trainer.utils import add_fused_lm_head

from grpo_project.generation import probe
from grpo_project.generation.probe import Choice, Sampler, Way

SIZES: dict[str, Any] = {"vocab_size": 128, "hidden_size": 32, "initializer_range": 0.3, "pad_token_id": 0}
CONFIG = GenerationConfig(max_new_tokens=8, do_sample=True, top_k=0, pad_token_id=0, eos_token_id=2)


def small(config: Any, attention: str | None = "sdpa", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).to(dtype)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model


def llama(**changes: Any) -> LlamaConfig:
    return LlamaConfig(**SIZES | {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4} | changes)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [0.02, 0.3])
def test_a_plain_model_takes_the_fastest_way(attention: str, dtype: torch.dtype, spread: float) -> None:
    model = small(llama(initializer_range=spread), attention, dtype).train()
    state, random = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    assert probe.log_probability_way(model) == Choice(Way.PACKED)
    assert probe.sampler(model, CONFIG) == Choice(Sampler.OURS)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert model.training and all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("spread", [0.02, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_that_hides_nothing_is_noticed(
    monkeypatch: pytest.MonkeyPatch, spread: float, dtype: torch.dtype
) -> None:
    """The defect that eager attention had: booleans, which it adds. Freshly made weights too, all but uniform."""
    monkeypatch.setattr("grpo_project.generation.packing.as_taken_by", lambda model, attended: attended)
    choice = probe.log_probability_way(small(llama(initializer_range=spread), "eager", dtype))
    assert choice.way == Way.BY_LENGTH
    assert choice.passed_over[0].startswith(f"{Way.PACKED.value}: ")


def test_what_cannot_be_packed_goes_by_length() -> None:
    window = MistralConfig(
        **SIZES, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        sliding_window=4096,
    )  # fmt: skip
    alibi = FalconConfig(**SIZES, num_hidden_layers=2, num_attention_heads=4, alibi=True)
    for config, reason in ((window, "DynamicSlidingWindowLayer"), (alibi, "raises ValueError")):
        choice = probe.log_probability_way(small(config))
        assert choice.way == Way.BY_LENGTH
        assert reason in choice.passed_over[0]
    assert "DynamicSlidingWindowLayer" in probe.sampler(small(window), CONFIG).passed_over[0]
    with_prompt = get_peft_model(small(llama()), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    choice = probe.log_probability_way(with_prompt)
    assert choice.way != Way.PACKED
    assert "prompt learning" in choice.passed_over[0]
    assert probe.sampler(with_prompt, CONFIG).way == Sampler.GENERATE


def test_a_window_within_the_attention_itself_is_noticed() -> None:
    """GPT-Neo's local layers: nothing in its cache tells of them, and they count places, not positions."""
    local: dict[str, Any] = {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4}
    for width, way in ((8, Way.BY_PROMPT_LENGTH), (200, Way.BY_PROMPT_LENGTH), (2000, Way.BY_PROMPT_LENGTH)):
        config = GPTNeoConfig(**SIZES, **local, window_size=width, max_position_embeddings=512)
        choice = probe.log_probability_way(small(config, "eager"))
        assert choice.way == way
        assert len(choice.passed_over) == 2


def test_a_model_that_sees_its_padding_gets_none_on_the_left() -> None:
    choice = probe.log_probability_way(small(RwkvConfig(vocab_size=128, hidden_size=32, num_hidden_layers=2), "eager"))
    assert choice.way == Way.BY_PROMPT_LENGTH


def test_a_cache_that_is_wrong_is_noticed() -> None:
    """A model whose cached keys come out in another order is sampled by ``generate``."""
    model = small(llama())
    forward = model.forward

    def reversed_cache(*args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        if past_key_values is not None and past_key_values.get_seq_length():
            for layer in past_key_values.layers:
                layer.values = layer.values.flip(-2)
        return forward(*args, past_key_values=past_key_values, **kwargs)

    reversed_cache.__signature__ = __import__("inspect").signature(forward)  # type: ignore[attr-defined]
    model.forward = reversed_cache
    choice = probe.sampler(model, CONFIG)
    assert choice.way == Sampler.GENERATE
    assert "less likely" in choice.passed_over[0]


def test_running_out_of_memory_is_no_reason_to_pass_a_way_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("grpo_project.generation.log_probabilities.packed", full)
    with pytest.raises(torch.OutOfMemoryError):
        probe.log_probability_way(small(llama()))


def test_the_trainer_says_why(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(tiny_model, tmp_path, set())
    assert (trainer.way, trainer.sampler) == (Choice(Way.PACKED), Choice(Sampler.OURS))
    padded = build(tiny_model, tmp_path, set(), pad_to_multiple_of=8)
    assert str(padded.way) == "TRL's padded batch; not another way: pad_to_multiple_of asks for padding"
    assert padded.sampler.way == Sampler.GENERATE

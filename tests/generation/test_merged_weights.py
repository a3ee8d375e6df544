"""Weights for another engine: what the merged model has, and the base is not touched by a bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from grpo_project.generation.merged_weights import merged_parameters

SYNCS = 50


def lora_model(folder: Path, dtype: torch.dtype, **settings: Any) -> Any:
    """A real PEFT model whose adapter does something."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM", **settings)
    model = get_peft_model(base, config)
    change_adapter(model)
    return model


def change_adapter(model: Any) -> None:
    """As a step of training does."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def base_weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.named_parameters() if "lora_" not in name}


def changed_bits(before: dict[str, torch.Tensor], model: Any) -> int:
    now = base_weights(model)
    assert now.keys() == before.keys()
    different = (before[name].view(torch.int16) ^ now[name].view(torch.int16) for name in now)
    return sum(bin(word & 0xFFFF).count("1") for words in different for word in words.flatten().tolist())


def test_fifty_syncs_change_no_bit_of_the_base_in_bf16(tiny_model: Path) -> None:
    torch.manual_seed(0)
    model = lora_model(tiny_model, torch.bfloat16)
    before = base_weights(model)
    for _ in range(SYNCS):
        for _ in merged_parameters(model):
            pass
        change_adapter(model)
    assert changed_bits(before, model) == 0
    assert not any(module.merged for module in model.modules() if hasattr(module, "merged_adapters"))


def test_merging_in_place_as_upstream_does_changes_many(tiny_model: Path) -> None:
    """Should this fail one day, TRL's own way is good enough and ours can go."""
    torch.manual_seed(0)
    model = lora_model(tiny_model, torch.bfloat16)
    before = base_weights(model)
    for _ in range(SYNCS):
        model.merge_adapter()
        model.unmerge_adapter()
        change_adapter(model)
    assert changed_bits(before, model) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}], ids=str)
def test_what_is_handed_over_is_the_merged_model(
    tiny_model: Path, dtype: torch.dtype, settings: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = lora_model(tiny_model, dtype, **settings)
    wanted = dict(copy.deepcopy(model).merge_and_unload().named_parameters())
    found = {name: weight.clone() for name, weight in merged_parameters(model)}
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert torch.equal(found[name], weight), name


def test_a_sync_that_is_broken_off_leaves_the_model_as_it_was(tiny_model: Path) -> None:
    model = lora_model(tiny_model, torch.bfloat16)
    before = base_weights(model)
    names = merged_parameters(model)
    while "q_proj" not in next(names)[0]:
        pass
    names.close()
    assert changed_bits(before, model) == 0

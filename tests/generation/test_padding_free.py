"""Without padding the results are TRL's and transformers' own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from small_trainer import build
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
)

from grpo_project.generation import packing
from grpo_project.generation.packing import pack
from grpo_project.generation.padding_free import PaddingFreeBatches, chunks_of_like_length
from grpo_project.generation.sampling import sample, supports

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [20, 21], [20, 21], [40, 41, 42, 43], [5, 6, 7, 8, 9, 10, 11], [60]]
PLAIN = {"max_new_tokens": 12, "do_sample": True, "pad_token_id": 0, "eos_token_id": [1]}


def model_of(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def gpt2() -> Any:
    """Learned positions: a prompt's place in the padding must not matter."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=80, n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3)
    )


def generated(model: Any, prompts: list[list[int]], **settings: Any) -> list[list[int]]:
    """What ``generate`` gives, up to the end token."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    output = model.generate(input_ids=ids, attention_mask=mask, generation_config=GenerationConfig(**settings))
    found = []
    for row in output[:, longest:].tolist():
        end = next((i for i, token in enumerate(row) if token in settings["eos_token_id"]), len(row))
        found.append(row[: end + 1])
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_likeliest_tokens_are_those_of_generate(tiny_model: Path, family: str) -> None:
    model = (model_of(tiny_model) if family == "llama" else gpt2()).eval()
    endless = generated(model, PROMPTS, **PLAIN | {"top_k": 1, "max_new_tokens": 16, "eos_token_id": [1]})
    settings = PLAIN | {"top_k": 1, "max_new_tokens": 16, "eos_token_id": [endless[0][5], endless[3][2]]}
    ours = sample(model, PROMPTS, GenerationConfig(**settings))
    assert ours == generated(model, PROMPTS, **settings)
    greedy = {name: value for name, value in settings.items() if name != "top_k"} | {"do_sample": False}
    assert sample(model, PROMPTS, GenerationConfig(**greedy)) == ours
    assert len({len(completion) for completion in ours}) > 1, "rows must end at different times to show anything"


def test_completions_follow_the_models_distribution(tiny_model: Path) -> None:
    """The first token of 4,000 samples against the model's own probabilities at temperature 0.7 and top-p 0.9."""
    model = model_of(tiny_model).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(8)  # a distribution with some likely tokens
    config = GenerationConfig(**PLAIN | {"max_new_tokens": 1, "temperature": 0.7, "top_p": 0.9})
    torch.manual_seed(0)
    found = sample(model, [PROMPTS[0]] * 4000, config)
    logits = model(torch.tensor([PROMPTS[0]])).logits[0, -1].double() / 0.7
    ordered, tokens = torch.softmax(logits, dim=-1).sort(descending=True)
    kept = ordered.cumsum(0) - ordered < 0.9
    wanted = dict(zip(tokens[kept].tolist(), (ordered[kept] / ordered[kept].sum()).tolist(), strict=True))
    counts = Counter(completion[0] for completion in found)
    assert counts.keys() <= wanted.keys()
    statistic = sum((counts[token] - 4000 * p) ** 2 / (4000 * p) for token, p in wanted.items())
    degrees = len(wanted) - 1
    assert degrees > 2
    assert statistic < degrees + 4 * (2 * degrees) ** 0.5  # a chi-squared variable, four standard deviations up


def test_a_prompt_is_read_once_and_ended_rows_leave(tiny_model: Path) -> None:
    model = model_of(tiny_model).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight[1] = 0.3  # ends soon
    sizes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda _, __, kwargs: sizes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    torch.manual_seed(0)
    found = sample(model, [[9, 8, 7]] * 30 + [[5, 5]] * 30, GenerationConfig(**PLAIN | {"max_new_tokens": 64}))
    assert sizes[0] == (2, 3)
    assert sizes[1][0] <= 60
    rows = [size[0] for size in sizes[1:]]
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] <= rows[0] // 2
    assert all(completion.count(1) == (completion[-1] == 1) for completion in found)


def test_what_sample_does_not_understand_is_left_to_generate(tiny_model: Path) -> None:
    model = model_of(tiny_model)
    assert supports(model, PLAIN)
    for other in (
        {"repetition_penalty": 1.1},
        {"cache_implementation": "static"},
        {"num_beams": 2},
    ):
        assert not supports(model, PLAIN | other), other
    sliding = MistralForCausalLM(
        MistralConfig(
            vocab_size=80, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, sliding_window=4,
        )
    )  # fmt: skip
    assert not supports(sliding, PLAIN)
    with_prompt = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    assert not supports(with_prompt, PLAIN)
    assert not packing.supports(with_prompt)
    with_lora = get_peft_model(model_of(tiny_model), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    assert supports(with_lora, PLAIN)
    assert packing.supports(with_lora)


def padded_batch(groups: int, size: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Ids and mask of ``groups`` prompts with ``size`` completions each, in mixed order, and the completions' width."""
    torch.manual_seed(0)
    lengths, completions = torch.randint(1, 12, (groups,)), torch.randint(0, 30, (groups * size,))
    prompts = torch.randint(2, 200, (groups, 12)).repeat_interleave(size, dim=0)
    order = torch.randperm(groups * size)
    ids = torch.cat([prompts, torch.randint(2, 200, (groups * size, 30))], dim=1)[order]
    starts, ends = 12 - lengths.repeat_interleave(size)[order], 12 + completions
    columns = torch.arange(42)
    return ids, ((columns >= starts[:, None]) & (columns < ends[:, None])).long(), 30


@pytest.mark.parametrize("compute_entropy", [True, False])
@pytest.mark.parametrize("way", ["packed", "by length"])
def test_log_probabilities_and_gradients_are_those_of_the_padded_batch(
    tiny_model: Path, tmp_path: Path, compute_entropy: bool, way: str
) -> None:
    trainer = build(tiny_model, tmp_path, set())
    ids, mask, width = padded_batch(groups=10, size=4)
    scored = mask[:, -width:].bool()
    ours = trainer._get_per_token_logps_and_entropies if way == "packed" else trainer._by_length
    arguments = (trainer.model, ids, mask, width)
    found, gradients = {}, {}
    for name, compute in (
        (
            "ours",
            lambda: ours(*arguments, *([] if way == "packed" else [256]), compute_entropy=compute_entropy),
        ),
        (
            "trl",
            lambda: super(PaddingFreeBatches, trainer)._get_per_token_logps_and_entropies(
                *arguments, compute_entropy=compute_entropy
            ),
        ),
    ):
        trainer.model.zero_grad()
        logps, entropies, _ = found[name] = compute()
        assert logps.shape == (40, width)
        assert (entropies is not None) == compute_entropy
        ((logps * torch.linspace(-1, 1, width)) * scored).sum().backward()
        gradients[name] = [parameter.grad.clone() for parameter in trainer.model.parameters()]
    torch.testing.assert_close(found["ours"][0][scored], found["trl"][0][scored])
    torch.testing.assert_close(gradients["ours"], gradients["trl"], rtol=1e-4, atol=1e-5)
    if compute_entropy:
        torch.testing.assert_close(found["ours"][1][scored], found["trl"][1][scored])


def test_each_prompt_is_computed_once(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(tiny_model, tmp_path, set())
    ids, mask, width = padded_batch(groups=3, size=8)
    tokens: list[int] = []
    trainer.model.base_model.register_forward_pre_hook(
        lambda _, __, kwargs: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width)
    prompts = {tuple(row[m.bool()].tolist()) for row, m in zip(ids[:, :-width], mask[:, :-width], strict=True)}
    needed = sum(len(prompt) - 1 for prompt in prompts) + int(mask[:, -width:].sum()) + len(ids)
    assert needed <= sum(tokens) < 1.3 * needed
    assert sum(tokens) < 0.6 * ids.numel()


@given(st.data(), st.integers(1, 60))
def test_packing_holds_every_completion_once_within_the_bound(data: st.DataObject, most: int) -> None:
    count = data.draw(st.integers(1, 20))
    prompts = [data.draw(st.sampled_from([(1,), (1, 2), (3, 4, 5)])) for _ in range(count)]
    completions = [tuple(data.draw(st.lists(st.integers(2, 9), max_size=6))) for _ in range(count)]
    packed = pack(prompts, completions, most)
    assert sorted(row for p in packed for row in p.rows) == [row for row in range(count) if completions[row]]
    for p in packed:
        assert [prompts[row] for row in p.rows] == [p.prompt] * len(p.rows)
        assert [completions[row] for row in p.rows] == list(p.completions)
        assert p.tokens <= most or len(p.rows) == 1


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 400))
def test_chunks_hold_every_row_once_within_the_bound(lengths: list[int], tokens: int) -> None:
    chunks = list(chunks_of_like_length(lengths, tokens))
    assert sorted(row for chunk in chunks for row in chunk) == list(range(len(lengths)))
    for chunk in chunks:
        assert len(chunk) * max(lengths[row] for row in chunk) <= tokens or len(chunk) == 1

"""The sampler gives what ``generate`` gives, with random numbers that go by the completion."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, GenerationConfig, GPT2Config, GPT2LMHeadModel

from grpo_project.generation.sampling import InverseCDF, sample, unsupported
from grpo_project.generation.uniforms import completion_key, uniforms

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [20, 21], [20, 21], [40, 41, 42, 43], [5, 6, 7, 8, 9, 10, 11], [60]]
PLAIN = {"max_new_tokens": 12, "do_sample": True, "pad_token_id": 0, "eos_token_id": [1]}


def keys_of(count: int) -> list[int]:
    return [completion_key("test", 0, 1, 2, sample) for sample in range(count)]


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
    ours = sample(model, PROMPTS, GenerationConfig(**settings), keys_of(6))
    assert ours == generated(model, PROMPTS, **settings)
    greedy = {name: value for name, value in settings.items() if name != "top_k"} | {"do_sample": False}
    assert sample(model, PROMPTS, GenerationConfig(**greedy)) == ours
    assert len({len(completion) for completion in ours}) > 1, "rows must end at different times to show anything"


def test_completions_follow_the_models_distribution(tiny_model: Path) -> None:
    """The first token of 4,000 samples against the model's own probabilities at temperature 0.7 and top-p 0.9."""
    model = model_of(tiny_model).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(8)  # a distribution with some likely tokens
    config = GenerationConfig(**PLAIN | {"max_new_tokens": 1, "temperature": 0.7, "top_k": 0, "top_p": 0.9})
    found = sample(model, [PROMPTS[0]] * 4000, config, keys_of(4000))
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


def test_a_completion_is_the_same_whoever_shares_its_batch(tiny_model: Path) -> None:
    """In float64, where no sum of probabilities comes close enough to a random number for rounding to matter."""
    model = model_of(tiny_model).double().eval()
    config = GenerationConfig(**PLAIN | {"max_new_tokens": 24, "top_k": 0})
    prompts, keys = [prompt for prompt in PROMPTS for _ in range(4)], keys_of(4 * len(PROMPTS))
    together = sample(model, prompts, config, keys)
    one_by_one = [sample(model, [prompt], config, [key])[0] for prompt, key in zip(prompts, keys, strict=True)]
    assert one_by_one == together
    backwards = sample(model, prompts[::-1], config, keys[::-1])
    assert backwards[::-1] == together
    state = torch.get_rng_state()
    assert sample(model, prompts, config, keys_of(25)[1:]) != together
    assert torch.equal(state, torch.get_rng_state()), "torch's own random state has no part in it"


def test_keys_differ_by_everything_that_says_which_completion_it_is() -> None:
    parts = [
        (p, a, b, c, d)
        for p in ("training", "evaluation")
        for a in (0, 1)
        for b in (0, 1)
        for c in (0, 1)
        for d in (0, 1)
    ]
    assert len({completion_key(*part) for part in parts}) == len(parts)
    assert completion_key("training", 7, 3, 2, 1) == 12135527168946064881  # a run goes on with them after years


def test_the_numbers_are_splitmix64_uniform_and_independent() -> None:
    # The first outputs of the reference implementation (Vigna, splitmix64.c) for the seed 1234567.
    reference = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert (uniforms([1234567], 0, 4)[0] * 2**53).astype(np.uint64).tolist() == [number >> 11 for number in reference]
    assert np.array_equal(uniforms([5, 6], 3, 2), uniforms([5, 6], 0, 8)[:, 3:5])
    found = uniforms(keys_of(1000), 0, 100)
    assert found.min() >= 0 and found.max() < 1
    assert abs(found.mean() - 0.5) < 5 * (1 / 12 / found.size) ** 0.5
    for one, other in ((found[:, 1:], found[:, :-1]), (found[1:], found[:-1])):  # next tokens, next samples
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / one.size**0.5


def test_a_word_of_no_probability_is_never_drawn() -> None:
    """Neither at 0 nor where the product with the total rounds up to it."""
    draw = InverseCDF(GenerationConfig(do_sample=True, top_k=0), [0, 0, 0], torch.device("cpu"))
    logits = torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0, -torch.inf]]).expand(3, 5)
    draw._numbers, draw._first = torch.tensor([[0.0], [1.0], [0.5]], dtype=torch.float64), 1
    ids, entropies = draw(logits, torch.arange(3), 1)
    assert ids[:, 0].tolist() == [1, 3, 3]
    assert entropies.tolist() == pytest.approx([0.5822] * 3, abs=1e-4)  # of 1 / (1 + e) and e / (1 + e)


def test_a_prompt_is_read_once_and_ended_rows_leave(tiny_model: Path) -> None:
    model = model_of(tiny_model).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight[1] = 0.3  # ends soon
    sizes: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda _, __, kwargs: sizes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    config = GenerationConfig(**PLAIN | {"max_new_tokens": 64})
    found = sample(model, [[9, 8, 7]] * 30 + [[5, 5]] * 30, config, keys_of(60))
    assert sizes[0] == (2, 3)
    assert sizes[1][0] <= 60
    rows = [size[0] for size in sizes[1:]]
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] <= rows[0] // 2
    assert all(completion.count(1) == (completion[-1] == 1) for completion in found)


SETTINGS_LEFT_TO_GENERATE: list[dict[str, Any]] = [
    {"repetition_penalty": 1.1},
    {"cache_implementation": "static"},
    {"num_beams": 2},
    {"bad_words_ids": [[5]]},
    {"suppress_tokens": [5, 6]},
    {"begin_suppress_tokens": [5]},
    {"forced_eos_token_id": 1},
    {"forced_bos_token_id": 5},
    {"stop_strings": ["x"]},
    {"min_new_tokens": 3},
    {"no_repeat_ngram_size": 2},
    {"sequence_bias": [[[5], 1.0]]},
    {"typical_p": 0.9},
    {"exponential_decay_length_penalty": (2, 1.1)},
]


@pytest.mark.parametrize("setting", SETTINGS_LEFT_TO_GENERATE, ids=lambda setting: next(iter(setting)))
@pytest.mark.parametrize("place", ["the run's", "the model folder's"])
def test_settings_beyond_plain_sampling_are_left_to_generate(
    tiny_model: Path, setting: dict[str, Any], place: str
) -> None:
    model = model_of(tiny_model)
    assert unsupported(model, GenerationConfig(**PLAIN)) is None
    config = GenerationConfig(**PLAIN | (setting if place == "the run's" else {}))
    if place == "the model folder's":
        model.generation_config.update(**setting)
    assert unsupported(model, config) == f"generation setting {next(iter(setting))}"


def test_what_the_run_leaves_open_comes_from_the_model_folder(tiny_model: Path) -> None:
    model = model_of(tiny_model).eval()
    model.generation_config.update(top_k=1, eos_token_id=[7])
    config = GenerationConfig(max_new_tokens=16, do_sample=True, pad_token_id=0, temperature=5.0)
    likeliest = sample(model, PROMPTS, GenerationConfig(max_new_tokens=16, do_sample=False, pad_token_id=0))
    assert sample(model, PROMPTS, config, keys_of(6)) == likeliest


def test_models_with_tokens_of_their_own_in_front_are_left_to_generate(tiny_model: Path) -> None:
    config = GenerationConfig(**PLAIN)
    with_prompt = get_peft_model(model_of(tiny_model), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    assert "prompt learning" in str(unsupported(with_prompt, config))
    with_lora = get_peft_model(model_of(tiny_model), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    assert unsupported(with_lora, config) is None

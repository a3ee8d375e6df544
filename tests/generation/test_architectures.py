"""Our log-probabilities, gradients and tokens against each row computed alone, for tiny models of many families.

Not against TRL's padded batch: with GPT-2, GPTBigCode and BioGPT that is wrong itself, since it gives no positions to
rows with padding on the left.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from architectures import END, FAMILIES, WORDS, build_family
from transformers import GenerationConfig, PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from grpo_project.generation import log_probabilities, probe, sampling
from grpo_project.generation.probe import Sampler, Way

pytestmark = pytest.mark.slow

PROMPTS = [list(range(5, 17)), [20, 21, 22], list(range(40, 47))]
"""Longer and shorter than the families' windows of 8 tokens."""
LENGTHS = (14, 3, 20, 9, 1, 17, 11, 6, 15)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_what_its_rows_give_alone(family: str, attention: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of families that speak about missing kernels
        model = build_family(family, attention)
        if model is None:
            pytest.skip(f"{family} has no {attention} attention")
        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        way = probe.log_probability_way(model)
        assert way.way != Way.PADDED, way
        check_log_probabilities(model, way.way)
        config = GenerationConfig(max_new_tokens=20, do_sample=False, pad_token_id=0, eos_token_id=END)
        if probe.sampler(model, config).way == Sampler.OURS:
            check_tokens(model, config)


def check_log_probabilities(model: PreTrainedModel, way: Way) -> None:
    torch.manual_seed(1)
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    completions = [torch.randint(3, WORDS, (length,)).tolist() for length in LENGTHS]
    left, width = max(map(len, prompts)), max(LENGTHS)
    ids, mask = torch.zeros(2, len(prompts), left + width, dtype=torch.long)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        ids[row, left - len(prompt) : left + len(completion)] = torch.tensor([*prompt, *completion])
        mask[row, left - len(prompt) : left + len(completion)] = 1
    lengths = mask.sum(dim=1).tolist()
    if way == Way.PACKED:
        rows = log_probabilities.all_packed(ids, mask, width, 120)
        found = log_probabilities.packed(model, ids, mask, width, rows=rows, max_tokens=120, compute_entropy=True)
    else:
        chunks = log_probabilities.chunks_of_like_length(lengths, 120)
        if way == Way.BY_PROMPT_LENGTH:
            chunks = log_probabilities.without_left_padding([len(prompt) for prompt in prompts], lengths, 120)
        found = log_probabilities.by_length(model, ids, mask, width, chunks=chunks, compute_entropy=True)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    logps, entropies, total = [], [], torch.zeros(())
    for prompt, completion in zip(prompts, completions, strict=True):  # by the model's own forward, without any of ours
        logits = model(input_ids=torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0]
        words = logits[len(prompt) - 1 : -1].log_softmax(dim=-1)
        logps.append(words.gather(1, torch.tensor(completion)[:, None])[:, 0])
        entropies.append(-(words.exp() * words).sum(dim=-1))
        total = total + (logps[-1] * torch.linspace(-1, 1, len(completion))).sum()
    scored = [(row, slice(0, len(completion))) for row, completion in enumerate(completions)]
    torch.testing.assert_close(torch.cat([found[0][at] for at in scored]), torch.cat(logps), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.cat([found[1][at] for at in scored]), torch.cat(entropies), rtol=1e-3, atol=1e-3)
    ours = sum((found[0][at] * torch.linspace(-1, 1, len(found[0][at]))).sum() for at in scored)
    for mine, alone in zip(
        torch.autograd.grad(ours, weights, allow_unused=True),
        torch.autograd.grad(total, weights, allow_unused=True),
        strict=True,
    ):
        if alone is not None:
            assert float((mine - alone).norm()) <= 1e-3 * float(alone.norm()) + 1e-3


def check_tokens(model: PreTrainedModel, config: GenerationConfig) -> None:
    """The likeliest tokens are those of ``generate`` for each prompt alone."""
    endless = sampling.sample(model, PROMPTS, config)
    config.eos_token_id = [
        END,
        endless[0][-1],
        endless[1][len(endless[1]) // 2],
    ]  # so that rows end at different times, with most models
    found = sampling.sample(model, PROMPTS * 3, config)
    for prompt, ids in zip(PROMPTS, found, strict=False):
        alone = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            generation_config=config,
        )
        assert alone[0, len(prompt) :].tolist() == ids
    assert found[:3] == found[3:6] == found[6:]

"""Without padding the log-probabilities and gradients are TRL's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_trainer import build

from grpo_project.generation import log_probabilities
from grpo_project.generation.log_probabilities import (
    at_least,
    cheapest_packing,
    chunks_of_like_length,
    without_left_padding,
)
from grpo_project.generation.packing import pack
from grpo_project.generation.padding_free import PaddingFreeBatches
from grpo_project.generation.probe import Choice, Sampler, Way


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


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("way", [Way.PACKED, Way.BY_LENGTH, Way.BY_PROMPT_LENGTH])
@pytest.mark.parametrize("compute_entropy", [True, False])
def test_log_probabilities_and_gradients_are_those_of_the_padded_batch(
    tiny_model: Path, tmp_path: Path, compute_entropy: bool, way: Way, attention: str
) -> None:
    trainer = build(tiny_model, tmp_path, set(), model_init_kwargs={"attn_implementation": attention})
    assert trainer.way == Choice(Way.PACKED)
    trainer.way = Choice(way)
    ids, mask, width = padded_batch(groups=10, size=4)
    scored = mask[:, -width:].bool()
    found, gradients = {}, {}
    theirs = super(PaddingFreeBatches, trainer)._get_per_token_logps_and_entropies
    for name, compute in (("ours", trainer._get_per_token_logps_and_entropies), ("trl", theirs)):
        trainer.model.zero_grad()
        logps, entropies, _ = found[name] = compute(trainer.model, ids, mask, width, compute_entropy=compute_entropy)
        assert logps.shape == (40, width)
        assert (entropies is not None) == compute_entropy
        ((logps * torch.linspace(-1, 1, width)) * scored).sum().backward()
        gradients[name] = [parameter.grad.clone() for parameter in trainer.model.parameters()]
    torch.testing.assert_close(found["ours"][0][scored], found["trl"][0][scored])
    torch.testing.assert_close(gradients["ours"], gradients["trl"], rtol=1e-4, atol=1e-5)
    if compute_entropy:
        torch.testing.assert_close(found["ours"][1][scored], found["trl"][1][scored])


def test_only_positions_with_a_label_go_through_the_vocabulary(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(tiny_model, tmp_path, set())
    ids, mask, width = padded_batch(groups=3, size=8)
    scored: list[int] = []
    function = log_probabilities.trl_utils._ChunkedLogProbFunction

    class Counted(function):  # type: ignore[misc, valid-type]
        @staticmethod
        def forward(ctx: Any, hidden: torch.Tensor, *args: Any) -> Any:
            scored.append(len(hidden))
            return function.forward(ctx, hidden, *args)

    log_probabilities.trl_utils._ChunkedLogProbFunction = Counted
    try:
        for way in (Way.PACKED, Way.BY_LENGTH):
            trainer.way = Choice(way)
            scored.clear()
            trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width)
            assert sum(scored) == int(mask[:, -width:].sum())
    finally:
        log_probabilities.trl_utils._ChunkedLogProbFunction = function


def test_each_prompt_is_computed_once(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(tiny_model, tmp_path, set())
    trainer._cell_cost = 0.0
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
    chunks = chunks_of_like_length(lengths, tokens)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(len(lengths)))
    for chunk in chunks:
        assert len(chunk) * max(lengths[row] for row in chunk) <= tokens or len(chunk) == 1


@given(st.data(), st.integers(1, 400))
def test_chunks_without_left_padding_hold_every_row_once(data: st.DataObject, tokens: int) -> None:
    prompts = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=40))
    lengths = [prompt + data.draw(st.integers(0, 60)) for prompt in prompts]
    chunks = without_left_padding(prompts, lengths, tokens)
    assert sorted(row for chunk in chunks for row in chunk) == list(range(len(prompts)))
    assert all(len({prompts[row] for row in chunk}) == 1 for chunk in chunks)
    count = data.draw(st.integers(1, len(prompts)))
    more = at_least(count, chunks)
    assert len(more) == max(count, len(chunks)) and all(more)
    assert sorted(row for chunk in more for row in chunk) == list(range(len(prompts)))


def test_packing_weighs_tokens_saved_against_cells_added() -> None:
    """Eight completions of one prompt: the longer they are, the fewer share a row; all where cells cost nothing."""

    def rows_of(prompt: int, completion: int, cell_cost: float) -> list[int] | None:
        ids = torch.arange(prompt + completion).expand(8, -1)
        rows = cheapest_packing(ids, torch.ones_like(ids), completion, 16_384, cell_cost)
        return None if rows is None else sorted(len(row.rows) for row in rows)

    cost = 2 * 576 * 30 / 106_000_000  # of SmolLM2-135M
    assert rows_of(200, 512, 0.0) == [8]
    assert rows_of(200, 64, cost) == [8]
    assert rows_of(1000, 300, 2 * cost) not in (None, [8])
    assert rows_of(200, 1024, cost) is None
    assert rows_of(5, 300, cost) is None


@given(st.data(), st.integers(20, 300), st.floats(0, 0.1))
def test_the_cheapest_packing_holds_every_completion_once(data: st.DataObject, most: int, cell_cost: float) -> None:
    lengths = data.draw(st.lists(st.integers(0, 18), min_size=1, max_size=16))
    prompts = torch.tensor([[1, 2], [3, 4]])[torch.tensor([data.draw(st.integers(0, 1)) for _ in lengths])]
    ids = torch.cat([prompts, torch.ones(len(lengths), 18, dtype=torch.long)], dim=1)
    mask = (torch.arange(20) < 2 + torch.tensor(lengths)[:, None]).long()
    rows = cheapest_packing(ids, mask, 18, most, cell_cost)
    if rows is not None:
        assert sorted(row for packed in rows for row in packed.rows) == [r for r, n in enumerate(lengths) if n]
        assert all(row.tokens <= most for row in rows)


METRICS = ("entropy", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "clip_ratio/low_min")


@pytest.mark.parametrize("sampler", [Sampler.OURS, Sampler.GENERATE])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_metrics_are_of_all_rows_also_where_some_are_left_out(
    tiny_model: Path, tmp_path: Path, sampler: Sampler, level: str
) -> None:
    """Entropy and clip ratios are those that TRL finds over the whole batch, half of whose groups have no advantage."""
    trainer = build(tiny_model, tmp_path, {"p1", "p3"}, importance_sampling_level=level, max_completion_length=16)
    trainer.sampler = Choice(sampler)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    with torch.no_grad():  # ends now and then, so that lengths differ, and a distribution that is not uniform
        trainer.model.get_output_embeddings().weight.mul_(8)
        trainer.model.get_output_embeddings().weight[1] = 0.5
    batch = trainer._generate_and_score_completions([{}] * 16)
    idle = batch["advantages"] == 0
    assert idle.sum() == 8
    with torch.no_grad():
        ids, mask = (torch.cat([batch[f"prompt_{x}"], batch[f"completion_{x}"]], dim=1) for x in ("ids", "mask"))
        width = batch["completion_ids"].size(1)
        logps, entropies, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, width, compute_entropy=True
        )
    batch["old_per_token_logps"] = logps + torch.linspace(-1, 1, width)  # as if the weights had moved on since
    found = {}
    for name, loss_of in (("ours", trainer._compute_loss), ("trl", super(PaddingFreeBatches, trainer)._compute_loss)):
        trainer._metrics["train"].clear()
        loss_of(trainer.model, batch)
        found[name] = {metric: trainer._metrics["train"][metric][-1] for metric in METRICS}
        if name == "ours":
            trained = trainer._metrics["train"]["trained/entropy"][-1]
    assert found["ours"] == pytest.approx(found["trl"], rel=1e-3, abs=1e-6)
    assert found["ours"]["clip_ratio/region_mean"] > 0 or level == "sequence"
    counted = batch["completion_mask"].bool() & ~idle[:, None]
    assert trained == pytest.approx(float(entropies[counted].mean()), rel=1e-4)
    assert trained != pytest.approx(found["ours"]["entropy"], rel=1e-3)

"""What the trainer adds to a step: rows without advantage are left out of the loss, and can be drawn anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from small_trainer import GROUP, PROBLEMS, build

from grpo_project.generation import generation_batch
from grpo_project.generation.padding_free import PaddingFreeBatches
from grpo_project.verifier.verdict import Job, Verdict

LOSSES = ("dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo", "luspo")


@pytest.mark.parametrize("loss_type", LOSSES)
def test_rows_without_advantage_change_neither_loss_nor_gradient(
    tiny_model: Path, tmp_path: Path, loss_type: str
) -> None:
    """Against TRL's own loss over the whole batch, of which half of the groups are idle."""
    level = {"importance_sampling_level": "sequence"} if loss_type == "luspo" else {}
    trainer = build(tiny_model, tmp_path, {"p1", "p3"}, loss_type=loss_type, **level)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer._generate_and_score_completions([{}] * 16)
    assert (batch["advantages"] == 0).sum() == 2 * GROUP

    forward_rows: list[int] = []
    trainer.model.register_forward_pre_hook(
        lambda _, __, kwargs: forward_rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    found = {}
    for name, loss_of in (("ours", trainer._compute_loss), ("whole", super(PaddingFreeBatches, trainer)._compute_loss)):
        trainer.model.zero_grad()
        loss = loss_of(trainer.model, batch)
        loss.backward()
        found[name] = (loss.detach(), [p.grad.clone() for p in trainer.model.parameters()])
    assert forward_rows == [2, 4]  # a row for each group
    torch.testing.assert_close(found["ours"][0], found["whole"][0])
    torch.testing.assert_close(found["ours"][1], found["whole"][1], rtol=1e-4, atol=1e-6)
    assert any(gradient.abs().sum() > 0 for gradient in found["ours"][1])


@pytest.mark.parametrize("settings", [{"beta": 0.1}, {"entropy_coef": 0.01}, {"top_entropy_quantile": 0.5}])
def test_every_row_counts_where_the_loss_has_other_terms(
    tiny_model: Path, tmp_path: Path, settings: dict[str, float]
) -> None:
    trainer = build(tiny_model, tmp_path, {"p1", "p3"}, **settings)
    rows: list[int] = []
    trainer.model.register_forward_pre_hook(
        lambda _, __, kwargs: rows.append(len(kwargs["input_ids"])) if torch.is_grad_enabled() else None,
        with_kwargs=True,
    )
    trainer.train()
    assert rows == [4]  # a row for each group


def test_a_batch_of_idle_groups_trains_on_nothing_and_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(tiny_model, tmp_path, {problem.id for problem in PROBLEMS}, learning_rate=1.0)
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer.train()
    assert trainer.state.global_step == 1
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.state_dict().items())


def test_idle_groups_are_drawn_anew_until_all_are_live(tiny_model: Path, tmp_path: Path) -> None:
    """p1 and p3 of the first four are idle; p4 takes p1's place, p5 is idle as well, p6 takes p3's."""
    trainer = build(tiny_model, tmp_path, {"p1", "p3", "p5"}, max_resample=3)
    trainer.model.train()
    batch = trainer._generate_and_score_completions([{}] * 16)

    assert trainer.problem_source.drawn == [f"p{i}" for i in range(7)]
    assert trainer.problem_source.told == [(1, 0, 4, 2)]
    assert [[group[0].problem.id for group in groups] for groups in trainer.judged] == [
        ["p0", "p1", "p2", "p3"],
        ["p4", "p5"],
        ["p6"],
    ]
    prompts = trainer.processing_class.batch_decode(batch["prompt_ids"], skip_special_tokens=True)
    assert prompts == [f"Add {i} to x." for i in (0, 4, 2, 6) for _ in range(GROUP)]
    judged = {group[0].problem.id: group for groups in trainer.judged for group in groups}
    rollouts = [rollout for name in ("p0", "p4", "p2", "p6") for rollout in judged[name]]
    assert batch["advantages"].tolist() == pytest.approx([rollout.advantage for rollout in rollouts])
    completions = trainer.processing_class.batch_decode(
        [ids[mask.bool()] for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)],
        skip_special_tokens=True,
    )
    assert completions == [rollout.completion for rollout in rollouts]
    assert batch["num_items_in_batch"] == batch["completion_mask"].sum()


def test_redrawing_is_bounded(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(tiny_model, tmp_path, {problem.id for problem in PROBLEMS}, max_resample=2)
    trainer.train()
    assert trainer.problem_source.told == [(1, 4, 4, 2)]
    assert len(trainer.problem_source.drawn) == 12
    assert next(row for row in trainer.state.log_history if "loss" in row)["resampled_groups"] == 8


def test_completions_are_handed_in_as_they_end(tiny_model: Path, tmp_path: Path) -> None:
    """The judge has the short ones before the model is called for the last time, and nothing is judged twice."""
    trainer = build(tiny_model, tmp_path, set(), max_completion_length=40)
    with torch.no_grad():
        trainer.model.get_output_embeddings().weight[1] = 0.3  # ends soon
    events: list[str] = []
    trainer.model.register_forward_pre_hook(lambda *_: events.append("model"))
    judge = trainer.judge
    stream, judged = judge.stream, []

    def spy(jobs: Sequence[Job]) -> Iterator[Verdict]:
        events.extend("judge" for _ in jobs)
        judged.extend(job.id for job in jobs)
        return stream(jobs)

    judge.stream = spy
    trainer.model.train()
    torch.manual_seed(0)
    trainer._generate_and_score_completions([{}] * 16)
    assert events.index("judge") < len(events) - events[::-1].index("model") - 1
    assert len(judged) == len(set(judged))
    rollouts = [rollout for group in trainer.judged[0] for rollout in group]
    assert len({(r.problem.id, r.completion) for r in rollouts}) == len(judged)
    assert [r.verdict.job_id for r in rollouts] == [Job(r.problem, r.completion).id for r in rollouts]


def test_prompts_keep_their_padding_on_the_left_and_completions_on_the_right() -> None:
    short = {
        "prompt_ids": torch.tensor([[0, 5]]),
        "prompt_mask": torch.tensor([[0, 1]]),
        "completion_ids": torch.tensor([[7]]),
        "completion_mask": torch.tensor([[1]]),
        "advantages": torch.tensor([1.0]),
        "num_items_in_batch": torch.tensor(1),
    }
    long = short | {
        "prompt_ids": torch.tensor([[1, 2, 3]]),
        "prompt_mask": torch.tensor([[1, 1, 1]]),
        "completion_ids": torch.tensor([[8, 9, 0]]),
        "completion_mask": torch.tensor([[1, 1, 0]]),
    }
    assert generation_batch.take(short, torch.tensor([0]))["prompt_ids"].tolist() == [[5]]
    assert generation_batch.take(long, torch.tensor([0]))["completion_ids"].tolist() == [[8, 9]]
    two = generation_batch.put(
        {name: torch.cat([value, value]) if value.dim() else value for name, value in long.items()},
        torch.tensor([1]),
        short,
        pad_token_id=0,
    )
    assert two["prompt_ids"].tolist() == [[1, 2, 3], [0, 0, 5]]
    assert two["completion_ids"].tolist() == [[8, 9, 0], [7, 0, 0]]
    assert two["completion_mask"].tolist() == [[1, 1, 0], [1, 0, 0]]

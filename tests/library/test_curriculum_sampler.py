"""Our curriculum in TRL's own trainer: it chooses the rows, hears the results, and goes on where a checkpoint ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

import grpo_project
from grpo_project import rewards
from grpo_project.curriculum import CurriculumSettings
from grpo_project.errors import ConfigError
from grpo_project.problems.quickstart import builtin_problems

PROBLEMS = builtin_problems("train")[::100]
GROUP = 4


def build(model: Path, folder: Path, steps: int) -> tuple[GRPOTrainer, grpo_project.CurriculumSampler, list[str]]:
    sampler = grpo_project.CurriculumSampler(PROBLEMS, CurriculumSettings(), seed=3)
    seen: list[str] = []

    def watch(problem_id: list[str], **columns: Any) -> list[float]:
        seen.extend(problem_id)
        return [0.0] * len(problem_id)

    args = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        num_generations=GROUP,
        max_completion_length=6,
        max_steps=steps,
        save_steps=2,
        logging_steps=1,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = GRPOTrainer(
        model=str(model),
        reward_funcs=[sampler.observing(rewards.pass_rate), watch],
        train_dataset=grpo_project.as_dataset(PROBLEMS, tokenizer),
        processing_class=tokenizer,
        args=args,
    )
    sampler.attach(trainer)
    return trainer, sampler, seen


def test_a_plain_trainer_draws_by_the_curriculum_and_resumes(tiny_model: Path, tmp_path: Path) -> None:
    trainer, whole, seen = build(tiny_model, tmp_path / "whole", 4)
    trainer.train()
    groups = [seen[i : i + GROUP] for i in range(0, len(seen), GROUP)]
    assert len(groups) == 4 * 2 and all(len(set(group)) == 1 for group in groups)
    by_id = {problem.id: problem for problem in PROBLEMS}
    assert by_id[groups[0][0]].level == "foundation"  # where a curriculum begins
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert all("curriculum/stage" in row for row in rows)

    again, resumed, seen_after = build(tiny_model, tmp_path / "resumed", 4)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert seen_after == seen[2 * 2 * GROUP :]
    assert resumed.state_dict() == whole.state_dict()

    other, fresh, _ = build(tiny_model, tmp_path / "other", 4)
    fresh.curriculum = grpo_project.Curriculum(PROBLEMS[:5])
    with pytest.raises(grpo_project.errors.CheckpointError):
        other.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))


def test_evaluations_decide_too_and_another_set_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    trainer, sampler, _ = build(tiny_model, tmp_path, 1)
    heldout = builtin_problems("heldout")[:10]
    result = grpo_project.evaluate(
        lambda requests: (
            (i, grpo_project.generation.request.Generation(r.problem.solution, 1, False))
            for i, r in enumerate(requests)
        ),
        heldout,
    )
    sampler.observe_evaluation(result, heldout)
    assert sampler.decisions[-1]["action"] in ("hold", "advance")
    with pytest.raises(ConfigError, match="as_dataset"):
        grpo_project.CurriculumSampler(PROBLEMS[:5]).attach(trainer)

"""A run that stops and goes on has the same weights, metrics and prompts as the run that did not, bit for bit.

TRL's own trainer fails most of these (docs/resume.md). Killed processes are tested in tests/integration.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer
from trl import GRPOConfig

from grpo_project.problems.problem import CallTest, Problem
from grpo_project.problems.prompt import prompt_for
from grpo_project.rewards import pass_rate
from grpo_project.training.checkpoints import newest_whole
from grpo_project.training.trainer import CodeTrainer
from grpo_project.verifier.verdict import Job, Status, Verdict

PROBLEMS = [Problem(f"p{i}", f"Add {i} to x.", (CallTest((1,), 1 + i),) * 8, entry_point="f") for i in range(6)]
VOLATILE = {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second"}


class RandomSource:
    """Draws with replacement from its own random state."""

    def __init__(self) -> None:
        self.random = random.Random(5)
        self.drawn: list[str] = []

    def draw(self, n: int) -> list[Problem]:
        problems = [self.random.choice(PROBLEMS) for _ in range(n)]
        self.drawn += [problem.id for problem in problems]
        return problems

    def observe_resampling(self, step: int, without_variance: int, groups: int, attempts: int) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        version, internal, gauss = self.random.getstate()
        return {"random": [version, list(internal), gauss]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        version, internal, gauss = state["random"]
        self.random.setstate((version, tuple(internal), gauss))


class HashJudge:
    """Passes a share of the tests that depends on the completion alone: a reward without a sandbox."""

    def stream(self, jobs: Sequence[Job]) -> Iterator[Verdict]:
        return (self.verdict(job) for job in reversed(jobs))

    def verdict(self, job: Job) -> Verdict:
        passed = hashlib.sha256(job.completion.encode()).digest()[0] % 9
        return Verdict(job.id, job.problem.id, Status.PASSED if passed == 8 else Status.FAILED, passed, 8)


def build(model: Path, output_dir: Path, stop_request: Any = None, **changes: Any) -> CodeTrainer:
    lora = changes.pop("lora", False)
    max_resample = changes.pop("max_resample", 0)
    settings = {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 6,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "linear",
        "max_steps": 6,
        "logging_steps": 1,
        "save_steps": 3,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        **changes,
    }
    tokenizer = AutoTokenizer.from_pretrained(model)
    peft_config = None
    if lora:
        from peft import LoraConfig

        peft_config = LoraConfig(r=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return CodeTrainer(
        model=str(model),
        args=GRPOConfig(**settings),
        processing_class=tokenizer,
        peft_config=peft_config,
        problem_source=RandomSource(),
        render=lambda problem: prompt_for(problem, tokenizer),
        judge=HashJudge(),
        reward=pass_rate,
        epoch_size=len(PROBLEMS),
        max_resample=max_resample,
        stop_request=stop_request,
    )


def history(trainer: CodeTrainer) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in trainer.state.log_history if "loss" in row]


CONFIGURATIONS = {
    "defaults": {},
    "num_iterations=2, odd checkpoint": {"num_iterations": 2},
    "checkpoint in mid-buffer": {"steps_per_generation": 8, "save_steps": 3},
    "checkpoint in a later epoch": {"max_steps": 8, "save_steps": 5},
    "checkpoint on an epoch's end": {"max_steps": 6, "save_steps": 3},
    "LoRA with dropout": {"lora": True},
    "logged every second step": {"logging_steps": 2},
    "groups drawn anew, checkpoint in mid-buffer": {"max_resample": 2, "steps_per_generation": 8},
    "synced reference model": {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 2},
}


@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_resumed_run_equals_uninterrupted_run(tiny_model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = build(tiny_model, tmp_path / "run", **changes)
    whole.train()
    step = changes.get("save_steps", 3)

    resumed = build(tiny_model, tmp_path / "run", **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))

    assert whole.state.global_step == resumed.state.global_step == changes.get("max_steps", 6)
    assert history(whole) == history(resumed)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    assert resumed.problem_source.drawn == whole.problem_source.drawn[-len(resumed.problem_source.drawn) :]
    assert any(row["grad_norm"] > 0 for row in history(whole)), "the run must have learned something to compare"


def test_finished_run_stays_finished(tiny_model: Path, tmp_path: Path) -> None:
    """transformers trains one more step each time a finished run is resumed in mid-epoch."""
    first = build(tiny_model, tmp_path / "run", max_steps=4, save_steps=4)
    first.train()
    again = build(tiny_model, tmp_path / "run", max_steps=4, save_steps=4)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    assert again.state.global_step == 4
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name


class StopAtQuestion:
    """Wants to stop from the n-th time that it is asked."""

    def __init__(self, n: int) -> None:
        self.questions_left = n

    @property
    def pending(self) -> bool:
        self.questions_left -= 1
        return self.questions_left <= 0

    def saving(self) -> nullcontext[None]:
        return nullcontext()


@pytest.mark.parametrize("questions", [1, 3, 7, 11, 16, 25, 33])
def test_stop_in_mid_step_resumes_exactly(tiny_model: Path, tmp_path: Path, questions: int) -> None:
    """During generation, between verdicts, between micro-batches: the state at the step's beginning is saved."""
    settings = {"max_steps": 3, "save_steps": 50}
    whole = build(tiny_model, tmp_path / "whole", **settings)
    whole.train()

    stopped = build(tiny_model, tmp_path / "run", stop_request=StopAtQuestion(questions), **settings)
    stopped.train()
    assert stopped.stopped_in_step
    selection = newest_whole(tmp_path / "run")
    assert selection.step == stopped.state.global_step < 3  # before the first step there is nothing to save

    resumed = build(tiny_model, tmp_path / "run", **settings)
    resumed.train(resume_from_checkpoint=str(selection.path) if selection.path else None)
    assert history(resumed) == history(whole)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    drawn = stopped.problem_source.drawn[: 2 * selection.step] + resumed.problem_source.drawn
    assert drawn == whole.problem_source.drawn

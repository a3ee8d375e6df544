"""A real trainer on a tiny model with stand-ins at its seams: problems drawn in turn, a judge that counts letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from trl import GRPOConfig

from grpo_project.curriculum import GroupResult
from grpo_project.problems.problem import CallTest, Problem
from grpo_project.rewards import pass_rate
from grpo_project.training.rollout import Rollout
from grpo_project.training.trainer import CodeTrainer
from grpo_project.verifier.verdict import Job, Status, Verdict

PROBLEMS = [Problem(f"p{i}", f"Add {i} to x.", (CallTest((1,), 1 + i),) * 8, entry_point="f") for i in range(12)]
GROUP = 4


class InTurn:
    """Draws the problems one after the other and keeps what it is told."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    def draw(self, n: int) -> list[Problem]:
        problems = [PROBLEMS[(len(self.drawn) + i) % len(PROBLEMS)] for i in range(n)]
        self.drawn += [problem.id for problem in problems]
        return problems

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Listener:
    """Keeps what the trainer tells it."""

    def __init__(self) -> None:
        self.judged: list[list[list[Rollout]]] = []
        self.told: list[tuple[int, int, int, int]] = []

    def restored(self) -> None: ...

    def rollouts(self, step: int, rollouts: list[Rollout], results: list[GroupResult]) -> None:
        self.judged.append([rollouts[i : i + GROUP] for i in range(0, len(rollouts), GROUP)])

    def resampled(self, *told: int) -> None:
        self.told.append(told)  # type: ignore[arg-type]


class LengthJudge:
    """Passes as many tests as the completion is long; for the problems in ``idle`` it passes none."""

    def __init__(self, idle: set[str]) -> None:
        self.idle = idle

    def stream(self, jobs: Sequence[Job]) -> Iterator[Verdict]:
        for place, job in enumerate(jobs):
            passed = 0 if job.problem.id in self.idle else (len(job.completion) + place) % 8
            yield Verdict(job.id, job.problem.id, Status.FAILED, passed, 8)


def build(model: Path, folder: Path, idle: set[str], max_resample: int = 0, **changes: Any) -> CodeTrainer:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 16,
        "num_generations": GROUP,
        "max_completion_length": 8,
        "max_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
    }
    rewards = changes.pop("rewards", [pass_rate])
    tokenizer = AutoTokenizer.from_pretrained(model)
    observer = Listener()
    trainer = CodeTrainer(
        model=str(model),
        args=GRPOConfig(output_dir=str(folder), **(settings | changes)),
        processing_class=tokenizer,
        problem_source=InTurn(),
        render=lambda problem: problem.prompt,
        judge=LengthJudge(idle),
        rewards=rewards,
        epoch_size=len(PROBLEMS),
        max_resample=max_resample,
        observer=observer,
    )
    trainer.judged = observer.judged
    trainer.problem_source.told = observer.told
    return trainer

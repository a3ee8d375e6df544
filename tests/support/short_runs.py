"""Short runs of the real trainer on a tiny model, made to be stopped, resumed and compared."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from trl import GRPOConfig

from grpo_project.problems.problem import CallTest, Problem
from grpo_project.problems.prompt import prompt_for
from grpo_project.rewards import pass_rate
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


def build(
    model: Path, output_dir: Path, stop_request: Any = None, callbacks: Sequence[Any] = (), **changes: Any
) -> CodeTrainer:
    source = changes.pop("problem_source", None) or RandomSource()
    components = changes.pop("components", None)
    extra_metrics = changes.pop("extra_metrics", dict)
    lora = changes.pop("lora", False)
    max_resample = changes.pop("max_resample", 0)
    faults = changes.pop("max_infrastructure_rate", 0.02)
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
        problem_source=source,
        render=lambda problem: prompt_for(problem, tokenizer),
        judge=HashJudge(),
        rewards=[pass_rate],
        epoch_size=len(PROBLEMS),
        max_resample=max_resample,
        max_infrastructure_rate=faults,
        stop_request=stop_request,
        callbacks=list(callbacks),
        components=components,
        extra_metrics=extra_metrics,
    )


def history(trainer: CodeTrainer) -> list[dict[str, Any]]:
    def compared(name: str) -> bool:
        return name not in VOLATILE and not name.startswith("time/")

    return [{k: v for k, v in row.items() if compared(k)} for row in trainer.state.log_history if "loss" in row]

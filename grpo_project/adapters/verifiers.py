"""verifiers (and prime-rl, which trains on its environments): problems as a taskset, our verdict as its reward.

An environment package of a few lines: a module with ``from grpo_project.adapters.verifiers import *``, named after the
environment; its configuration is ``dataset_path``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import verifiers.v1 as vf

from grpo_project.library.verify import verify
from grpo_project.problems.formats import load_problems
from grpo_project.problems.native_writer import native_row
from grpo_project.problems.prompt import SYSTEM_PROMPTS, user_text
from grpo_project.rewards.function import OURS

__all__ = ["CodeConfig", "CodeData", "CodeTask", "CodeTaskset"]


class CodeData(vf.TaskData):
    """A problem as it travels: its row of the native format, as text."""

    problem: str


class CodeTaskConfig(vf.TaskConfig):
    """``reward``: one of ours by name."""

    reward: str = "pass_rate"


class CodeTask(vf.Task[CodeData, vf.State, CodeTaskConfig]):
    """One problem. The completion is the last reply."""

    @vf.reward
    async def tests(self, trace: Any) -> dict[str, float]:
        """The reward under its own name. Raises ``SandboxError`` where our own side failed."""
        verdict = await asyncio.to_thread(verify, self.data.problem, trace.last_reply)
        (value,) = OURS[self.config.reward].of_group([verdict])
        assert value is not None  # `verify` raises for what could not be judged
        trace.record_metrics({"pass_rate": verdict.pass_rate, "solved": float(verdict.solved)})
        return {self.config.reward: value}


class CodeConfig(vf.TasksetConfig):
    """Where the problems are; any format that ``load_problems`` reads."""

    dataset_path: str
    task: CodeTaskConfig = CodeTaskConfig()


class CodeTaskset(vf.Taskset[CodeTask, CodeConfig]):
    """The problems of ``dataset_path``."""

    def load(self) -> Iterable[CodeTask]:
        for problem in load_problems(self.config.dataset_path):
            yield CodeTask(
                CodeData(
                    id=problem.id,
                    prompt=user_text(problem),
                    system_prompt=SYSTEM_PROMPTS[problem.language],
                    problem=json.dumps(native_row(problem), ensure_ascii=False),
                ),
                self.config.task,
            )

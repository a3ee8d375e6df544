"""inspect_ai: problems as samples, our verdict as a scorer.

::

    Task(dataset=samples(problems), solver=generate(), scorer=tests_passed())
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import Score, Scorer, Target, accuracy, mean, scorer, stderr
from inspect_ai.solver import TaskState

from grpo_project.library.verify import verify
from grpo_project.problems.native_writer import native_row
from grpo_project.problems.problem import Problem
from grpo_project.problems.prompt import messages

_MESSAGE: dict[str, Any] = {"system": ChatMessageSystem, "user": ChatMessageUser}


def samples(problems: Sequence[Problem], system_prompt: str | None = None) -> list[Sample]:
    """One sample a problem; its row is kept as text in the metadata, for the scorer."""
    return [
        Sample(
            id=problem.id,
            input=[_MESSAGE[m["role"]](content=m["content"]) for m in messages(problem, system_prompt)],
            target="",
            metadata={"problem": json.dumps(native_row(problem), ensure_ascii=False), "level": problem.level},
        )
        for problem in problems
    ]


@scorer(metrics={"pass_rate": [mean(), stderr()], "solved": [accuracy(), stderr()]})
def tests_passed() -> Scorer:
    """``pass_rate``, the share of tests passed, and ``solved``. Raises ``SandboxError`` where our own side failed."""

    async def score(state: TaskState, target: Target) -> Score:
        verdict = await asyncio.to_thread(verify, state.metadata["problem"], state.output.completion)
        return Score(
            value={"pass_rate": verdict.pass_rate, "solved": float(verdict.solved)},
            answer=verdict.code,
            explanation=verdict.message or f"{verdict.passed} of {verdict.total} tests passed",
            metadata={"status": verdict.status.value},
        )

    return score

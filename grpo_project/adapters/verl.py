"""verl's ``custom_reward_function``: ``custom_reward_function.path=.../adapters/verl.py name=compute_score``.

Rows of the training set carry the problem as text (a row of any of our formats) in ``reward_model.ground_truth``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from grpo_project.library.verify import verify
from grpo_project.problems.formats import problem_from_row
from grpo_project.problems.native_writer import native_row
from grpo_project.problems.problem import Problem
from grpo_project.problems.prompt import messages
from grpo_project.rewards.function import OURS


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, reward: str = "pass_rate", **_: Any
) -> dict[str, Any]:
    """The score of one completion, with what verl logs beside it.

    Args:
        ground_truth: the problem's row, as text.
        reward: one of ours by name (``custom_reward_function.reward_kwargs.reward=mixed``).

    Raises:
        SandboxError: our own side failed; never a score of 0.
        DataError: the row is no problem.
    """
    verdict = verify(ground_truth, solution_str)
    (score,) = OURS[reward].of_group([verdict])
    return {
        "score": score,
        "pass_rate": verdict.pass_rate,
        "solved": float(verdict.solved),
        "status": verdict.status.value,
    }


async def compute_score_async(data_source: str, solution_str: str, ground_truth: str, **more: Any) -> dict[str, Any]:
    """The same for verl's asynchronous reward loop."""
    return await asyncio.to_thread(compute_score, data_source, solution_str, ground_truth, **more)


def row(problem: Problem | str, split: str = "train") -> dict[str, Any]:
    """A row of verl's Parquet files: ``datasets.Dataset.from_list([row(p) for p in problems]).to_parquet(...)``."""
    import json

    problem = problem_from_row(problem) if isinstance(problem, str) else problem
    return {
        "data_source": "grpo_project",
        "prompt": messages(problem),
        "ability": "code",
        "reward_model": {"style": "rule", "ground_truth": json.dumps(native_row(problem), ensure_ascii=False)},
        "extra_info": {"split": split, "id": problem.id, "level": problem.level},
    }

"""``grpo_project.as_dataset``: problems as the ``datasets.Dataset`` that TRL's trainers take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grpo_project.problems.native_writer import native_row
from grpo_project.problems.problem import Problem
from grpo_project.problems.prompt import messages, prompt_for

if TYPE_CHECKING:
    from datasets import Dataset


def as_dataset(problems: Sequence[Problem], tokenizer: Any = None, system_prompt: str | None = None) -> Dataset:
    """Columns ``prompt``, ``problem`` (its row of the native format, as text), ``problem_id`` and ``level``.

    The reward functions of ``grpo_project.rewards`` read ``problem``.

    Args:
        tokenizer: decides between messages and plain text for a model without a chat template; without one, messages.

    Raises:
        ValueError: a test holds a value that neither JSON nor a Python literal can say.
    """
    from datasets import Dataset

    def prompt(problem: Problem) -> Any:
        return messages(problem, system_prompt) if tokenizer is None else prompt_for(problem, tokenizer, system_prompt)

    return Dataset.from_list(
        [
            {
                "prompt": prompt(problem),
                "problem": json.dumps(native_row(problem), ensure_ascii=False),
                "problem_id": problem.id,
                "level": problem.level,
            }
            for problem in problems
        ]
    )

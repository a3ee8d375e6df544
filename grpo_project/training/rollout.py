"""One training completion with its verdict: what is kept in ``samples/`` and shown to the curriculum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grpo_project.problems.problem import Problem
from grpo_project.record.shards import verdict_row
from grpo_project.verifier.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion of a training problem, judged. ``prompt`` is as TRL takes it: messages or text."""

    problem: Problem
    prompt: Any
    completion: str
    verdict: Verdict
    reward: float
    advantage: float
    truncated: bool = False
    """The token limit came before an end token."""

    def to_row(self) -> dict[str, Any]:
        """The row kept in ``samples/``; the store adds step and attempt."""
        return {
            "problem_id": self.problem.id,
            "level": self.problem.level,
            "prompt": prompt_as_text(self.prompt),
            "completion": self.completion,
            **verdict_row(self.verdict),
            "reward": self.reward,
            "advantage": self.advantage,
        }


def prompt_as_text(prompt: Any) -> str:
    """A prompt for people: plain text as it is, messages as ``role: content``."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def completion_text(completion: Any) -> str:
    """The text of a completion as TRL hands it over: a string, or a list of messages."""
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] or "" for message in completion)

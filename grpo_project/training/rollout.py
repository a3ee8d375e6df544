"""Completions on their way from the draw to the record: one value each, made in one place.

TRL generates and scores a batch in one method that hands no value of ours through, but it passes the rows that it was
given to the reward functions. So the ``RolloutBatch`` travels in the rows: generation tells it of each completion that
ends, the reward function has it judged, and once TRL has the advantages it gives the ``Rollout``s out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import stdev
from typing import Any

from grpo_project.curriculum import GroupResult
from grpo_project.errors import SandboxError
from grpo_project.problems.problem import Problem
from grpo_project.record.shards import verdict_row
from grpo_project.rewards import RewardFunction
from grpo_project.verifier.verdict import Job, Judge, Status, Verdict


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion of a training problem, judged. ``prompt`` is as TRL takes it: messages or text."""

    problem: Problem
    prompt: Any
    completion: str
    verdict: Verdict
    reward: float | None
    """``None`` where the verifier failed, for reasons of our own: such a row is trained on as if it were not there."""
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


@dataclass(frozen=True, slots=True)
class Summary:
    """What every rank learns of a completion; code, tests and texts stay where they are."""

    problem_id: str
    reward: float | None
    status: Status
    pass_rate: float
    truncated: bool


class RolloutBatch:
    """This rank's B completions of one generation batch.

    Args:
        drawn: each completion's problem and its rendered prompt.
        judge: judges them, each different completion of a problem once.
        reward: a verdict's worth.
        check_stop: called after each verdict; leaves by an exception where training is to stop.
    """

    def __init__(
        self,
        drawn: Sequence[tuple[Problem, Any]],
        judge: Judge,
        reward: RewardFunction,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.drawn = drawn
        self._judge = judge
        self._reward = reward
        self._check_stop = check_stop
        self._begun: dict[str, Iterable[Verdict]] = {}
        self._scored: list[tuple[str, Verdict, float | None, bool]] = []

    def rows(self) -> list[dict[str, Any]]:
        """As TRL takes them: B rows with a prompt, and this batch as a column of the reward function's."""
        return [{"prompt": prompt, "batch": self} for _, prompt in self.drawn]

    def begin(self, row: int, completion: str) -> None:
        """A completion has ended while others are still being sampled: its judging begins, elsewhere."""
        job = Job(self.drawn[row][0], completion)
        if job.id not in self._begun:
            self._begun[job.id] = self._judge.stream([job])

    def score(self, completions: Sequence[str], truncated: Sequence[bool]) -> list[float | None]:
        """The rewards of all B completions, in order; what ``begin`` has not begun is judged now.

        ``None`` for a verdict of status ``infrastructure``: TRL leaves such a row out of its group's mean and deviation
        and gives it no advantage (grpo_trainer.py:2722).

        Raises:
            SandboxError: the judge failed, and does not hand its faults out as verdicts.
        """
        jobs = [Job(problem, text) for (problem, _), text in zip(self.drawn, completions, strict=True)]
        wanted = dict.fromkeys(job.id for job in jobs)
        begun = [self._begun[name] for name in wanted if name in self._begun]
        rest = self._judge.stream([job for job in jobs if job.id not in self._begun])
        verdicts: dict[str, Verdict] = {}
        for verdict in chain(*begun, rest):
            verdicts[verdict.job_id] = verdict
            self._check_stop()
        rewards = {
            name: None if verdicts[name].status is Status.INFRASTRUCTURE else self._reward(verdicts[name])
            for name in wanted
        }
        self._scored = [
            (text, verdicts[job.id], rewards[job.id], cut)
            for job, text, cut in zip(jobs, completions, truncated, strict=True)
        ]
        return [rewards[job.id] for job in jobs]

    @property
    def rewards(self) -> list[float]:
        """The B rewards, in order; NaN where there is none."""
        return [math.nan if reward is None else reward for _, _, reward, _ in self._scored]

    def summaries(self) -> list[Summary]:
        """What other ranks have to know of each completion, in order."""
        return [
            Summary(problem.id, reward, verdict.status, verdict.pass_rate, cut)
            for (problem, _), (_, verdict, reward, cut) in zip(self.drawn, self._scored, strict=True)
        ]

    def rollouts(self, advantages: Sequence[float]) -> list[Rollout]:
        """The B rollouts, once their advantages are known."""
        return [
            Rollout(problem, prompt, text, verdict, reward, advantage, cut)
            for (problem, prompt), (text, verdict, reward, cut), advantage in zip(
                self.drawn, self._scored, advantages, strict=True
            )
        ]


def group_results(summaries: Sequence[Summary], size: int) -> list[GroupResult | None]:
    """What became of each group of ``size`` (G) completions that follow one another; ``None``: none was judged."""
    groups = (summaries[i : i + size] for i in range(0, len(summaries), size))
    return [_group_result([completion for completion in group if completion.reward is not None]) for group in groups]


def _group_result(judged: Sequence[Summary]) -> GroupResult | None:
    if not judged:
        return None
    return GroupResult(
        problem_id=judged[0].problem_id,
        rewards=[completion.reward for completion in judged if completion.reward is not None],
        statuses=[completion.status for completion in judged],
        pass_rates=[completion.pass_rate for completion in judged],
        truncated=sum(completion.truncated for completion in judged),
    )


class FaultCounter:
    """Ends a run whose verifier fails often, and bears with one that fails now and then.

    Args:
        most: the largest share of the newest ``WINDOW`` completions that may have no verdict.
    """

    WINDOW = 1000

    def __init__(self, most: float) -> None:
        self.most = most
        self._newest: deque[bool] = deque(maxlen=self.WINDOW)

    def count(self, summaries: Sequence[Summary]) -> float:
        """Take a batch in, of all ranks; returns its share of faults.

        Raises:
            SandboxError: all of it, or too many of late, could not be judged.
        """
        faults = [completion.reward is None for completion in summaries]
        self._newest.extend(faults)
        if all(faults):
            raise SandboxError(f"none of the {len(faults)} completions of a batch could be judged")
        if sum(self._newest) > self.most * self.WINDOW:
            raise SandboxError(
                f"{sum(self._newest)} of the newest {len(self._newest)} completions could not be judged, more than "
                f"--max_infrastructure_rate {self.most:g} of {self.WINDOW} allows; `grpo doctor` tests the sandbox"
            )
        return sum(faults) / len(faults)


def pool_rounds(metrics: dict[str, list[float]], logged: dict[str, int], rounds: Sequence[list[GroupResult]]) -> None:
    """One value for each metric that TRL logged once a round, over the completions of all rounds, in place.

    TRL averages over rounds of different sizes. ``logged`` tells how many values a metric had before the first round.
    ``reward`` and its deviations are then those of all completions that were sampled.
    """
    if len(rounds) == 1:
        return
    rewards = [reward for results in rounds for group in results for reward in group.rewards]
    sampled = [sum(len(group.rewards) for group in results) for results in rounds]
    ended = [n - sum(group.truncated for group in results) for n, results in zip(sampled, rounds, strict=True)]
    groups = [len(results) for results in rounds]
    for name, values in metrics.items():
        new = values[logged.get(name, 0) :]
        if len(new) != len(rounds):
            continue  # not one of a round
        if "std" in name and "frac" not in name:
            pooled = stdev(rewards)
        elif "min" in name.rpartition("/")[2]:
            pooled = min(new)
        elif "max" in name.rpartition("/")[2]:
            pooled = max(new)
        else:
            weights = groups if name.startswith("frac_") else ended if "terminated" in name else sampled
            pooled = sum(w * v for w, v in zip(weights, new, strict=True)) / max(1, sum(weights))
        values[logged.get(name, 0) :] = [pooled]


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

"""Completions on their way from the draw to the record: one value each, made in one place.

TRL generates and scores a batch in one method that hands no value of ours through, but it passes the rows that it was
given to the reward functions. So the ``RolloutBatch`` travels in the rows: generation tells it of each completion that
ends, the reward function has it judged, and once TRL has the advantages it gives the ``Rollout``s out.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import stdev
from typing import Any

from grpo_project.curriculum import GroupResult
from grpo_project.curriculum.diagnosis import SAME_REWARD
from grpo_project.errors import InfrastructureError, SandboxError
from grpo_project.problems.problem import Problem
from grpo_project.problems.prompt import prompt_as_text
from grpo_project.record.shards import verdict_row
from grpo_project.rewards.choice import RewardFunction
from grpo_project.verifier.verdict import Job, Judge, Status, Verdict


@dataclass(frozen=True, slots=True)
class Rollout:
    """A completion of a training problem, judged. ``prompt`` is as TRL takes it: messages or text."""

    problem: Problem
    prompt: Any
    completion: str
    verdict: Verdict
    reward: float | None
    """The weighted sum. ``None`` where no function gave a number, as where the verifier failed for reasons of our own:
    such a row is trained on as if it were not there."""
    advantage: float
    truncated: bool = False
    """The token limit came before an end token."""
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    """By the function's name, without weights."""

    def to_row(self) -> dict[str, Any]:
        """The row kept in ``samples/``; the store adds step and attempt."""
        return {
            "problem_id": self.problem.id,
            "level": self.problem.level,
            "prompt": prompt_as_text(self.prompt),
            "completion": self.completion,
            **verdict_row(self.verdict),
            "reward": self.reward,
            "rewards": dict(self.rewards),
            "advantage": self.advantage,
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """What every rank learns of a completion; code, tests and texts stay where they are."""

    problem_id: str
    reward: float | None
    rewards: tuple[float | None, ...]
    """Of each function."""
    status: Status
    pass_rate: float
    truncated: bool


class RolloutBatch:
    """This rank's B completions of one generation batch.

    Args:
        drawn: each completion's problem and its rendered prompt.
        judge: judges them, each different completion of a problem once.
        weights: of each reward function, by its name, in TRL's order.
        group_size: G.
        check_stop: called after each verdict; leaves by an exception where training is to stop.
    """

    def __init__(
        self,
        drawn: Sequence[tuple[Problem, Any]],
        judge: Judge,
        weights: Mapping[str, float],
        group_size: int,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.drawn = drawn
        self._judge = judge
        self._weights = weights
        self._group_size = group_size
        self._check_stop = check_stop
        self._begun: dict[str, Iterable[Verdict]] = {}
        self._judged: list[tuple[str, Verdict, bool]] = []
        self._given: dict[str, list[float | None]] = {}

    def rows(self) -> list[dict[str, Any]]:
        """As TRL takes them: B rows with a prompt, and this batch as a column of the reward function's."""
        return [{"prompt": prompt, "batch": self} for _, prompt in self.drawn]

    def begin(self, row: int, completion: str) -> None:
        """A completion has ended while others are still being sampled: its judging begins, elsewhere."""
        job = Job(self.drawn[row][0], completion)
        if job.id not in self._begun:
            self._begun[job.id] = self._judge.stream([job])

    def judge(self, completions: Sequence[str], truncated: Sequence[bool]) -> None:
        """Have all B completions judged, in order; what ``begin`` has not begun is judged now.

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
        self._judged = [
            (text, verdicts[job.id], cut) for job, text, cut in zip(jobs, completions, truncated, strict=True)
        ]

    def columns(self) -> dict[str, Any]:
        """What reward functions get beside TRL's columns, B of each, and the size of a group."""
        return {
            "problem": [problem for problem, _ in self.drawn],
            "verdict": [verdict for _, verdict, _ in self._judged],
            "num_generations": self._group_size,
        }

    def take(self, name: str, values: Sequence[Any]) -> list[float | None]:
        """Note what the function ``name`` gave the B completions, and hand it on to TRL.

        ``None`` for a verdict of status ``infrastructure``, whatever the function says: TRL leaves a row without any
        reward out of its group's mean and deviation and gives it no advantage (grpo_trainer.py:2756).

        Raises:
            InfrastructureError: it gave something else than a number, or ``None``, for each completion.
        """
        if len(values) != len(self._judged):
            raise InfrastructureError(
                f"the reward {name} gave {len(values)} values for {len(self._judged)} completions; it has to give one "
                "for each, in order"
            )
        for value in values:
            if value is not None and not math.isfinite(value):
                raise InfrastructureError(f"the reward {name} gave {value!r}; a finite number or None is wanted")
        known = [verdict.status is not Status.INFRASTRUCTURE for _, verdict, _ in self._judged]
        self._given[name] = [
            float(value) if value is not None and judged else None for value, judged in zip(values, known, strict=True)
        ]
        return self._given[name]

    def _rewards(self) -> Iterator[tuple[float | None, tuple[float | None, ...]]]:
        """Of each completion, in order: the weighted sum of what was given, as TRL's, and each function's."""
        for row in zip(*(self._given[name] for name in self._weights), strict=True):
            given = [w * value for w, value in zip(self._weights.values(), row, strict=True) if value is not None]
            yield (sum(given) if given else None), row

    @property
    def rewards(self) -> list[float]:
        """The B rewards, in order; NaN where there is none."""
        return [math.nan if reward is None else reward for reward, _ in self._rewards()]

    def summaries(self) -> list[Summary]:
        """What other ranks have to know of each completion, in order."""
        return [
            Summary(problem.id, reward, by_function, verdict.status, verdict.pass_rate, cut)
            for (problem, _), (_, verdict, cut), (reward, by_function) in zip(
                self.drawn, self._judged, self._rewards(), strict=True
            )
        ]

    def rollouts(self, advantages: Sequence[float]) -> list[Rollout]:
        """The B rollouts, once their advantages are known."""
        return [
            Rollout(
                problem,
                prompt,
                text,
                verdict,
                reward,
                advantage,
                cut,
                dict(zip(self._weights, by_function, strict=True)),
            )
            for (problem, prompt), (text, verdict, cut), (reward, by_function), advantage in zip(
                self.drawn, self._judged, self._rewards(), advantages, strict=True
            )
        ]


def called_by_trl(function: RewardFunction) -> RewardFunction:
    """The reward function as TRL calls it: with a column for each key of the rows, see ``RolloutBatch.rows``.

    Its own failure ends the run with its name, after what was trained until then is saved.
    """
    name = function.__name__

    def failed(error: Exception) -> InfrastructureError:
        return InfrastructureError(f"the reward {name} failed: {type(error).__name__}: {error}")

    if inspect.iscoroutinefunction(function):

        async def awaited(batch: list[RolloutBatch], **columns: Any) -> list[float | None]:
            try:
                values = await function(**batch[0].columns(), **columns)
            except Exception as error:
                raise failed(error) from error
            return batch[0].take(name, values)

        awaited.__name__ = name
        return awaited

    def called(batch: list[RolloutBatch], **columns: Any) -> list[float | None]:
        try:
            values = function(**batch[0].columns(), **columns)
        except Exception as error:
            raise failed(error) from error
        return batch[0].take(name, values)

    called.__name__ = name  # TRL's name for its metrics: rewards/<name>/mean
    return called


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
        faults = [completion.status is Status.INFRASTRUCTURE for completion in summaries]
        self._newest.extend(faults)
        if all(faults):
            raise SandboxError(f"none of the {len(faults)} completions of a batch could be judged")
        if sum(self._newest) > self.most * self.WINDOW:
            raise SandboxError(
                f"{sum(self._newest)} of the newest {len(self._newest)} completions could not be judged, more than "
                f"--max_infrastructure_rate {self.most:g} of {self.WINDOW} allows; `grpo doctor` tests the sandbox"
            )
        return sum(faults) / len(faults)


def has_signal(group: Sequence[Summary], aggregation: str) -> bool:
    """Whether a group's advantages differ: its rewards do or, where TRL normalises each function's by itself
    (``normalize_then_sum``), those of some function."""
    columns = [[completion.reward for completion in group]]
    if aggregation == "normalize_then_sum":
        columns = [list(column) for column in zip(*(completion.rewards for completion in group), strict=True)]
    known = [[value for value in column if value is not None] for column in columns]
    return any(max(values) - min(values) > SAME_REWARD for values in known if values)


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

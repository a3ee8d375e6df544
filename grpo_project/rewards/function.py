"""A reward as TRL calls it: ``f(completions=..., problem=..., **columns) -> list[float | None]``.

In our own trainer the verdicts are there already and come as a column; in any other trainer the completions are judged
here, by one verifier for the whole process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from grpo_project.problems.problem import Problem
from grpo_project.rewards import verdicts as formulas
from grpo_project.rewards.judging import judged
from grpo_project.verifier.verdict import Status, Verdict

GroupFormula = Callable[[Sequence[Verdict]], list[float]]
"""The verdicts of a group's completions to a number for each."""


class VerdictReward:
    """A reward that follows from verdicts alone.

    Args:
        name: TRL's name for its metrics, ``rewards/NAME/mean``.
        formula: of a group's verdicts.
        weak_tests: whether tests that only the program's own objects can judge count ("allow") or not ("ignore").
    """

    def __init__(self, name: str, formula: GroupFormula, weak_tests: str = "ignore") -> None:
        self.__name__ = self.name = name
        self.__doc__ = formula.__doc__
        self._formula = formula
        self._weak_tests = weak_tests

    def with_weak_tests(self, weak_tests: str) -> VerdictReward:
        """The same reward with another ``weak_tests``."""
        return VerdictReward(self.name, self._formula, weak_tests)

    def of_group(self, verdicts: Sequence[Verdict]) -> list[float | None]:
        """The rewards of the completions of one problem; ``None`` where our own side could not judge."""
        known = [verdict for verdict in verdicts if verdict.status is not Status.INFRASTRUCTURE]
        if self._weak_tests == "ignore":
            known = [formulas.strong_evidence(verdict) for verdict in known]
        values = iter(self._formula(known) if known else [])
        return [None if verdict.status is Status.INFRASTRUCTURE else next(values) for verdict in verdicts]

    def __call__(
        self,
        completions: Sequence[Any],
        problem: Sequence[Problem | str],
        verdict: Sequence[Verdict] | None = None,
        num_generations: int | None = None,
        **_: Any,
    ) -> list[float | None]:
        """The rewards of B completions, in order.

        Args:
            completions: texts, or conversations as TRL hands them over.
            problem: each completion's problem: a ``Problem``, or its row as text (the column of ``as_dataset``).
            verdict: if they are known already.
            num_generations: size of a group; without it, neighbours of one problem are a group.

        Raises:
            SandboxError: the verifier could not do its work; never a reward of 0.
            DataError: a problem's tests can't be run.
        """
        found = judged(completions, problem) if verdict is None else list(verdict)
        if num_generations is not None:
            groups = [found[i : i + num_generations] for i in range(0, len(found), num_generations)]
        else:
            groups = [list(group) for _, group in itertools.groupby(found, key=lambda verdict: verdict.problem_id)]
        return [value for group in groups for value in self.of_group(group)]

    def __repr__(self) -> str:
        return f"<reward {self.name}>"


def _each(formula: Callable[[Verdict], float]) -> GroupFormula:
    def of_group(verdicts: Sequence[Verdict]) -> list[float]:
        return [formula(verdict) for verdict in verdicts]

    of_group.__doc__ = formula.__doc__
    return of_group


pass_rate = VerdictReward("pass_rate", _each(formulas.pass_rate))
all_or_nothing = VerdictReward("all_or_nothing", _each(formulas.all_or_nothing))
mixed = VerdictReward("mixed", _each(formulas.mixed))
stepwise = VerdictReward("stepwise", _each(formulas.stepwise))
weighted = VerdictReward("weighted", formulas.weighted)

OURS = {reward.name: reward for reward in (pass_rate, all_or_nothing, mixed, stepwise, weighted)}

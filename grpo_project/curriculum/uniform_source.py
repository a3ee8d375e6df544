"""What stands in a curriculum's place when there is none: all problems in a shuffled order, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from grpo_project.curriculum.diagnosis import Alarm, Diagnosis, GroupResult
from grpo_project.errors import CheckpointError
from grpo_project.problems.problem import Problem

NAMES = ["none"]  # in a state, where a curriculum's has its gate, sampler and stages


class UniformSource:
    """The same seam as ``Curriculum``, so that the trainer needs no branches. Every problem comes once an epoch."""

    stop_reason: str | None = None

    def __init__(self, problems: Sequence[Problem], *, seed: int = 0, evaluation_interval: int = 25) -> None:
        self.problems = problems
        self._seed = seed
        self._epoch = 0
        self._position = 0
        self._order = self._shuffled()
        self._evaluations = 0
        self._performance: float | None = None
        self._diagnosis = Diagnosis(evaluation_interval)

    def draw(self, n: int) -> list[Problem]:
        """The problems of the next ``n`` groups."""
        drawn = []
        for _ in range(n):
            if self._position == len(self._order):
                self._epoch, self._position = self._epoch + 1, 0
                self._order = self._shuffled()
            drawn.append(self.problems[self._order[self._position]])
            self._position += 1
        return drawn

    def observe_rollouts(self, step: int, results: Sequence[GroupResult]) -> None:
        self._diagnosis.observe_rollouts(step, "", results)

    def observe_resampling(self, step: int, without_variance: int, groups: int, attempts: int) -> None:
        self._diagnosis.observe_resampling(step, "", without_variance, groups, attempts)

    def observe_evaluation(
        self,
        step: int,
        pass_rate: float | None,
        n: int,
        by_level: Mapping[str, tuple[float, int]] | None = None,
        by_problem: Iterable[tuple[Problem, float]] | None = None,
    ) -> None:
        self._evaluations += 1
        self._performance = pass_rate
        self._diagnosis.observe_evaluation(step, "", "" if pass_rate is not None else "pass rate")

    def take_alarms(self) -> list[Alarm]:
        return self._diagnosis.take_new()

    @property
    def active_alarms(self) -> frozenset[str]:
        return self._diagnosis.active

    def metrics(self) -> dict[str, float]:
        """The guide's names, so that plots of runs with and without a curriculum compare."""
        found = {
            "curriculum/evaluation_count": float(self._evaluations),
            "curriculum/latest_performance": self._performance,
            "curriculum/zero_variance_share": self._diagnosis.zero_variance_share,
        }
        return {name: value for name, value in found.items() if value is not None}

    def explain(self) -> str:
        return f"No curriculum: all {len(self.problems)} problems in shuffled order, epoch {self._epoch}."

    def state_dict(self) -> dict[str, Any]:
        return {
            "names": NAMES,
            "problems": len(self.problems),
            "seed": self._seed,
            "epoch": self._epoch,
            "position": self._position,
            "evaluations": self._evaluations,
            "performance": self._performance,
            "diagnosis": self._diagnosis.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``.

        Raises:
            CheckpointError: the state is of a curriculum, or of another number of problems.
        """
        if state["names"] != NAMES or state["problems"] != len(self.problems):
            raise CheckpointError(
                f"the checkpoint's curriculum is {', '.join(state['names'])} over {state['problems']} problems, this "
                f"run has none, over {len(self.problems)}; resume with the same configuration and data"
            )
        if (self._seed, self._epoch) != (state["seed"], state["epoch"]):
            self._seed, self._epoch = state["seed"], state["epoch"]
            self._order = self._shuffled()
        self._position = state["position"]
        self._evaluations = state["evaluations"]
        self._performance = state["performance"]
        self._diagnosis.load_state_dict(state["diagnosis"])

    def snapshot(self) -> object:
        """A point that ``restore`` can go back to."""
        return self.state_dict()

    def restore(self, snapshot: object) -> None:
        """Undo everything since ``snapshot`` was taken."""
        assert isinstance(snapshot, dict)
        self.load_state_dict(snapshot)

    def _shuffled(self) -> list[int]:
        """The order of an epoch depends on the seed and the epoch alone."""
        order = list(range(len(self.problems)))
        Random(f"{self._seed}-{self._epoch}").shuffle(order)
        return order

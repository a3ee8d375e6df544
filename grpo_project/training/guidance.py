"""Between the trainer and the curriculum: draws problems, passes on what happened, writes every decision down."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from grpo_project.curriculum import Alarm, Curriculum, Decision, GroupResult, UniformSource
from grpo_project.evaluation.result import EvaluationResult
from grpo_project.problems.problem import Problem
from grpo_project.record.journal import Journal
from grpo_project.record.samples import SampleStore
from grpo_project.training.rollout import Rollout

logger = logging.getLogger("grpo_project")


class Guidance:
    """The trainer's ``ProblemSource``. The same on every rank; only the main process has a journal and a sample store.

    Args:
        source: the curriculum, or what stands in its place.
        heldout: the problems that evaluations choose from.
        journal: decisions and alarms become events.
        samples: every rollout is kept there.
        say: tells the user about a change of stage.
        ask_to_stop: ends the run, with a reason, when a stall is to end it (``--on_stall stop``).
    """

    def __init__(
        self,
        source: Curriculum | UniformSource,
        heldout: Sequence[Problem],
        journal: Journal | None,
        samples: SampleStore | None,
        say: Callable[[str], None],
        ask_to_stop: Callable[[str], None],
    ) -> None:
        self.source = source
        self._by_id = {problem.id: problem for problem in heldout}
        self.journal = journal
        self.samples = samples
        self.say = say
        self.ask_to_stop = ask_to_stop

    def draw(self, n: int) -> Sequence[Problem]:
        return self.source.draw(n)

    def state_dict(self) -> dict[str, Any]:
        return self.source.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.source.load_state_dict(state)

    def metrics(self) -> dict[str, float]:
        return self.source.metrics()

    def observe_rollouts(self, step: int, groups: list[list[Rollout]]) -> None:
        """A generation batch for ``step`` was judged."""
        if self.samples is not None:
            self.samples.append(step, [rollout.to_row() for group in groups for rollout in group])
        self._after(self.source.observe_rollouts(step, [group_result(group) for group in groups]))

    def observe_resampling(self, step: int, without_variance: int, groups: int, attempts: int) -> None:
        """The batch for ``step`` is complete: so many groups have no variance after ``attempts`` redraws."""
        self.source.observe_resampling(step, without_variance, groups, attempts)
        self._after(None)

    def observe_evaluation(self, result: EvaluationResult) -> None:
        """Held-out problems were evaluated."""
        by_problem = [(self._by_id[problem_id], rate) for problem_id, rate in result.rates.items()]
        decision = self.source.observe_evaluation(result.step, result.pass_rate, result.n, result.by_level, by_problem)
        self._after(decision)

    def _after(self, decision: Decision | None) -> None:
        if decision is not None:
            self.record_event("stage_decision", **decision.to_event())
            if decision.action != "hold":
                self.say(f"step {decision.step}: {decision.stage} -> {decision.next_stage}: {decision.reason}")
        for alarm in self.source.drain_alarms():
            self._report(alarm)
        if self.source.stop_reason is not None:
            self.ask_to_stop(self.source.stop_reason)

    def _report(self, alarm: Alarm) -> None:
        logger.warning("%s", alarm)
        self.record_event("alarm", step=alarm.step, kind=alarm.kind, cause=alarm.cause, remedy=alarm.remedy)

    def record_event(self, name: str, **fields: Any) -> None:
        """Write an event into the journal (main process)."""
        if self.journal is not None:
            self.journal.event(name, **fields)


def group_result(group: list[Rollout]) -> GroupResult:
    return GroupResult(
        problem_id=group[0].problem.id,
        rewards=[rollout.reward for rollout in group],
        statuses=[rollout.verdict.status for rollout in group],
        pass_rates=[rollout.verdict.pass_rate for rollout in group],
        truncated=sum(rollout.truncated for rollout in group),
    )

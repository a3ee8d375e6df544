"""What a run makes of what its trainer sees: completions are kept, the curriculum learns, decisions become events.

Every rank has the same curriculum in the same state, since all of them see the same results. Only the main process has
a journal and a sample store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from grpo_project.curriculum import Alarm, Curriculum, Decision, GroupResult, UniformSource
from grpo_project.evaluation.divergence import Divergence
from grpo_project.evaluation.result import EvaluationResult
from grpo_project.problems.problem import Problem
from grpo_project.record.journal import Journal
from grpo_project.record.samples import SampleStore
from grpo_project.training.ranks import gather_on_main
from grpo_project.training.rollout import Rollout

logger = logging.getLogger("grpo_project")


class EventWriter:
    """Writes what was decided into the journal, and tells the user of it. Without a journal it only tells.

    ``say`` prints a line that stays.
    """

    def __init__(self, journal: Journal | None, say: Callable[[str], None]) -> None:
        self._journal = journal
        self._say = say

    def event(self, name: str, **fields: Any) -> None:
        if self._journal is not None:
            self._journal.event(name, **fields)

    def decision(self, decision: Decision) -> None:
        self.event("stage_decision", **decision.to_event())
        if decision.action != "hold":
            self._say(f"step {decision.step}: {decision.stage} -> {decision.next_stage}: {decision.reason}")

    def alarm(self, alarm: Alarm) -> None:
        logger.warning("%s", alarm)
        self.event("alarm", step=alarm.step, kind=alarm.kind, cause=alarm.cause, remedy=alarm.remedy)


class RunObserver:
    """The trainer's ``Observer``: hands each measurement to the curriculum and acts on what it answers.

    Args:
        curriculum: the curriculum, or what stands in its place.
        heldout: the problems that evaluations choose from.
        events: decisions and alarms go there.
        samples: every completion goes there.
        ask_to_stop: ends the run, with a reason, when a stall is to end it (``--on_stall stop``).
    """

    def __init__(
        self,
        curriculum: Curriculum | UniformSource,
        heldout: Sequence[Problem],
        events: EventWriter,
        samples: SampleStore | None,
        ask_to_stop: Callable[[str], None],
    ) -> None:
        self.divergence = Divergence({problem.id: problem.level for problem in curriculum.problems})
        self._curriculum = curriculum
        self._heldout = {problem.id: problem for problem in heldout}
        self._events = events
        self._samples = samples
        self._ask_to_stop = ask_to_stop

    def restored(self) -> None:
        """The curriculum was put back as a checkpoint has it: a stall that ended the run ends it again."""
        self._stop_if_stalled()

    def rollouts(self, step: int, rollouts: list[Rollout], results: list[GroupResult]) -> None:
        """A generation batch for ``step`` was judged: this rank's completions, and all ranks' groups."""
        rows = gather_on_main([rollout.to_row() for rollout in rollouts])
        if self._samples is not None:
            self._samples.append(step, rows)
        self.divergence.observe_rollouts(results)
        self._act_on(self._curriculum.observe_rollouts(step, results))

    def resampled(self, step: int, without_variance: int, groups: int, attempts: int) -> None:
        """The batch for ``step`` is complete: so many groups have no variance after ``attempts`` redraws."""
        self._curriculum.observe_resampling(step, without_variance, groups, attempts)
        self._act_on(None)

    def evaluation(self, result: EvaluationResult) -> None:
        """Held-out problems were evaluated."""
        by_problem = [(self._heldout[problem_id], rate) for problem_id, rate in result.rates.items()]
        decision = self._curriculum.observe_evaluation(
            result.step, result.pass_rate, result.n, result.by_level, by_problem
        )
        self._act_on(decision)
        if (alarm := self.divergence.observe_evaluation(result)) is not None:
            self._events.alarm(alarm)

    def _act_on(self, decision: Decision | None) -> None:
        if decision is not None:
            self._events.decision(decision)
        for alarm in self._curriculum.take_alarms():
            self._events.alarm(alarm)
        self._stop_if_stalled()

    def _stop_if_stalled(self) -> None:
        if self._curriculum.stop_reason is not None:
            self._ask_to_stop(self._curriculum.stop_reason)

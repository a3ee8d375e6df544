"""The curriculum that a trainer talks to: draws problems, hears what became of them, and moves through the stages.

Deterministic: the same arguments and the same observations give the same draws and decisions, on every rank and after
every resume. It holds no clock, no file and no model; what it learns comes through ``observe_*``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from grpo_project.curriculum.diagnosis import Alarm, Diagnosis, GroupResult
from grpo_project.curriculum.gate import Gate
from grpo_project.curriculum.pools import Pools
from grpo_project.curriculum.progress import Decision, Progress
from grpo_project.curriculum.sampler import ALL, Draw, Outcome, Sampler
from grpo_project.curriculum.settings import CurriculumSettings
from grpo_project.curriculum.stages import Stage, batch_shares, rates_by_stage
from grpo_project.errors import CheckpointError
from grpo_project.problems.problem import BUILTIN, LEVELS, Problem

MAX_PENDING = 4096  # draws that wait for their results; a trainer that reads ahead and stops leaves some behind
REVIEW_STEPS = 25
STATE_VERSION = 3  # 2, which is read too, had other evidence in the gate; 1 no pools and another learnable sampler


class Curriculum:
    """Stages, a sampler and a gate over a set of problems.

    ``threshold`` and ``on_stall`` override the settings (``CurriculumSettings.overridden``). ``evaluation_interval``
    (optimizer steps) says when an evaluation is overdue; 0 expects none, and rollouts alone decide.

    Raises:
        ConfigError: no problem belongs to any stage, or the settings ask for evaluations where none is expected.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        settings: CurriculumSettings | None = None,
        *,
        seed: int = 0,
        threshold: float | None = None,
        on_stall: str | None = None,
        evaluation_interval: int = 25,
    ) -> None:
        settings = (settings or CurriculumSettings()).overridden(threshold, on_stall)
        self.problems = problems
        self.settings = settings
        self.stages = settings.all_stages
        self._no_builtin = all(problem.source != BUILTIN for problem in problems)
        self._index_of = {problem.id: i for i, problem in enumerate(problems)}
        self._pools = Pools(problems, self.stages, seed)
        self._sampler: Sampler = settings.build_sampler(self._pools.of_stage, problems)
        self._gate: Gate = settings.build_gate(expects_evaluations=evaluation_interval > 0)
        self._rng = Random(seed)
        self._diagnosis = Diagnosis(evaluation_interval)
        self._progress = Progress(settings, self._pools, self._gate, self._diagnosis)
        self._pending: deque[Draw] = deque(maxlen=MAX_PENDING)
        self._reviews_itself = evaluation_interval == 0
        self._reviewed_at = 0
        self._evaluations = 0
        self._performance: float | None = None
        self._batch_levels: dict[str, float] = {}
        self._reported_empty: list[str] = []
        self._reported_outside = 0
        self._snapshot: tuple[Any, Any, dict[str, Any]] | None = None
        self._report_selection(0)

    # Drawing

    def draw(self, n: int) -> list[Problem]:
        """The problems of the next ``n`` groups."""
        self._pools.restart_order()
        shares = batch_shares(self.stages, self._pools.sizes, self._progress.current)
        draws = [self._draw_unsorted() or self._draw_sorted(shares) for _ in range(n)]
        self._pending.extend(draws)
        return [self._pools.problem(draw.problem) for draw in draws]

    def _draw_unsorted(self) -> Draw | None:
        """A problem to be sorted, if it is the turn of one."""
        if not self._pools.unsorted or self.settings.sampler == "uniform":
            return None
        is_needed = not self._pools.sizes[self._progress.current]
        if not is_needed and self._rng.random() >= self.settings.sorting_share:
            return None
        problem = self._pools.next_unsorted()
        return None if problem is None else Draw(problem, ALL, False)

    def _draw_sorted(self, shares: Sequence[float]) -> Draw:
        if any(shares) or self.settings.sampler == "uniform":
            return self._sampler.draw(shares, self._rng)
        return Draw(self._rng.randrange(len(self.problems)), ALL, False)  # no stage has a problem, or not yet

    # Observing

    def observe_rollouts(self, step: int, results: Sequence[GroupResult]) -> Decision | None:
        """Take in a judged generation batch. Returns a decision if the stage changes because of it.

        Where no evaluations are to be expected, also every ``REVIEW_STEPS`` steps, so that a stall is noticed.

        Raises:
            ValueError: a result is of a problem that is not a training problem.
        """
        self._count_levels(results)
        for result in results:
            self._observe_group(result)
        self._report_selection(step)
        self._diagnosis.observe_rollouts(step, self.stage.name, results)
        decision = self._progress.after_rollouts(step)
        if decision is None and self._reviews_itself and step - self._reviewed_at >= REVIEW_STEPS:
            self._reviewed_at = step
            self._gate.add_evaluation({})
            return self._progress.after_review(step)
        return decision

    def observe_resampling(self, step: int, without_variance: int, groups: int, attempts: int) -> None:
        """After ``attempts`` redraws, the most allowed, so many of ``groups`` are without variance still.

        Redrawn groups are observed like any other: they are evidence.
        """
        self._diagnosis.observe_resampling(step, self.stage.name, without_variance, groups, attempts)

    def observe_evaluation(
        self,
        step: int,
        pass_rate: float | None,
        n: int,
        by_level: Mapping[str, tuple[float, int]] | None = None,
        by_problem: Iterable[tuple[Problem, float]] | None = None,
    ) -> Decision:
        """Take in an evaluation of ``n`` held-out problems and decide.

        ``by_level`` gives ``(pass rate, problems)`` for each level; ``by_problem`` gives each problem's pass rate,
        which stages that select by complexity or tags need. Where an evaluation knows of no stage's problems, the gate
        goes by rollouts. A ``pass_rate`` of None is an evaluation that failed to measure. Built-in problems are
        evidence for no stage, unless training has some too.
        """
        self._evaluations += 1
        results = None if by_problem is None else list(by_problem)
        if results and self._no_builtin and all(problem.source == BUILTIN for problem, _ in results):
            self._gate.add_foreign_evaluation()
            self._performance = pass_rate
            self._diagnosis.observe_evaluation(step, self.stage.name, "problem of your own kind")
            return self._progress.after_review(step)
        found = {} if pass_rate is None else rates_by_stage(self.stages, pass_rate, n, by_level or {}, results)
        if pass_rate is not None and all(self.stages[index].threshold is None for index in found):
            self._gate.add_foreign_evaluation()
            found = {self._progress.current: (pass_rate, n)}
        else:
            self._gate.add_evaluation(found)
        rate = found[self._progress.current][0] if self._progress.current in found else None
        self._performance = pass_rate if rate is None else rate
        lacks = "pass rate" if pass_rate is None else f"problem of stage {self.stage.name}"
        self._diagnosis.observe_evaluation(
            step, self.stage.name, lacks if rate is None and not self._progress.is_final else ""
        )
        return self._progress.after_evaluation(step, rate)

    # Reporting

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self._progress.stage

    @property
    def threshold(self) -> float | None:
        """What the current stage asks for, relaxations included; None in the last stage."""
        return self._progress.threshold

    @property
    def stop_reason(self) -> str | None:
        """Why training should end (``--on_stall stop``); None as long as it should not."""
        return self._progress.stop_reason

    def take_alarms(self) -> list[Alarm]:
        """The alarms since the last call."""
        return self._diagnosis.take_new()

    @property
    def active_alarms(self) -> frozenset[str]:
        """Kinds of the alarms whose condition still holds."""
        return self._diagnosis.active

    def metrics(self) -> dict[str, float]:
        """For a metrics row. What is not known yet is left out. Rates and shares are 0 to 1."""
        found: dict[str, float | None] = {
            "curriculum/evaluation_count": float(self._evaluations),
            "curriculum/latest_performance": self._performance,
            "curriculum/stage": float(self._progress.current),
            "curriculum/threshold": self.threshold,
            "curriculum/zero_variance_share": self._diagnosis.zero_variance_share,
        }
        if self._pools.to_sort:
            found["curriculum/unsorted_problems"] = float(self._pools.unsorted)
        if last := self._progress.last:
            found["curriculum/evidence"] = last.evidence
            found["curriculum/evidence_count"] = last.count
            if last.interval:
                found["curriculum/evidence_lower"], found["curriculum/evidence_upper"] = last.interval
        found |= {f"curriculum/share/{level}": share for level, share in self._batch_levels.items()}
        known = {name: value for name, value in found.items() if value is not None}
        return known | self._sampler.metrics(self._progress.current)

    def explain(self) -> str:
        """Why training is in this stage, in a sentence or two."""
        alarms = f" Alarms: {', '.join(sorted(self.active_alarms))}." if self.active_alarms else ""
        return self._progress.explain() + alarms

    def state_dict(self) -> dict[str, Any]:
        """Everything that later draws and decisions depend on, as plain JSON values. Grows with what was visited."""
        return {
            "version": STATE_VERSION,
            "names": self._names(),
            "problems": len(self.problems),
            "pools": self._pools.state_dict(),
            "sampler": self._sampler.state_dict(),
            **self._bounded_state(),
        }

    def snapshot(self) -> object:
        """A point that ``restore`` can go back to, until the next one is taken.

        Costs the same whatever was visited or sorted before: what grows is not copied, its changes are remembered.
        """
        self._snapshot = (self._pools.snapshot(), self._sampler.snapshot(), self._bounded_state())
        return self._snapshot

    def restore(self, snapshot: object) -> None:
        """Undo everything since ``snapshot`` was taken; costs as much as what is undone.

        Raises:
            ValueError: it is not the newest one.
        """
        if self._snapshot is None or snapshot is not self._snapshot:
            raise ValueError("an older snapshot: only the newest one can be gone back to")
        pools, sampler, bounded = self._snapshot
        self._pools.restore(pools)
        self._sampler.restore(sampler)
        self._load_bounded_state(bounded)

    def _bounded_state(self) -> dict[str, Any]:
        """What has a size that does not depend on how many problems were visited."""
        version, internal, gauss = self._rng.getstate()
        return {
            "rng": [version, list(internal), gauss],
            "gate": self._gate.state_dict(),
            "diagnosis": self._diagnosis.state_dict(),
            "progress": self._progress.state_dict(),
            "pending": [list(draw) for draw in self._pending],
            "reviewed_at": self._reviewed_at,
            "evaluations": self._evaluations,
            "performance": self._performance,
            "batch_levels": dict(self._batch_levels),
            "told_empty": list(self._reported_empty),
            "told_outside": self._reported_outside,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``.

        Raises:
            CheckpointError: the state is of a curriculum with another gate, sampler, stages or number of problems, or
                of another version of this program.
        """
        names = self._names()
        if state["names"] != names or state["problems"] != len(self.problems):
            raise CheckpointError(
                f"the checkpoint's curriculum is {', '.join(state['names'])} over {state['problems']} problems, this "
                f"run's is {', '.join(names)} over {len(self.problems)}; resume with the same configuration and data"
            )
        if (written := state.get("version", 1)) not in (2, STATE_VERSION):
            raise CheckpointError(
                f"the checkpoint's curriculum is of version {written}, this program's of {STATE_VERSION}; finish the "
                "run with the version that began it, or start anew with another --output_dir"
            )
        self._pools.load_state_dict(state["pools"])
        self._sampler.load_state_dict(state["sampler"])
        self._load_bounded_state(state)
        self._snapshot = None

    def _load_bounded_state(self, state: dict[str, Any]) -> None:
        version, internal, gauss = state["rng"]
        self._rng.setstate((version, tuple(internal), gauss))
        self._gate.load_state_dict(state["gate"])
        self._diagnosis.load_state_dict(state["diagnosis"])
        self._progress.load_state_dict(state["progress"])
        self._pending = deque((Draw(*draw) for draw in state["pending"]), maxlen=MAX_PENDING)
        self._reviewed_at = state["reviewed_at"]
        self._evaluations = state["evaluations"]
        self._performance = state["performance"]
        self._batch_levels = dict(state["batch_levels"])
        self._reported_empty = list(state["told_empty"])
        self._reported_outside = state["told_outside"]

    # Inside

    def _names(self) -> list[str]:
        """What must be the same for a state to fit. (The first is the gate's: version 0.1.0 had two.)"""
        return ["confident", self.settings.sampler, *(stage.name for stage in self.stages)]

    def _index(self, result: GroupResult) -> int:
        if result.problem_id not in self._index_of:
            raise ValueError(f"{result.problem_id!r} is not a training problem of this curriculum")
        return self._index_of[result.problem_id]

    def _observe_group(self, result: GroupResult) -> None:
        problem = self._index(result)
        draw = next((d for d in self._pending if d.problem == problem), None)
        if draw is None:  # drawn by somebody else: good for the sampler's estimates, no evidence for the gate
            draw = Draw(problem, ALL, False)
        else:
            self._pending.remove(draw)
        self._sampler.observe(draw, Outcome(result.pass_rate, len(result.rewards), result.varied))
        if draw.probe:
            for index in self._stages_probed(draw):
                self._gate.add_rollout(index, result.pass_rate)
        self._pools.sort(problem, result.solved, len(result.statuses))

    def _stages_probed(self, draw: Draw) -> list[int]:
        """A uniform draw from all problems is also a uniform draw from each stage that holds the problem."""
        if draw.stage != ALL and self._pools.sizes[draw.stage] < len(self.problems):
            return [draw.stage]
        problem = self._pools.problem(draw.problem)
        return [i for i, stage in enumerate(self.stages) if stage.selects(problem)]

    def _count_levels(self, results: Sequence[GroupResult]) -> None:
        levels = [self._pools.problem(self._index(result)).level for result in results]
        present = [level for level in (*LEVELS, "unknown") if level in levels or level in self._batch_levels]
        self._batch_levels = {level: levels.count(level) / len(levels) for level in present} if levels else {}

    def _report_selection(self, step: int) -> None:
        """Alarms for stages without problems and problems without a stage, when there is something new to report."""
        total, unsorted = len(self.problems), self._pools.unsorted
        outside = self._pools.outside_at_start if unsorted else self._pools.outside  # again when all are sorted
        empty = [stage.name for i, stage in enumerate(self.stages) if not self._pools.may_have_problems(i)]
        remedy = "Give problems a level or complexity (`grpo difficulty`), or choose stages by --curriculum_config."
        if outside != self._reported_outside:
            self._reported_outside = outside
            when = "before the mixed stage" if self.stages[-1].is_mixed else "at all"
            cause = f"{outside} of {total} training problems belong to no stage and are not drawn {when}."
            if outside == total:
                cause = f"None of the {total} training problems belongs to a stage: all are drawn."
            self._diagnosis.clear("unstaged_problems")
            self._diagnosis.raise_alarm("unstaged_problems", step, cause, remedy)
        if empty != self._reported_empty and outside < total:
            self._reported_empty = empty
            so_far = f" so far ({unsorted} are not sorted yet)" if unsorted else ""
            cause = f"No training problem belongs to stage {', '.join(empty)}{so_far}: skipped."
            self._diagnosis.clear("empty_stage")
            self._diagnosis.set_condition("empty_stage", bool(empty), step, cause, remedy)

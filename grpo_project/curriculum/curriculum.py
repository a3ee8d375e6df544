"""The curriculum that a trainer talks to: draws problems, hears what became of them, and moves through the stages.

Deterministic: the same arguments and the same observations give the same draws and decisions, on every rank and after
every resume. It holds no clock, no file and no model; what it learns comes through ``observe_*``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from grpo_project.curriculum.decision import Action, Decision, describe_evidence
from grpo_project.curriculum.diagnosis import Alarm, Diagnosis, GroupResult
from grpo_project.curriculum.gate import Gate
from grpo_project.curriculum.sampler import Draw, Outcome, Sampler
from grpo_project.curriculum.settings import CurriculumSettings, OnStall
from grpo_project.curriculum.stages import Stage, batch_shares, rates_by_stage
from grpo_project.curriculum.stall import Stall
from grpo_project.errors import CheckpointError, ConfigError
from grpo_project.problems.problem import LEVELS, Problem

MAX_PENDING = 4096  # draws that wait for their results; a trainer that reads ahead and stops leaves some behind


class Curriculum:
    """Stages, a sampler and a gate over a set of problems.

    ``threshold`` overrides those of all stages, ``on_stall`` that of the settings. ``evaluation_interval`` (optimizer
    steps; 0: none expected) tells when an evaluation is overdue.

    Raises:
        ConfigError: no problem belongs to any stage.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        settings: CurriculumSettings | None = None,
        *,
        seed: int = 0,
        threshold: float | None = None,
        on_stall: OnStall | None = None,
        evaluation_interval: int = 25,
    ) -> None:
        settings = settings or CurriculumSettings()
        self.problems = problems
        self.settings = settings
        self.stages = settings.all_stages
        self._threshold_override = threshold
        self._index_of = {problem.id: i for i, problem in enumerate(problems)}
        self._pools = [[i for i, p in enumerate(problems) if stage.selects(p)] for stage in self.stages]
        self._sizes = [len(pool) for pool in self._pools]
        self._sampler: Sampler = settings.build_sampler(self._pools, len(problems))
        self._gate: Gate = settings.build_gate()
        self._rng = Random(seed)
        self._diagnosis = Diagnosis(evaluation_interval)
        self._stall = Stall(on_stall or settings.on_stall, settings.patience)
        self._pending: deque[Draw] = deque(maxlen=MAX_PENDING)
        self._lowered = [0.0] * len(self.stages)  # by --on_stall relax
        self._current = self._first_stage()
        self._entered_at = 0
        self._evaluations = 0
        self._performance: float | None = None
        self._batch_levels: dict[str, float] = {}
        self._last: Decision | None = None
        self._stop_reason: str | None = None
        self._report_selection()

    # Drawing

    def draw(self, n: int) -> list[Problem]:
        """The problems of the next ``n`` groups."""
        shares = batch_shares(self.stages, self._sizes, self._current)
        draws = [self._sampler.draw(shares, self._rng) for _ in range(n)]
        self._pending.extend(draws)
        return [self.problems[draw.problem] for draw in draws]

    def resample(self, step: int, results: Sequence[GroupResult], attempt: int, max_resample: int) -> list[Problem]:
        """Problems in place of the groups without variance, or none after ``max_resample`` attempts (then an alarm).

        ``attempt`` counts from 0. Discarded groups must have been observed like any other: they are evidence.
        """
        dead = sum(1 for result in results if not result.varied)
        if attempt < max_resample:
            self._diagnosis.clear("resample_exhausted")
            return self.draw(dead)
        if dead and max_resample:
            cause = f"{dead} of {len(results)} groups still have no variance after {max_resample} attempts to redraw."
            remedy = "Training goes on without them. If this persists the problems are too easy or too hard as a whole."
            self._diagnosis.raise_alarm("resample_exhausted", step, cause, remedy, self.stage.name)
        return []

    # Observing

    def observe_rollouts(self, step: int, results: Sequence[GroupResult]) -> Decision | None:
        """Take in a judged generation batch. Returns a decision if the stage changes because of it.

        Raises:
            ValueError: a result is of a problem that is not a training problem.
        """
        for result in results:
            self._observe_group(result)
        self._count_levels(results)
        self._diagnosis.observe_rollouts(step, self.stage.name, results)
        return self._leave(step, self._missing() if self._gate.uses_rollouts else "an evaluation")

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
        which stages that select by complexity or tags need. An evaluation that knows of no stage's problems counts,
        as a whole, for the current stage. A ``pass_rate`` of None is an evaluation that failed to measure.
        """
        self._evaluations += 1
        results = None if by_problem is None else list(by_problem)
        found = {} if pass_rate is None else rates_by_stage(self.stages, pass_rate, n, by_level or {}, results)
        if pass_rate is not None and all(self.stages[index].threshold is None for index in found):
            found[self._current] = (pass_rate, n)
        for index, (stage_rate, count) in found.items():
            self._gate.add_evaluation(index, stage_rate, count)
        self._gate.end_evaluation()
        rate = found[self._current][0] if self._current in found else None
        self._performance = pass_rate if rate is None else rate
        lacks = "pass rate" if pass_rate is None else f"problem of stage {self.stage.name}"
        self._diagnosis.observe_evaluation(step, self.stage.name, lacks if rate is None and not self._is_final else "")
        missing = self._missing()
        self._last = self._leave(step, missing) or self._hold(step, missing, rate)
        return self._last

    # Telling

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self.stages[self._current]

    @property
    def threshold(self) -> float | None:
        """What the current stage asks for, overrides and relaxations included; None in the last stage."""
        return None if self._is_final else self._threshold_of(self._current)

    @property
    def stop_reason(self) -> str | None:
        """Why training should end (``--on_stall stop``); None as long as it should not."""
        return self._stop_reason

    def drain_alarms(self) -> list[Alarm]:
        """The alarms since the last call."""
        return self._diagnosis.drain()

    @property
    def active_alarms(self) -> frozenset[str]:
        """Kinds of the alarms whose condition still holds."""
        return self._diagnosis.active

    def metrics(self) -> dict[str, float]:
        """For a metrics row. What is not known yet is left out. Rates and shares are 0 to 1."""
        found: dict[str, float | None] = {
            "curriculum/evaluation_count": float(self._evaluations),
            "curriculum/latest_performance": self._performance,
            "curriculum/stage": float(self._current),
            "curriculum/threshold": self.threshold,
            "curriculum/zero_variance_share": self._diagnosis.zero_variance_share,
        }
        if self._last:
            found["curriculum/evidence"] = self._last.evidence
            found["curriculum/evidence_count"] = self._last.count
            if self._last.interval:
                found["curriculum/evidence_lower"], found["curriculum/evidence_upper"] = self._last.interval
        found |= {f"curriculum/share/{level}": share for level, share in self._batch_levels.items()}
        known = {name: value for name, value in found.items() if value is not None}
        return known | self._sampler.metrics(self._current) | self._gate.metrics()

    def explain(self) -> str:
        """Why training is in this stage, in a sentence or two."""
        place = f"Stage {self.stage.name} ({self._current + 1} of {len(self.stages)}) since step {self._entered_at}"
        if self._is_final:
            return f"{place}: the last one, training stays here."
        measure = self._gate.measure(self._current, self.stage)
        missing = self._missing() or "nothing, the next batch decides"
        evidence = describe_evidence(measure.rate, measure.interval, measure.count)
        alarms = f" Alarms: {', '.join(sorted(self.active_alarms))}." if self.active_alarms else ""
        return f"{place}: {evidence}, threshold {self.threshold:.2f}; missing to advance: {missing}.{alarms}"

    def state_dict(self) -> dict[str, Any]:
        """Everything that later draws and decisions depend on, as plain JSON values."""
        version, internal, gauss = self._rng.getstate()
        return {
            "names": self._names(),
            "problems": len(self.problems),
            "rng": [version, list(internal), gauss],
            "gate": self._gate.state_dict(),
            "sampler": self._sampler.state_dict(),
            "diagnosis": self._diagnosis.state_dict(),
            "stall": self._stall.state_dict(),
            "pending": [list(draw) for draw in self._pending],
            "lowered": list(self._lowered),
            "current": self._current,
            "entered_at": self._entered_at,
            "evaluations": self._evaluations,
            "performance": self._performance,
            "batch_levels": dict(self._batch_levels),
            "last": self._last.to_event() if self._last else None,
            "stop_reason": self._stop_reason,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``.

        Raises:
            CheckpointError: the state is of a curriculum with another gate, sampler, stages or number of problems.
        """
        names = self._names()
        if state["names"] != names or state["problems"] != len(self.problems):
            raise CheckpointError(
                f"the checkpoint's curriculum is {', '.join(state['names'])} over {state['problems']} problems, this "
                f"run's is {', '.join(names)} over {len(self.problems)}; resume with the same configuration and data"
            )
        version, internal, gauss = state["rng"]
        self._rng.setstate((version, tuple(internal), gauss))
        self._gate.load_state_dict(state["gate"])
        self._sampler.load_state_dict(state["sampler"])
        self._diagnosis.load_state_dict(state["diagnosis"])
        self._stall.load_state_dict(state["stall"])
        self._pending = deque((Draw(*draw) for draw in state["pending"]), maxlen=MAX_PENDING)
        self._lowered = list(state["lowered"])
        self._current = state["current"]
        self._entered_at = state["entered_at"]
        self._evaluations = state["evaluations"]
        self._performance = state["performance"]
        self._batch_levels = dict(state["batch_levels"])
        self._last = Decision.from_event(state["last"]) if state["last"] else None
        self._stop_reason = state["stop_reason"]

    # Inside

    def _names(self) -> list[str]:
        """What must be the same for a state to fit."""
        return [self.settings.gate, self.settings.sampler, *(stage.name for stage in self.stages)]

    def _observe_group(self, result: GroupResult) -> None:
        if result.problem_id not in self._index_of:
            raise ValueError(f"{result.problem_id!r} is not a training problem of this curriculum")
        problem = self._index_of[result.problem_id]
        draw = next((d for d in self._pending if d.problem == problem), None)
        if draw is None:  # drawn by somebody else: good for the sampler's estimates, no evidence for the gate
            draw = Draw(problem, self._current, False)
        else:
            self._pending.remove(draw)
        self._sampler.observe(draw, outcome_of(result))
        if draw.probe:
            for index in self._stages_probed(draw):
                self._gate.add_rollout(index, result.pass_rate)

    def _stages_probed(self, draw: Draw) -> list[int]:
        """A uniform draw from all problems is also a uniform draw from each stage that holds the problem."""
        if self._sizes[draw.stage] < len(self.problems):
            return [draw.stage]
        return [i for i, stage in enumerate(self.stages) if stage.selects(self.problems[draw.problem])]

    def _count_levels(self, results: Sequence[GroupResult]) -> None:
        levels = [self.problems[self._index_of[result.problem_id]].level for result in results]
        present = [level for level in (*LEVELS, "unknown") if level in levels or level in self._batch_levels]
        self._batch_levels = {level: levels.count(level) / len(levels) for level in present} if levels else {}

    def _missing(self) -> str:
        """What the gate still asks of the current stage."""
        if self._is_final:
            return "nothing: the last stage is never left"
        return self._gate.missing(self._current, self.stage, self._threshold_of(self._current))

    def _leave(self, step: int, missing: str) -> Decision | None:
        """Change the stage if there is reason to."""
        if (previous := self._neighbour(-1)) is not None and self.settings.step_back and self._has_fallen(previous):
            fallen = (
                f"stage {self.stages[previous].name} is surely below its threshold by {self.settings.hysteresis:.2f}"
            )
            return self._enter(previous, "back", step, fallen, missing, "regression")
        following = self._neighbour(+1)
        if self._is_final or following is None:
            return None
        name, max_steps = self.stage.name, self.stage.max_steps
        if not missing:
            reason = f"the pass rate of stage {name} is above its threshold of {self.threshold:.2f}"
            return self._enter(following, "advance", step, reason, "", "gate")
        if max_steps is not None and step - self._entered_at >= max_steps:
            reason = f"stage {name} has lasted its max_steps of {max_steps}"
            return self._enter(following, "advance", step, reason, missing, "max_steps")
        return None

    def _hold(self, step: int, missing: str, rate: float | None) -> Decision:
        """Stay after an evaluation, unless the stage has stalled and something is to be done about that."""
        if self._is_final or not self._stall.observe(rate, self._threshold_of(self._current)):
            return self._decision("hold", step, self._current, f"missing to advance: {missing}", missing, "gate")
        action, following = self._stall.action, self._neighbour(+1)
        reason = self._stall.cause(self.stage.name)
        self._diagnosis.clear("plateau")  # each stall is told, also a second one in a row
        remedy = f"Missing to advance: {missing}. Done about it (--on_stall): {action}."
        self._diagnosis.raise_alarm("plateau", step, reason, remedy, self.stage.name)
        self._stall.reset()
        if action == "advance" and following is not None:
            return self._enter(following, "advance", step, reason, missing, "on_stall advance")
        lowered = max(0.0, self._threshold_of(self._current) - self._stall.relax_by)
        if action == "relax":
            reason += f" The threshold is lowered to {lowered:.2f}."
        decision = self._decision("hold", step, self._current, reason, missing, f"on_stall {action}")
        if action == "relax":
            self._lowered[self._current] += self._stall.relax_by
        if action == "stop":
            self._stop_reason = f"{reason} Missing to advance: {missing}."
        return decision

    def _enter(self, target: int, action: Action, step: int, reason: str, missing: str, cause: str) -> Decision:
        decision = self._decision(action, step, target, reason, missing, cause)
        if action == "back":
            self._gate.forget(target)
        self._current, self._entered_at, self._last = target, step, decision
        self._stall.reset()
        self._diagnosis.clear("plateau")
        return decision

    def _decision(self, action: Action, step: int, target: int, reason: str, missing: str, cause: str) -> Decision:
        measure = self._gate.measure(self._current, self.stage)
        return Decision(
            action=action,
            step=step,
            stage=self.stage.name,
            next_stage=self.stages[target].name,
            evidence=measure.rate,
            interval=measure.interval,
            count=measure.count,
            threshold=self.threshold,
            reason=reason,
            missing=missing,
            cause=cause,
        )

    def _has_fallen(self, index: int) -> bool:
        below = self._threshold_of(index) - self.settings.hysteresis
        return self._gate.has_fallen(index, self.stages[index], below)

    def _threshold_of(self, index: int) -> float:
        own = self.stages[index].threshold
        base = own if self._threshold_override is None else self._threshold_override
        assert base is not None, "only the last stage has no threshold"
        return max(0.0, base - self._lowered[index])

    @property
    def _is_final(self) -> bool:
        return self.stage.threshold is None or self._neighbour(+1) is None

    def _neighbour(self, direction: int) -> int | None:
        """The next stage with problems in a direction; None at the end."""
        index = self._current + direction
        while 0 <= index < len(self.stages):
            if self._pools[index]:
                return index
            index += direction
        return None

    def _first_stage(self) -> int:
        for index, pool in enumerate(self._pools):
            if pool:
                return index
        names = ", ".join(stage.name for stage in self.stages)
        raise ConfigError(f"no training problem belongs to any stage of the curriculum ({names})")

    def _report_selection(self) -> None:
        """Alarms for stages without problems and problems without a stage."""
        remedy = "Give problems a level or complexity (`grpo difficulty`), or choose stages by --curriculum_config."
        empty = [stage.name for stage, size in zip(self.stages, self._sizes, strict=True) if not size]
        if empty:
            cause = f"No training problem belongs to stage {', '.join(empty)}: skipped."
            self._diagnosis.raise_alarm("empty_stage", 0, cause, remedy)
        pools = [pool for stage, pool in zip(self.stages, self._pools, strict=True) if stage.threshold is not None]
        outside = len(self.problems) - len(set().union(*pools))
        if outside:
            when = "before the mixed stage" if self.stages[-1].threshold is None else "at all"
            cause = f"{outside} of {len(self.problems)} training problems belong to no stage and are not drawn {when}."
            self._diagnosis.raise_alarm("unstaged_problems", 0, cause, remedy)


def outcome_of(result: GroupResult) -> Outcome:
    """What a sampler needs to know of a group."""
    n = len(result.rewards)
    mean = sum(result.rewards) / n
    deviation = (sum((reward - mean) ** 2 for reward in result.rewards) / n) ** 0.5
    advantage = sum(abs(reward - mean) for reward in result.rewards) / n / deviation if result.varied else 0.0
    return Outcome(result.pass_rate, n, result.varied, advantage)

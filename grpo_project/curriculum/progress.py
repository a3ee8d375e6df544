"""When a stage ends: where training stands among the stages, and each decision to stay or advance.

``Progress`` asks the gate, which has the evidence (``gate``), and acts on its answer; ``Stall`` notices that nothing
moves; a ``Decision`` says what was decided and why, for the journal and for people.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from grpo_project.curriculum.diagnosis import Diagnosis
from grpo_project.curriculum.gate import Gate
from grpo_project.curriculum.pools import Pools
from grpo_project.curriculum.settings import CurriculumSettings
from grpo_project.curriculum.stages import Stage
from grpo_project.errors import ConfigError

TO_GO_ON = (
    "To go on all the same: --on_stall warn --allow_config_change (or relax, advance, another --curriculum_threshold)."
)

Action = Literal["advance", "hold"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Made after every evaluation, and whenever the stage changes in between."""

    action: Action
    step: int
    stage: str
    """The stage before."""
    next_stage: str
    """The stage after; the same for ``hold``."""
    evidence: float | None
    """The pass rate that the gate looked at, 0 to 1."""
    interval: tuple[float, float] | None
    """Its confidence bounds; ``None`` where there is no evidence."""
    count: float
    """Groups and evaluated problems behind it."""
    threshold: float | None
    reason: str
    """One sentence."""
    missing: str
    """What is missing to advance; empty if nothing."""
    cause: str = "gate"
    """What decided: ``gate``, ``max_steps``, ``empty`` (the stage has no problems), or the action of
    ``--on_stall`` that was taken."""
    unsorted: int = 0
    """Training problems without a level that wait to be sorted."""

    def to_event(self) -> dict[str, Any]:
        """For the journal: plain JSON values."""
        event = asdict(self)
        event["interval"] = list(self.interval) if self.interval else None
        return event

    @classmethod
    def from_event(cls, event: dict[str, Any]) -> Decision:
        """The inverse of ``to_event``; what a journal adds to an event is left aside."""
        values = {item.name: event[item.name] for item in fields(cls) if item.name in event}
        return cls(**{**values, "interval": tuple(values["interval"]) if values["interval"] else None})

    def explain(self) -> str:
        """Why training is where this decision left it, in a sentence or two."""
        return self._explain_stage() + describe_unsorted(self.unsorted)

    def _explain_stage(self) -> str:
        evidence = describe_evidence(self.evidence, self.interval, self.count)
        if self.next_stage != self.stage:
            return f"In stage {self.next_stage} since step {self.step}, because {self.reason} ({evidence})."
        if self.threshold is None:
            return f"In stage {self.stage}, the last one, at step {self.step}: {evidence}."
        asked = f"threshold {self.threshold:.2f}; missing to advance: {self.missing or 'nothing'}"
        return f"In stage {self.stage} at step {self.step}: {evidence}, {asked}."


class Stall:
    """A stage has stalled after ``patience`` evaluations whose second half is no better than the first by ``min_gain``.

    Whatever the trend, it has also stalled after three times that many: slow progress is reported too. ``relax`` lowers
    the threshold by ``relax_by``.
    """

    min_gain = 0.02
    relax_by = 0.05

    def __init__(self, action: str = "warn", patience: int = 6) -> None:
        self.action = action
        self.patience = patience
        self._rates: list[float | None] = []
        self._threshold = 0.0

    def observe(self, rate: float | None, threshold: float) -> bool:
        """Take in the stage's pass rate at an evaluation (None: it had none). Whether the stage has stalled."""
        self._rates.append(rate)
        self._threshold = threshold
        if len(self._rates) < self.patience:
            return False
        recent = self._rates[-self.patience :]
        first = [r for r in recent[: self.patience // 2] if r is not None]
        second = [r for r in recent[self.patience // 2 :] if r is not None]
        if not first or not second or len(self._rates) >= 3 * self.patience:
            return True
        return sum(second) / len(second) - sum(first) / len(first) < self.min_gain

    def cause(self, stage: str) -> str:
        """What was seen, as a sentence."""
        return f"Stage {stage} has made no progress towards {self._threshold:.2f} over {self.patience} evaluations."

    def reset(self) -> None:
        """A stage was entered, or the stall was acted on."""
        self._rates.clear()

    def is_as_in(self, state: dict[str, Any], threshold: float | None) -> bool:
        """Whether a stall that ``state`` saw would still be one: nothing that decides it is set otherwise by now."""
        return state["threshold"] == threshold and state.get("patience", self.patience) == self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"rates": list(self._rates), "threshold": self._threshold, "patience": self.patience}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rates = list(state["rates"])
        self._threshold = state["threshold"]


class Progress:
    """The current stage. The gate has the evidence; this asks it, and acts.

    ``pools`` says which stages have problems, or may get some; the others are skipped.

    Raises:
        ConfigError: no stage has a problem.
    """

    def __init__(
        self,
        settings: CurriculumSettings,
        pools: Pools,
        gate: Gate,
        diagnosis: Diagnosis,
    ) -> None:
        self.settings = settings
        self.stages = settings.all_stages
        self._pools = pools
        self._gate = gate
        self._diagnosis = diagnosis
        self._stall = Stall(settings.on_stall, settings.patience)
        self._lowered = [0.0] * len(self.stages)  # by --on_stall relax
        self.current = self._first_stage()
        """Index of the current stage."""
        self.entered_at = 0
        self.last: Decision | None = None
        """The newest decision, if there was any."""
        self.stop_reason: str | None = None

    @property
    def stage(self) -> Stage:
        return self.stages[self.current]

    @property
    def threshold(self) -> float | None:
        """What the current stage asks for, relaxations included; None in the last stage."""
        return None if self.is_final else self._threshold_of(self.current)

    @property
    def is_final(self) -> bool:
        """Whether the current stage is never left forwards."""
        return self.stage.threshold is None or self._following() is None

    def after_rollouts(self, step: int) -> Decision | None:
        """Decide between evaluations. None: nothing changes."""
        return self._leave(step, self._missing())

    def after_evaluation(self, step: int, rate: float | None) -> Decision:
        """Decide after an evaluation that measured ``rate`` on the stage's problems (None: it had none of them)."""
        missing = self._missing()
        self.last = self._leave(step, missing) or self._hold(step, missing, rate)
        return self.last

    def after_review(self, step: int) -> Decision:
        """Decide on rollouts alone, where there are no evaluations."""
        return self.after_evaluation(step, self._gate.measure(self.current).rate)

    def explain(self) -> str:
        """Why training is in this stage."""
        place = f"Stage {self.stage.name} ({self.current + 1} of {len(self.stages)}) since step {self.entered_at}"
        if self.is_final:
            return f"{place}: the last one, training stays here.{describe_unsorted(self._pools.unsorted)}"
        measure = self._gate.measure(self.current)
        missing = self._missing() or "nothing, the next batch decides"
        evidence = describe_evidence(measure.rate, measure.interval, measure.count)
        asked = f"{place}: {evidence}, threshold {self.threshold:.2f}; missing to advance: {missing}."
        return asked + describe_unsorted(self._pools.unsorted)

    def state_dict(self) -> dict[str, Any]:
        return {
            "current": self.current,
            "entered_at": self.entered_at,
            "lowered": list(self._lowered),
            "last": self.last.to_event() if self.last else None,
            "stop_reason": self.stop_reason,
            "stall": self._stall.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.current = state["current"]
        self.entered_at = state["entered_at"]
        self._lowered = list(state["lowered"])
        self.last = Decision.from_event(state["last"]) if state["last"] else None
        # With the flags that ended the run it ends again, as it must where it was killed after this state was saved.
        stays = self._stall.action == "stop" and self._stall.is_as_in(state["stall"], self.threshold)
        self.stop_reason = state["stop_reason"] if stays else None
        self._stall.load_state_dict(state["stall"])

    def _missing(self) -> str:
        """What the gate still asks of the current stage."""
        if self.is_final:
            return "nothing: the last stage is never left"
        return self._gate.missing(self.current, self.stage, self._threshold_of(self.current))

    def _leave(self, step: int, missing: str) -> Decision | None:
        """Change the stage if there is reason to."""
        following = self._following()
        if self.is_final or following is None:
            return None
        name, max_steps = self.stage.name, self.stage.max_steps
        if not self._pools.may_have_problems(self.current):
            reason = f"no problem was found for stage {name} among those without a level"
            return self._advance(following, step, reason, missing, "empty")
        if not missing:
            reason = f"the pass rate of stage {name} is above its threshold of {self.threshold:.2f}"
            return self._advance(following, step, reason, "", "gate")
        if max_steps is not None and step - self.entered_at >= max_steps:
            reason = f"stage {name} has lasted its max_steps of {max_steps}"
            return self._advance(following, step, reason, missing, "max_steps")
        return None

    def _hold(self, step: int, missing: str, rate: float | None) -> Decision:
        """Stay after an evaluation, unless the stage has stalled and something is to be done about that."""
        if self.is_final or not self._stall.observe(rate, self._threshold_of(self.current)):
            return self._decision("hold", step, self.current, f"missing to advance: {missing}", missing, "gate")
        action, following = self._stall.action, self._following()
        reason = self._stall.cause(self.stage.name)
        self._diagnosis.clear("plateau")  # each stall is reported, also a second one in a row
        remedy = f"Missing to advance: {missing}. Done about it (--on_stall): {action}."
        self._diagnosis.raise_alarm("plateau", step, reason, remedy, self.stage.name)
        self._stall.reset()
        if action == "advance" and following is not None:
            return self._advance(following, step, reason, missing, "on_stall advance")
        lowered = max(0.0, self._threshold_of(self.current) - self._stall.relax_by)
        if action == "relax":
            reason += f" The threshold is lowered to {lowered:.2f}."
        decision = self._decision("hold", step, self.current, reason, missing, f"on_stall {action}")
        if action == "relax":
            self._lowered[self.current] += self._stall.relax_by
        if action == "stop":
            self.stop_reason = f"{reason} Missing to advance: {missing}. {TO_GO_ON}"
        return decision

    def _advance(self, target: int, step: int, reason: str, missing: str, cause: str) -> Decision:
        decision = self._decision("advance", step, target, reason, missing, cause)
        self.current, self.entered_at, self.last = target, step, decision
        self._stall.reset()
        self._diagnosis.clear("plateau")
        return decision

    def _decision(self, action: Action, step: int, target: int, reason: str, missing: str, cause: str) -> Decision:
        measure = self._gate.measure(self.current)
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
            unsorted=self._pools.unsorted,
        )

    def _threshold_of(self, index: int) -> float:
        base = self.stages[index].threshold
        assert base is not None, "only the last stage has no threshold"
        return max(0.0, base - self._lowered[index])

    def _following(self) -> int | None:
        """The next stage that has problems, or may get some; None after the last."""
        return next((i for i in range(self.current + 1, len(self.stages)) if self._pools.may_have_problems(i)), None)

    def _first_stage(self) -> int:
        for index in range(len(self.stages)):
            if self._pools.may_have_problems(index):
                return index
        names = ", ".join(stage.name for stage in self.stages)
        raise ConfigError(f"no training problem belongs to any stage of the curriculum ({names})")


def describe_evidence(evidence: float | None, interval: tuple[float, float] | None, count: float) -> str:
    """``pass rate 0.61 (0.52 to 0.70, from 83 results)``."""
    if evidence is None:
        return "no evidence yet"
    bounds = f"{interval[0]:.2f} to {interval[1]:.2f}, " if interval else ""
    return f"pass rate {evidence:.2f} ({bounds}from {count:.0f} results)"


def describe_unsorted(unsorted: int) -> str:
    """`` 30 problems without a level are not sorted yet.``, or nothing."""
    return f" {unsorted:,} problems without a level are not sorted yet." if unsorted else ""

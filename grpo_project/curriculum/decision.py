"""What the curriculum decided, and why, as a value for the journal and a sentence for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Action = Literal["advance", "hold", "back"]


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
    """Its confidence bounds; ``None`` for gates without any, and where there is no evidence."""
    count: float
    """Groups and evaluated problems behind it (threshold gate: evaluations)."""
    threshold: float | None
    reason: str
    """One sentence."""
    missing: str
    """What is missing to advance; empty if nothing."""
    cause: str = "gate"
    """What decided: ``gate``, ``max_steps``, ``regression``, ``empty`` (the stage has no problems), or the action of
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


def describe_evidence(evidence: float | None, interval: tuple[float, float] | None, count: float) -> str:
    """``pass rate 0.61 (0.52 to 0.70, from 83 results)``."""
    if evidence is None:
        return "no evidence yet"
    bounds = f"{interval[0]:.2f} to {interval[1]:.2f}, " if interval else ""
    return f"pass rate {evidence:.2f} ({bounds}from {count:.0f} results)"


def describe_unsorted(unsorted: int) -> str:
    """`` 30 problems without a level are not sorted yet.``, or nothing."""
    return f" {unsorted:,} problems without a level are not sorted yet." if unsorted else ""

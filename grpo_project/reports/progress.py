"""How a run came to where it is: process starts and kills, stages with their reasons, steps that were done again."""

from __future__ import annotations

from typing import Any

from grpo_project.curriculum import Decision
from grpo_project.evaluation import divergence
from grpo_project.reports.run_reader import RunReader


def attempts(reader: RunReader) -> list[dict[str, Any]]:
    """One entry a process start: from which step, up to which one its rows count, how far it had come, how it ended."""
    recorded = {entry["attempt"]: entry for entry in (reader.record.attempts if reader.record else [])}
    entries = []
    for attempt in reader.attempts:
        last = attempt.last_step or attempt.resume_step or 0
        told = recorded.get(attempt.number, {})
        entries.append(
            {
                "number": attempt.number,
                "from": attempt.resume_step or 0,
                "kept": min(last, reader.limits.get(attempt.number, last)),
                "seen": last,
                "started": attempt.started,
                "ended": told.get("ended"),
                "how": told.get("outcome") or told.get("error"),
                "host": told.get("host"),
                "changes": told.get("config_changes", {}),
            }
        )
    for entry, following in zip(entries, [*entries[1:], None], strict=True):
        entry["how"] = entry["how"] or (reader.status if following is None else "killed")
    return entries


def stages(reader: RunReader) -> list[dict[str, Any]]:
    """The curriculum's stages one after the other, each with the reason for which it began. Empty without one."""
    decisions = reader.events("stage_decision")
    if not decisions:
        return []
    found = [{"stage": decisions[0]["stage"], "start": 0, "why": "the first stage"}]
    for decision in decisions:
        if decision["next_stage"] != found[-1]["stage"]:
            found[-1]["end"] = decision["step"]
            why = Decision.from_event(decision).explain()
            found.append({"stage": decision["next_stage"], "start": decision["step"], "why": why})
    found[-1]["end"] = max(reader.last_step, found[-1]["start"])
    return found


def missing_steps(reader: RunReader) -> int | None:
    """Optimizer steps up to the last one that left no row, or ``None`` where not every step is logged."""
    if reader.config.get("grpo", {}).get("logging_steps", 1) != 1 or not reader.training:
        return None
    logged = {row["step"] for row in reader.training}
    return max(logged) - len(logged - {0})


def interruptions(reader: RunReader) -> int:
    """Starts that were followed by another and had not finished: one that finished and then got more to do is none."""
    finished = {event["attempt"] for event in reader.all_events if event["event"] == "finished"}
    return sum(attempt.number not in finished for attempt in reader.attempts[:-1])


def redone_steps(entries: list[dict[str, Any]]) -> int:
    """Steps that a kill cost: done, but not yet in a checkpoint."""
    return sum(entry["seen"] - entry["kept"] for entry in entries)


def changed_settings(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Flags that differ from the start before: ``{"start": n, "flag": ..., "before": ..., "after": ...}``."""
    return [
        {"start": entry["number"], "flag": flag, "before": before, "after": after}
        for entry in entries
        for flag, (before, after) in entry["changes"].items()
    ]


def divergences(reader: RunReader) -> list[dict[str, Any]]:
    """Where training's pass rate has left the held-out one behind: the steps that were compared, and the evidence."""
    evaluated = [row["step"] for row in reader.evaluations]
    found = []
    for event in reader.events("alarm"):
        if event.get("kind") == divergence.KIND:
            before = [step for step in evaluated if step < event["step"]][-divergence.APART :]
            found.append({"start": before[0] if before else 0, "end": event["step"], "text": event["cause"]})
    return found

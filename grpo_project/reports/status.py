"""How a run stands, from its own files alone: it may be running, dead, or on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from grpo_project.curriculum import Decision
from grpo_project.errors import ConfigError
from grpo_project.record.file_lock import is_held
from grpo_project.record.run_directory import MAIN_METRIC, Run
from grpo_project.record.run_record import RunRecord
from grpo_project.tracking.state import sync_status

TROUBLES = ("checkpoint_rejected", "checkpoint_failed", "evaluation_failed", "evaluation_suspect", "alarm")


def run_status(output_dir: Path) -> dict[str, Any]:
    """Everything that ``grpo status`` tells, as plain values.

    Raises:
        ConfigError: there is no run in ``output_dir``.
    """
    record = RunRecord.read(output_dir)
    if record is None:
        raise ConfigError(f"{output_dir} is not a run directory: it has no run.json")
    run = Run.open(output_dir)
    evaluations = run.metrics("eval", [MAIN_METRIC, "eval/problems", "eval/source"])
    decisions, events = run.events("stage_decision"), run.events()
    last_step = run.last_step or 0
    return {
        "output_dir": str(output_dir),
        "run_id": record.run_id,
        "status": standing(record, run),
        "step": last_step,
        "max_steps": record.content["config"]["grpo"]["max_steps"],
        "starts": len(record.attempts),
        "interruptions": record.content["interruptions"],
        "redone_steps": record.content["redone_steps"],
        "isolation": record.attempts[-1].get("isolation") if record.attempts else None,
        "evaluation": evaluations[-1] if evaluations else None,
        "stage": decisions[-1] if decisions else None,
        "tracking": sync_status(output_dir),
        "troubles": [event for event in events if event.get("event") in TROUBLES][-5:],
        "unreadable_lines": len(run.damage),
    }


def standing(record: RunRecord, run: Run) -> str:
    """``running`` only if a process holds the run's lock; a process that was killed could not say goodbye."""
    status = record.content["status"]
    if status == "running" and not is_held(run.paths.journal / "lock"):
        return "killed (the same command goes on)"
    return status


def status_lines(status: dict[str, Any]) -> Table:
    """The same for people: a table of two columns."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    of = f" of {status['max_steps']}" if status["max_steps"] > 0 else ""
    table.add_row("run", f"{status['run_id']} in {status['output_dir']}")
    table.add_row("status", status["status"])
    table.add_row("step", f"{status['step']}{of}")
    table.add_row(
        "starts",
        f"{status['starts']}; interruptions {status['interruptions']}, steps done again {status['redone_steps']}",
    )
    table.add_row("sandbox", str(status["isolation"]))
    table.add_row("evaluation", evaluation_text(status["evaluation"]))
    table.add_row("stage", stage_text(status["stage"]))
    table.add_row("W&B", tracking_text(status["tracking"]))
    for event in status["troubles"]:
        table.add_row("[yellow]trouble[/]", trouble_text(event))
    if status["unreadable_lines"]:
        table.add_row("[yellow]journal[/]", f"{status['unreadable_lines']} unreadable lines were passed over")
    return table


def evaluation_text(row: dict[str, Any] | None) -> str:
    if row is None:
        return "none yet"
    rate, count = row[MAIN_METRIC], row["eval/problems"]
    return f"step {row['step']}: pass rate {rate:.3f} on {count} held-out problems ({row['eval/source']})"


def stage_text(decision: dict[str, Any] | None) -> str:
    """Why the run is in this stage, in a sentence."""
    if decision is None:
        return "no decision yet (without a curriculum, or before the first evaluation)"
    return Decision.from_event(decision).explain()


def tracking_text(tracking: dict[str, Any]) -> str:
    text = f"{tracking['state']}: {tracking['confirmed']} of {tracking['rows']} rows confirmed"
    if tracking["last_error"]:
        text += f"; last error: {tracking['last_error']}"
    return text


def trouble_text(event: dict[str, Any]) -> str:
    details = event.get("reason") or " ".join(str(event[name]) for name in ("cause", "remedy") if name in event)
    return f"step {event.get('step')}: {event['event']}: {details}"

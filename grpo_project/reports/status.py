"""How a run stands, from its own files alone: it may be running, dead, or on another machine."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text

from grpo_project.curriculum import Decision
from grpo_project.durations import show_duration
from grpo_project.errors import ConfigError
from grpo_project.locale import shown
from grpo_project.record.run_directory import MAIN_METRIC
from grpo_project.reports import curves, headline
from grpo_project.reports.progress import attempts, interruptions, redone_steps
from grpo_project.reports.run_reader import RunReader
from grpo_project.tracking.state import sync_status

TROUBLES = ("checkpoint_rejected", "checkpoint_failed", "evaluation_failed", "evaluation_suspect", "alarm")
RECENT_EVALUATIONS = 3
"""A trouble is current within the steps that so many evaluations take; what is older is history."""
RECENT_STEPS = 25
"""The same where there are no evaluations."""
MAX_TROUBLES = 5
GOES_ON = ("killed", "interrupted", "failed")


def run_status(output_dir: Path) -> dict[str, Any]:
    """Everything that ``grpo status`` tells, as plain values.

    Raises:
        ConfigError: there is no run in ``output_dir``.
        CheckpointError: run.json is damaged.
    """
    reader = RunReader.open(output_dir)
    if reader.record is None:
        raise ConfigError(f"{output_dir} is not a run directory: it has no run.json")
    decisions = reader.events("stage_decision")
    current, past = troubles(reader)
    status = reader.status
    return {
        "output_dir": str(output_dir),
        "run_id": reader.record.run_id,
        "status": status,
        "step": reader.last_step,
        "max_steps": reader.max_steps,
        "updated": headline.updated(reader),
        "starts": len(reader.attempts),
        "interruptions": interruptions(reader),
        "redone_steps": redone_steps(attempts(reader)),
        "isolation": reader.record.attempts[-1].get("isolation") if reader.record.attempts else None,
        "reward": recent_mean(reader, "reward"),
        "evaluation": reader.evaluations[-1] if reader.evaluations else None,
        "stage": decisions[-1] if decisions else None,
        **speed(reader),
        "memory": memory(reader),
        "tracking": sync_status(output_dir),
        "troubles": current[-MAX_TROUBLES:],
        "past_troubles": len(past),
        "unreadable_lines": len(reader.damage),
        "started_by": headline.command(reader),
        "command": headline.command_to_go_on(reader) if status in GOES_ON else None,
    }


def recent_mean(reader: RunReader, name: str) -> float | None:
    values = [value for _, value in curves.finite(reader.training[-headline.RECENT :], name)]
    return fmean(values) if values else None


def speed(reader: RunReader) -> dict[str, float | None]:
    """Seconds a step, tokens a second, and seconds until the last step (by the clock, evaluations included)."""
    tokens = [value for _, value in curves.tokens_per_second(reader)][-headline.RECENT :]
    found = {
        "step_s": recent_mean(reader, "step_time"),
        "tokens_per_s": fmean(tokens) if tokens else None,
        "left_s": None,
    }
    newest = [row for row in reader.training if row["attempt"] == reader.training[-1]["attempt"]]
    if reader.max_steps and reader.status == "running" and len(newest) > 1:
        pace = (newest[-1]["time"] - newest[0]["time"]) / (newest[-1]["step"] - newest[0]["step"])
        found["left_s"] = pace * (reader.max_steps - reader.last_step)
    return found


def memory(reader: RunReader) -> dict[str, float]:
    """Peaks that the newest row tells, by the metric's name."""
    row = reader.training[-1] if reader.training else {}
    return {name: value for name, value in row.items() if name.startswith("memory/")}


def troubles(reader: RunReader) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What went wrong: what is current, and what is history.

    An alarm of step 171 in a run that stands at 250 is history, and so is a failed checkpoint after which one was
    saved, or a failed evaluation after which one was made.
    """
    since = recent_since(reader)
    mended = {
        "checkpoint_failed": last_step_of(reader.events("checkpoint")),
        "evaluation_failed": last_step_of(reader.evaluations),
    }
    current: list[dict[str, Any]] = []
    past: list[dict[str, Any]] = []
    newest = reader.attempts[-1].number if reader.attempts else 0
    for event in reader.events(*TROUBLES):
        name, step = event["event"], event["step"]
        if name == "checkpoint_rejected":  # of this start: what it could not go on from
            is_current = event["attempt"] == newest and reader.status != "finished"
        else:
            is_current = (step or 0) >= since and (step or 0) > mended.get(name, -1)
        (current if is_current else past).append(event)
    return current, past


def recent_since(reader: RunReader) -> int:
    steps = [row["step"] for row in reader.evaluations]
    if len(steps) > RECENT_EVALUATIONS:
        return steps[-RECENT_EVALUATIONS - 1]
    return max(0, reader.last_step - RECENT_STEPS)


def last_step_of(entries: list[dict[str, Any]]) -> int:
    return max((entry["step"] or 0 for entry in entries), default=-1)


def status_lines(status: dict[str, Any]) -> Table:
    """The same for people: a table of two columns that fits one screen."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in rows(status):
        table.add_row(Text(shown(name), "yellow" if name in ("trouble", "journal") else ""), Text(shown(text)))
    return table


def rows(status: dict[str, Any]) -> list[tuple[str, str]]:
    of = f" of {status['max_steps']}" if status["max_steps"] else ""
    ago = show_duration(time.time() - status["updated"])
    found = [
        ("run", f"{status['run_id']} in {status['output_dir']}"),
        ("status", f"{status['status']}; last written {ago} ago"),
        ("step", f"{status['step']}{of}"),
        ("speed", speed_text(status)),
        ("reward", "none yet" if status["reward"] is None else f"{status['reward']:.3f} (mean of the last steps)"),
        ("held out", evaluation_text(status["evaluation"])),
        ("stage", stage_text(status["stage"])),
        ("memory", memory_text(status["memory"])),
        ("starts", starts_text(status)),
        ("sandbox", str(status["isolation"])),
        ("W&B", tracking_text(status["tracking"])),
        *(("trouble", trouble_text(event)) for event in status["troubles"]),
    ]
    if status["past_troubles"]:
        found.append(("history", f"{status['past_troubles']} earlier alarms and faults; grpo report shows them"))
    if status["unreadable_lines"]:
        found.append(("journal", f"{status['unreadable_lines']} unreadable lines were passed over"))
    found.append(("started by", status["started_by"]))
    if status["command"]:
        found.append(("to go on", status["command"]))
    return [(name, text) for name, text in found if text]


def speed_text(status: dict[str, Any]) -> str:
    parts = []
    if status["step_s"] is not None:
        parts.append(f"{status['step_s']:.2f} s a step")
    if status["tokens_per_s"] is not None:
        parts.append(f"{status['tokens_per_s']:,.0f} tokens a second")
    if status["left_s"] is not None:
        parts.append(f"{show_duration(status['left_s'])} left")
    return ", ".join(parts)


def memory_text(memory: dict[str, float]) -> str:
    """``at most 1,204 MB host, 30,100 MB device``"""
    parts = [f"{value:,.0f} MB {name.split('/')[1].removesuffix('_mb')}" for name, value in memory.items()]
    return f"at most {', '.join(parts)}" if parts else ""


def starts_text(status: dict[str, Any]) -> str:
    return f"{status['starts']}; interruptions {status['interruptions']}, steps done again {status['redone_steps']}"


def evaluation_text(row: dict[str, Any] | None) -> str:
    if row is None:
        return "no evaluation yet"
    rate, count = row[MAIN_METRIC], row["eval/problems"]
    low, high = row.get(f"{MAIN_METRIC}_low"), row.get(f"{MAIN_METRIC}_high")
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    text = f"pass rate {rate:.3f}{interval} on {count} held-out problems ({row['eval/source']}) at step {row['step']}"
    for since in ("first", "previous"):
        name = f"eval/change_since_{since}"
        if f"{name}_low" in row:
            change, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
            text += f"; {change:+.3f} [{low:+.3f}, {high:+.3f}] since the {since} one"
    return text


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
    return f"step {event.get('step')}: {event.get('kind') or event['event']}: {details}"

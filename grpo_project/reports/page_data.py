"""Everything that a page about one run shows, as plain values for JSON. ``page`` puts it into HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo_project.reports import curves, headline, rollouts
from grpo_project.reports.comparison import compare
from grpo_project.reports.curves import thin
from grpo_project.reports.groups import CHOICE, choose, show_groups, split_into_groups
from grpo_project.reports.problem_grid import problem_grid
from grpo_project.reports.progress import attempts, changed_settings, divergences, missing_steps, stages
from grpo_project.reports.rollouts import find_suspects
from grpo_project.reports.run_reader import RunReader
from grpo_project.tracking.state import sync_status

MAX_EVENTS = 200


def page_data(readers: Sequence[RunReader], *, average: bool = False) -> dict[str, Any]:
    """One run's whole page, or several runs beside each other. Raises ``ConfigError``, see ``comparison.compare``."""
    if len(readers) == 1 and not average:
        return {"runs": [run_data(readers[0])], "comparison": None}
    return {"runs": [overview(reader) for reader in readers], "comparison": compare(readers, average=average)}


def run_data(reader: RunReader) -> dict[str, Any]:
    """One run's whole page."""
    starts = attempts(reader)
    return {
        **overview(reader),
        "attempts": starts,
        "facts": headline.facts(reader),
        "curves": curves.training_curves(reader),
        "time": curves.time_parts(reader),
        "time_in_all": curves.time_in_all(reader),
        "tokens_per_second": curves.pairs(thin(curves.tokens_per_second(reader))),
        "completions": completions(reader),
        "grid": problem_grid(reader.folder),
        "alarms": alarms(reader),
        "decisions": decisions(reader),
        "config": reader.config,
        "changes": changed_settings(starts),
        "integrity": integrity(reader),
    }


def overview(reader: RunReader) -> dict[str, Any]:
    """What a comparison of several runs shows of each."""
    return {
        "name": reader.name,
        "folder": str(reader.folder),
        "status": reader.status,
        "updated": headline.updated(reader),
        "sentence": headline.sentence(reader),
        "judgement": headline.judgement(reader),
        "tiles": headline.tiles(reader),
        "last_step": reader.last_step,
        "held_out": curves.held_out(reader),
        "reward": curves.smoothed_reward(reader),
        "stages": stages(reader),
        "divergence": divergences(reader),
    }


def completions(reader: RunReader) -> dict[str, Any] | None:
    """Groups, failures and suspects from ``samples/``; ``None`` where a run keeps none."""
    table = rollouts.read_small(reader.folder)
    if not len(table):
        return None
    evaluated = [row["step"] for row in reader.evaluations]
    rows = rollouts.read_closely(reader.folder, rollouts.close_steps(table, evaluated))
    earlier = [step for step in evaluated if step < rows[-1]["step"]]
    since = earlier[-1] if earlier else rows[-1]["step"]
    suspects = find_suspects(rows)
    signs = {id(rows[suspect["index"]]): suspect["signs"] for suspect in suspects}
    groups = split_into_groups(rows, reader.config.get("grpo", {}).get("num_generations"))
    suspicious = {i for i, group in enumerate(groups) if any(id(row) in signs for row in group)}
    return {
        "count": len(table),
        "read_closely": len(rows),
        "outcomes_of_groups": rollouts.groups_by_outcome(table),
        "outcomes": rollouts.outcomes(table),
        "weak_share": rollouts.weak_share(table),
        "failures": rollouts.failure_kinds(rows, since),
        "failures_since": since,
        "suspects": [suspect_row(rows[suspect["index"]], suspect["signs"]) for suspect in suspects],
        "groups": show_groups(groups, choose(groups, suspicious), signs),
        "groups_choice": CHOICE,
    }


def suspect_row(row: dict[str, Any], signs: list[str]) -> dict[str, Any]:
    return {"step": row["step"], "problem": row["problem_id"], "level": row["level"], "signs": signs}


def alarms(reader: RunReader) -> list[dict[str, Any]]:
    """Alarms of the curriculum and what went wrong with checkpoints and evaluations, the newest first."""
    names = ("alarm", "checkpoint_rejected", "checkpoint_failed", "evaluation_failed", "evaluation_suspect")
    found = [
        {
            "step": event["step"],
            "kind": event.get("kind") or event["event"].replace("_", " "),
            "cause": event.get("cause") or event.get("reason") or "",
            "remedy": event.get("remedy", ""),
        }
        for event in reader.events(*names)
    ]
    return found[::-1][:MAX_EVENTS]


def decisions(reader: RunReader) -> list[dict[str, Any]]:
    """The curriculum's decisions, the newest first."""
    names = ("step", "action", "stage", "next_stage", "evidence", "interval", "count", "threshold", "reason")
    found = [{name: event.get(name) for name in names} for event in reader.events("stage_decision")]
    return found[::-1][:MAX_EVENTS]


def integrity(reader: RunReader) -> list[dict[str, Any]]:
    """What says that this record is whole: each a name, what was found, and whether it is good (``None``: neither)."""
    rejected = [event for event in reader.all_events if event.get("event") == "checkpoint_rejected"]
    failed = [event for event in reader.all_events if event.get("event") == "checkpoint_failed"]
    saved = reader.events("checkpoint")
    lost = missing_steps(reader)
    tracked = sync_status(reader.folder)
    complete = tracked["rows"] == tracked["confirmed"]
    wandb_is_good = (
        complete if tracked["mode"] == "online" else None
    )  # offline, rows wait for `grpo sync` as they should
    return [
        check("Journal rows", f"{len(reader.rows):,}", True),
        check("Lines that can't be read", f"{len(reader.damage)}", not reader.damage),
        check("Steps without a row", "not every step is logged" if lost is None else str(lost), not lost),
        check("Checkpoints saved", f"{len(saved)}", True),
        check("Checkpoints rejected as damaged", f"{len(rejected)}", not rejected),
        check("Checkpoints that could not be saved", f"{len(failed)}", not failed),
        check(
            "W&B", f"{tracked['state']}: {tracked['confirmed']:,} of {tracked['rows']:,} rows confirmed", wandb_is_good
        ),
    ]


def check(name: str, found: str, good: bool | None) -> dict[str, Any]:
    return {"name": name, "found": found, "good": good}


def open_runs(folders: list[Path]) -> list[RunReader]:
    """Raises ``ConfigError`` for a folder that holds no run."""
    return [RunReader.open(folder) for folder in folders]

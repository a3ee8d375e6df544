"""Which W&B runs a run directory projects to, and which attempts belong to each: recorded in the journal's events.

Each attempt that is tracked appends one ``wandb_run`` event. Attempts with the same run id form a segment. So the
identity of every W&B run survives the loss of all other files, and an offline run knows its ids before any upload.
"""

from __future__ import annotations

import os
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from grpo_project.errors import TrackingError
from grpo_project.record.journal import append_event
from grpo_project.record.run_directory import Attempt, RunPaths, read_attempts, read_records, valid_until
from grpo_project.tracking.environment import DEFAULT_PROJECT, RESUME_ENVIRONMENT

POLICIES = ("new", "same", "fork", "rewind")
EVENT = "wandb_run"


@dataclass(slots=True)
class Segment:
    """One W&B run.

    ``branch_step``: the last step that the parent's rows count for; None for the first segment.
    ``attempts``: the process starts whose rows it holds, the newest last.
    """

    run_id: str
    project: str
    name: str
    group: str
    policy: str = "new"
    entity: str | None = None
    parent_id: str | None = None
    branch_step: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    attempts: list[int] = field(default_factory=list)


def read_segments(output_dir: str | os.PathLike[str]) -> list[Segment]:
    """The segments of a run directory, the oldest first. The last ``wandb_run`` event of an attempt counts."""
    latest: dict[int, dict[str, Any]] = {}
    for record in read_records(RunPaths(Path(output_dir)).events):
        if record.values.get("event") == EVENT:
            latest[record.attempt] = record.values
    known = {entry.name for entry in fields(Segment)} - {"attempts"}
    segments: dict[str, Segment] = {}
    for attempt, event in sorted(latest.items()):
        told = {key: value for key, value in event.items() if key in known}
        segment = segments.setdefault(told["run_id"], Segment(**told))
        # A rewind goes on in the run of its parent; only its policy and branch step are new.
        segment.policy, segment.branch_step = told["policy"], told["branch_step"]
        segment.attempts.append(attempt)
    return list(segments.values())


def choose_policy(asked: str | None, force_new: bool, environment: Mapping[str, str] = os.environ) -> str:
    """How a resumed run continues in W&B: ``force_new``, then ``asked``, then the environment, then "new".

    In the environment WANDB_RESUME says so, and a WANDB_RUN_ID alone means the same run (it is how a job script asks
    for one run over several starts).

    Raises:
        TrackingError: there is no such policy.
    """
    if force_new:
        return "new"
    if asked is not None:
        if asked not in POLICIES:
            raise TrackingError(f"the W&B resume policy is {asked!r}; it can be {', '.join(POLICIES)}")
        return asked
    told = environment.get("WANDB_RESUME")
    if told:
        if told not in RESUME_ENVIRONMENT:
            raise TrackingError(f"WANDB_RESUME is {told!r}; it can be {', '.join(RESUME_ENVIRONMENT)}")
        return RESUME_ENVIRONMENT[told]
    return "same" if environment.get("WANDB_RUN_ID") else "new"


def plan_segment(
    output_dir: Path,
    attempt: int,
    resume_step: int | None,
    policy: str,
    *,
    project: str | None,
    name: str | None,
    config: Mapping[str, Any],
    force_new: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Segment:
    """The W&B run of an attempt that is about to start. Nothing is written; ``record_segment`` does."""
    earlier = [segment for segment in read_segments(output_dir) if attempt not in segment.attempts]
    asked_id = None if force_new else environment.get("WANDB_RUN_ID")
    project = project or environment.get("WANDB_PROJECT") or DEFAULT_PROJECT
    entity = environment.get("WANDB_ENTITY")
    if not earlier:
        name = name or environment.get("WANDB_NAME") or output_dir.resolve().name
        run_id = asked_id or new_run_id()
        group = environment.get("WANDB_RUN_GROUP") or f"{name}-{run_id}"
        return Segment(run_id, project, name, group, "new", entity, None, None, dict(config))
    first, parent = earlier[0], earlier[-1]
    taken = {segment.run_id for segment in earlier}
    if policy in ("same", "rewind") and asked_id is not None and asked_id not in taken:
        policy = "new"  # the id names another run than those of this directory
    if policy in ("same", "rewind"):
        chosen = next((segment for segment in earlier if segment.run_id == asked_id), parent)
        branch_step = resume_step if policy == "rewind" else None
        return replace(chosen, policy=policy, branch_step=branch_step, attempts=[])
    run_id = new_run_id() if asked_id is None else asked_id if asked_id not in taken else f"{asked_id}-{attempt}"
    name = f"{name or first.name}-attempt{attempt}"
    branch_step = resume_step or 0
    return Segment(
        run_id,
        project,
        name,
        first.group,
        policy,
        entity,
        parent.run_id,
        branch_step,
        branch_config(config, parent, branch_step),
    )


def check_name(what: str, name: str) -> None:
    """
    Raises:
        TrackingError: W&B would refuse ``name``, and rows would wait for ever.
    """
    if not name.strip() or len(name) > 128 or set(name) & set("/\\#?%:"):
        raise TrackingError(f"{what} is {name!r}; W&B takes 1 to 128 characters without any of / \\ # ? % :")


def branch_config(config: Mapping[str, Any], parent: Segment, branch_step: int) -> dict[str, Any]:
    """``config`` with what ties a new segment to the one that it goes on from."""
    return {**config, "parent_run_id": parent.run_id, "branch_step": branch_step}


def as_new_run(segment: Segment, segments: list[Segment], attempt: int) -> Segment:
    """What a ``fork`` or ``rewind`` that the server refused becomes: a new segment for that attempt alone."""
    parent_id = segment.run_id if segment.policy == "rewind" else segment.parent_id
    parent = next(other for other in segments if other.run_id == parent_id)
    branch_step = segment.branch_step or 0
    return Segment(
        run_id=new_run_id(),
        project=segment.project,
        name=f"{segments[0].name}-attempt{attempt}",
        group=segment.group,
        policy="new",
        entity=segment.entity,
        parent_id=parent.run_id,
        branch_step=branch_step,
        config=branch_config(segment.config, parent, branch_step),
    )


def record_segment(output_dir: Path, attempt: int, segment: Segment) -> None:
    """Append the ``wandb_run`` event that makes ``segment`` the W&B run of ``attempt``."""
    told = {entry.name: getattr(segment, entry.name) for entry in fields(segment) if entry.name != "attempts"}
    append_event(output_dir, attempt, EVENT, **told)


def adopt_segments(output_dir: Path, project: str | None, opened: set[str]) -> None:
    """Give a W&B run to attempts that were never tracked, and ``project`` to runs that nothing was uploaded of yet.

    Args:
        opened: ids of the W&B runs that exist on the server.
    """
    segments = read_segments(output_dir)
    if not segments:
        attempts = sorted(read_attempts(RunPaths(output_dir).events))
        planned = plan_segment(output_dir, -1, None, "new", project=project, name=None, config={})
        for attempt in attempts:
            record_segment(output_dir, attempt, replace(planned, policy="same" if attempt else "new"))
    for segment in segments:
        if project is not None and segment.project != project and segment.run_id not in opened:
            for attempt in segment.attempts:
                record_segment(output_dir, attempt, replace(segment, project=project))


def rebuild_segments(output_dir: Path) -> None:
    """Give every segment a W&B run that does not exist yet, so that the whole projection is made anew."""
    segments = read_segments(output_dir)
    renamed: dict[str | None, str] = {segment.run_id: new_run_id() for segment in segments}
    for segment in segments:
        policy = "same" if segment.policy in ("same", "rewind") else "new"
        rebuilt = replace(segment, run_id=renamed[segment.run_id], policy=policy)
        if segment.parent_id is not None:
            rebuilt.parent_id = renamed[segment.parent_id]
            rebuilt.config = {**segment.config, "parent_run_id": rebuilt.parent_id}
        for attempt in segment.attempts:
            record_segment(output_dir, attempt, rebuilt)


def valid_steps(output_dir: Path, segment: Segment) -> dict[int, int]:
    """For each attempt of the segment that a later one cut short: the last step that still counts."""
    known = read_attempts(RunPaths(output_dir).events)
    return valid_until({number: known.get(number, Attempt(number)) for number in segment.attempts})


def new_run_id() -> str:
    """Eight letters and digits, as the client makes them."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))

"""One run's record, read once: the journal's rows and events as they count, run.json, what is damaged.

``Run`` reads the files anew at each question; a page asks many.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from grpo_project.record.file_lock import is_held
from grpo_project.record.run_directory import Attempt, Damage, Run, valid_until
from grpo_project.record.run_record import RunRecord

MAIN = "eval_avg_test_pass_rate"


@dataclass(frozen=True)
class RunReader:
    """What a report needs of a run directory.

    A directory that a script of somebody's own has written with ``initialize_wandb_sync_manager`` has no run.json:
    ``record`` is then ``None``.
    """

    folder: Path
    rows: list[dict[str, Any]]
    """The journal's rows that count, by step."""
    all_events: list[dict[str, Any]]
    """In the order of writing, those of superseded steps too."""
    attempts: list[Attempt]
    record: RunRecord | None
    damage: list[Damage]

    @classmethod
    def open(cls, folder: Path) -> RunReader:
        """
        Raises:
            ConfigError: there is no journal in ``folder``.
            CheckpointError: run.json is damaged.
        """
        run = Run.open(folder)
        damage: list[Damage] = []
        rows, events = run.metrics(damage=damage), run.events(damage=damage)
        return cls(folder, rows, events, run.attempts, RunRecord.read(folder), damage)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def kind(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row.get("kind") == kind]

    @cached_property
    def training(self) -> list[dict[str, Any]]:
        return self.kind("train")

    @cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        return [row for row in self.kind("eval") if MAIN in row]

    @cached_property
    def limits(self) -> dict[int, int]:
        """The last step that counts of each attempt that a later one cut short."""
        return valid_until({attempt.number: attempt for attempt in self.attempts})

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Events of these names that no resume has superseded, by step."""
        found = [event for event in self.all_events if event.get("event") in names]
        counting = [e for e in found if e["step"] is None or e["step"] <= self.limits.get(e["attempt"], e["step"])]
        return sorted(counting, key=lambda event: event["step"] or 0)

    @property
    def last_step(self) -> int:
        return max((row["step"] for row in self.rows), default=0)

    @property
    def config(self) -> dict[str, Any]:
        """``run``, ``grpo`` and ``model`` flags as run.json has them; empty where there is none."""
        return {} if self.record is None else self.record.content["config"]

    @property
    def max_steps(self) -> int | None:
        """Where training ends, if it was given in steps."""
        steps = self.config.get("grpo", {}).get("max_steps", -1)
        return steps if steps > 0 else None

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``interrupted``, ``failed``, ``killed``; ``unknown`` without a run.json.

        A process that was killed could not say goodbye: without a holder of the run's lock, ``running`` is ``killed``.
        """
        if self.record is None:
            return "unknown"
        status = self.record.content["status"]
        if status == "running" and not is_held(self.folder / "journal" / "lock"):
            return "killed"
        return status

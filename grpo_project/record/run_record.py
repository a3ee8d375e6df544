"""``run.json``: who this run is and what happened to it, in one small file that is always whole, without secrets."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grpo_project import __version__
from grpo_project.errors import CheckpointError, JournalError
from grpo_project.record.durable import Reserve, write_atomically
from grpo_project.record.secrets import redact
from grpo_project.verifier.verilog.icarus import installed_version

RUN_FILE = "run.json"
SHAPE: dict[str, type] = {
    **{"run_id": str, "status": str, "config": dict, "data": dict, "attempts": list},
    **{"interruptions": int, "redone_steps": int},
}
"""What every reader counts on. More may be there."""
VERSIONED = ("torch", "transformers", "trl", "accelerate", "peft", "wandb", "numpy")


class RunRecord:
    """The content of ``run.json``. Every change is written at once, by rename."""

    def __init__(self, output_dir: Path, content: dict[str, Any]) -> None:
        self.path = output_dir / RUN_FILE
        self.content = content

    @classmethod
    def read(cls, output_dir: Path) -> RunRecord | None:
        """The record of an earlier start, or ``None``.

        Raises:
            CheckpointError: the file is damaged, or is no record of a run.
        """
        path = output_dir / RUN_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            require_shape(content, SHAPE)
            for attempt in content["attempts"]:
                require_shape(attempt, {}, "attempts[]")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{path} can't be read ({error}). Restore it, or start anew in another --output_dir"
            ) from error
        return cls(output_dir, content)

    @classmethod
    def create(cls, output_dir: Path, config: dict[str, Any], data: dict[str, Any]) -> RunRecord:
        """A new run's record (written by the first ``begin_attempt``)."""
        content: dict[str, Any] = {
            "run_id": uuid.uuid4().hex[:12],
            "created": now(),
            "status": "new",
            "config": config,
            "data": data,
            "versions": versions(),
            "git": git_state(),
            "interruptions": 0,
            "redone_steps": 0,
            "attempts": [],
        }
        return cls(output_dir, content)

    @property
    def run_id(self) -> str:
        return self.content["run_id"]

    @property
    def training_data(self) -> dict[str, Any]:
        """Source, count and fingerprint of the training problems.

        Raises:
            CheckpointError: the run was not made by ``grpo train``.
        """
        try:
            recorded = self.content["data"].get("train")
            require_shape(recorded, {"source": str, "count": int, "fingerprint": str}, "data.train")
        except ValueError as error:
            raise CheckpointError(
                f"{self.path} is not a run of grpo train ({error}); choose another --output_dir"
            ) from error
        return recorded

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return self.content["attempts"]

    @property
    def finished(self) -> bool:
        return self.content["status"] == "finished"

    def begin_attempt(
        self,
        attempt: int,
        resumed_from: int | None,
        last_step_seen: int,
        config: dict[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        """A process starts to train.

        Args:
            attempt: counts process starts from 0.
            resumed_from: the checkpoint's step, or ``None`` for a fresh start.
            last_step_seen: the last step in the journal; what lies beyond ``resumed_from`` is done again.
            config: the flags of this start; those that differ from the last one's are noted (``config_changes``).
        """
        if attempt > 0:
            if self.content["status"] in ("running", "interrupted"):
                self.content["interruptions"] += 1
            self.content["redone_steps"] += max(0, last_step_seen - (resumed_from or 0))
        self.attempts.append(
            {
                "attempt": attempt,
                "started": now(),
                "resumed_from": resumed_from,
                "host": platform.node(),
                "versions": versions(),
                "machine": machine(),
                **facts,
            }
        )
        if config is not None:
            self.attempts[-1]["config_changes"] = changed_flags(redact(self.content["config"]), redact(config))
            self.content["config"] = config
        self.content["status"] = "running"
        self.write()

    def end_attempt(self, status: str, step: int) -> None:
        """The process stops: ``finished``, ``interrupted`` or ``failed``."""
        self.attempts[-1] |= {"ended": now(), "outcome": status, "last_step": step}
        self.content["status"] = status
        self.write()

    def write(self) -> None:
        """
        Raises:
            JournalError: the disk refused it; ``DiskFullError`` for want of room.
        """
        # Paths and the like become texts first: a secret may stand in them too.
        content = redact(json.loads(json.dumps(self.content, default=str)))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(content, indent=1) + "\n"
            write_atomically(self.path, text.encode(), reserve=Reserve(self.path.parent))
        except OSError as error:
            raise JournalError(f"can't write {self.path}: {error}") from error


def require_shape(value: Any, shape: Mapping[str, type], where: str = "") -> None:
    """
    Raises:
        ValueError: ``value`` is no JSON object, or lacks a field of ``shape``, or has one of another type.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'it'} is not a JSON object")
    for name, kind in shape.items():
        found = value.get(name)
        if not isinstance(found, kind) or isinstance(found, bool):
            what = f"{where}.{name}" if where else name
            raise ValueError(
                f"{what} is {'missing' if name not in value else f'{found!r:.40}'}, not of type {kind.__name__}"
            )


def changed_flags(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[Any]]:
    """``{"grpo.learning_rate": [0.001, 0.002]}``: flags whose values differ between two configurations."""
    flat = [
        {f"{part}.{flag}": value for part, flags in c.items() for flag, value in flags.items()} for c in (before, after)
    ]
    names = dict.fromkeys([*flat[0], *flat[1]])
    values = {name: [config.get(name) for config in flat] for name in names}
    return {name: pair for name, pair in values.items() if pair[0] != pair[1]}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """The versions that decide whether a resume can be exact."""
    found = {"grpo_project": __version__, "python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    if (icarus := installed_version()) is not None:  # only Verilog problems need it
        found["iverilog"] = icarus
    return found


def machine() -> dict[str, str]:
    """What of the machine decides whether arithmetic repeats: the processor and how many threads compute on it."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(len(os.sched_getaffinity(0)))
    return {"processor": _processor(), "threads": threads}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def git_state() -> dict[str, Any] | None:
    """The commit that the command was started in and whether the tree was changed, if it is a git tree."""

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", *args], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "changed": bool(git("status", "--porcelain"))}

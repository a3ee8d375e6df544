"""``run.json``: who this run is and what happened to it, in one small file that is always whole."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grpo_project import __version__
from grpo_project.errors import CheckpointError
from grpo_project.record.durable import write_atomically

RUN_FILE = "run.json"
VERSIONED = ("torch", "transformers", "trl", "accelerate", "peft", "wandb", "numpy")


class RunRecord:
    """The content of ``run.json``. Every change is written at once, by rename."""

    def __init__(self, output_dir: Path, content: dict[str, Any]) -> None:
        self.path = output_dir / RUN_FILE
        self.content = content

    @classmethod
    def read(cls, output_dir: Path) -> RunRecord | None:
        """The record of an earlier start, or ``None``. Raises ``CheckpointError`` if the file is damaged."""
        path = output_dir / RUN_FILE
        try:
            return cls(output_dir, json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} can't be read ({error}). Restore it, or start anew with --overwrite_output_dir"
            ) from error

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
    def attempts(self) -> list[dict[str, Any]]:
        return self.content["attempts"]

    @property
    def finished(self) -> bool:
        return self.content["status"] == "finished"

    def begin_attempt(self, attempt: int, resumed_from: int | None, last_step_seen: int, **facts: Any) -> None:
        """A process starts to train.

        Args:
            attempt: counts process starts from 0.
            resumed_from: the checkpoint's step, or ``None`` for a fresh start.
            last_step_seen: the last step in the journal; what lies beyond ``resumed_from`` is done again.
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
                **facts,
            }
        )
        self.content["status"] = "running"
        self.write()

    def end_attempt(self, status: str, step: int) -> None:
        """The process stops: ``finished``, ``interrupted`` or ``failed``."""
        self.attempts[-1] |= {"ended": now(), "outcome": status, "last_step": step}
        self.content["status"] = status
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.content, indent=1, default=str) + "\n"
        write_atomically(self.path, text.encode())


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
    return found


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

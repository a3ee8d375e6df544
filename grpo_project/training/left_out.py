"""Flags that a command leaves out and the run in its folder knows: ``grpo resume DIR``, ``--output_dir DIR`` alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo_project.config import Recorded, known_flags, quickstart_recipe, read_config_file
from grpo_project.errors import ConfigError
from grpo_project.flags import Segment, segments
from grpo_project.record.run_directory import Run
from grpo_project.record.run_record import RUN_FILE, RunRecord
from grpo_project.record.secrets import REDACTED
from grpo_project.run_arguments import DEFAULTS

OF_ONE_START = frozenset(
    ("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "force_new_wandb_run", "print_curriculum")
) | {"allow_config_change", "max_runtime"}
"""Flags that were meant for the start that they were given to: a time limit is that of one job, and none unsets it."""
PATHS = frozenset(("model_name", "dataset_path", "dataset_base_path", "eval_dataset_path", "curriculum_config"))
"""Flags whose value may be a path; a relative one starts from the folder that the run was started in."""
NAMES = ("model_name", "dataset_path")


def left_out(argv: Sequence[str]) -> tuple[list[str], Recorded, str]:
    """The command line with its run's folder, what that run adds to it, and a line that says so.

    Raises:
        ConfigError: flags that can't be read, or secrets that the run did not keep.
        CheckpointError: run.json is damaged.
    """
    known = known_flags()
    given = segments(argv, known)
    named = {segment.name: segment.values[0] if segment.values else "" for segment in given}
    if "config" in named:
        named = {**read_config_file(named["config"]), **named}
    folder, more = _folder(named)
    if folder is None or named.get("overwrite_output_dir", "false") in ("", True, "true"):
        return list(argv), Recorded(), ""
    record = RunRecord.read(folder) if (folder / RUN_FILE).is_file() else None
    if record is None or not record.attempts:
        return list(argv), Recorded(), ""
    resolved = {name: value for part in record.content["config"].values() for name, value in part.items()}
    fresh = not (Run(folder).last_step or 0)
    if fresh and set(NAMES) & named.keys():
        return list(argv), Recorded(), ""  # nothing was trained: whatever the flags say, this starts anew
    if "output_dir" not in named and not more:
        return list(argv), Recorded(resolved=resolved), ""  # the folder is a default: the flags are those given
    attempt = record.attempts[-1]
    before = segments(_words(attempt), known)
    taken = [s for s in before if s.name not in named and s.name not in OF_ONE_START]
    file = {} if "config" in named else _file(attempt, before)
    file = {name: value for name, value in file.items() if name not in (*named, *OF_ONE_START)}
    require_secrets({s.name: " ".join(s.words) for s in taken} | {name: str(value) for name, value in file.items()})
    started_in = Path(attempt.get("folder") or os.getcwd())
    words = [word for segment in taken for word in _from_here(segment, started_in)]
    file = {name: _path(str(value), started_in) if name in PATHS else value for name, value in file.items()}
    recorded = Recorded(tuple(words), file, resolved)
    shown = [*words, *(f"--{name} ..." for name in file if "--config" not in words)]
    note = f"taken from {folder / RUN_FILE}: {' '.join(shown)}" if shown else ""
    return [*argv, *more], recorded, note


def require_secrets(values: dict[str, str]) -> None:
    """Raise ``ConfigError`` where a value holds what run.json does not keep."""
    hidden = [f"--{name}" for name, value in values.items() if REDACTED in value]
    if hidden:
        raise ConfigError(f"{RUN_FILE} keeps no secrets; give {' and '.join(hidden)} again")


def _folder(named: dict[str, Any]) -> tuple[Path | None, list[str]]:
    """The folder of the run that is meant, and the words that name it."""
    checkpoint = str(named.get("resume_from_checkpoint") or "")
    if named.get("output_dir"):
        folder = Path(str(named["output_dir"]))
        parent = Path(checkpoint).parent
        return (parent if not (folder / RUN_FILE).exists() and (parent / RUN_FILE).exists() else folder), []
    if checkpoint and (Path(checkpoint).parent / RUN_FILE).is_file():
        return Path(checkpoint).parent, ["--output_dir", str(Path(checkpoint).parent)]
    if named.get("model_name") or named.get("recipe", "auto") != "auto":
        return Path(DEFAULTS["output_dir"]), []
    return Path(quickstart_recipe()["output_dir"]), []


def _words(attempt: dict[str, Any]) -> list[str]:
    """The recorded command after ``train``."""
    command = attempt.get("command") or []
    return command[command.index("train") + 1 :] if "train" in command else []


def _file(attempt: dict[str, Any], before: Sequence[Segment]) -> dict[str, Any]:
    """What the recorded ``--config`` file held; version 0.1.0 kept its path alone."""
    if "config_file" in attempt:
        return dict(attempt["config_file"])
    paths = [segment.values[0] for segment in before if segment.name == "config" and segment.values]
    return read_config_file(paths[-1]) if paths else {}


def _from_here(segment: Segment, started_in: Path) -> tuple[str, ...]:
    if segment.name not in PATHS or len(segment.values) != 1:
        return segment.words
    return (f"--{segment.name}", _path(segment.values[0], started_in))


def _path(value: str, started_in: Path) -> str:
    """A path of the run as it is reached from here; a hub id, or what lies here too, stays."""
    there = started_in / Path(value).expanduser()
    return str(there) if there.exists() and not Path(value).expanduser().exists() else value


def in_its_folder(argv: Sequence[str], folder: Path) -> list[str]:
    """The command line of ``grpo resume``: ``folder`` is that of a run, or one of its checkpoints.

    Raises:
        ConfigError: there is no run.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; name the one that the run was started with")
    if folder.name.startswith("checkpoint-") and (folder.parent / RUN_FILE).is_file():
        return ["--output_dir", str(folder.parent), "--resume_from_checkpoint", str(folder), *argv]
    if not (folder / RUN_FILE).is_file():
        raise ConfigError(f"{folder} has no {RUN_FILE}, so there is nothing to go on with; start with `grpo train`")
    return ["--output_dir", str(folder), *argv]

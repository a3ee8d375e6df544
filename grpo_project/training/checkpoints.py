"""Checkpoints as files: what makes one whole, which one to resume from, which ones to delete.

A checkpoint is written in ``.staging/``, described by a manifest of sizes and hashes, and renamed to ``checkpoint-N``:
a folder with that name is whole, or it was damaged later, which the manifest shows. To survive a loss of power it is
flushed as well, and only then older ones may be deleted (``atomic_save``). Saving and loading the state itself is the
trainer's work (``atomic_save``, ``exact_state``); nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from grpo_project.errors import CheckpointError
from grpo_project.record.durable import flush

MANIFEST = "manifest.json"
STAGING = ".staging"
REJECTED = "rejected-checkpoints"
_NAME = re.compile(r"checkpoint-(\d+)")


class Written(NamedTuple):
    """What was written to a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A damaged checkpoint and the reason."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The newest whole checkpoint (``None`` if there is no checkpoint at all) and the damaged ones newer than it."""

    path: Path | None
    rejected: tuple[Rejected, ...] = ()

    @property
    def step(self) -> int:
        return step_of(self.path) if self.path else 0


def step_of(checkpoint: Path) -> int:
    """The optimizer step in a checkpoint folder's name."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise CheckpointError(f"{checkpoint} is not a checkpoint folder; its name must be checkpoint-STEP")
    return int(match.group(1))


def checkpoint_of(output_dir: Path, step: int) -> Path:
    """Where the checkpoint of an optimizer step lies, if there is one."""
    return output_dir / f"checkpoint-{step}"


def list_checkpoints(output_dir: Path) -> list[Path]:
    """The ``checkpoint-N`` folders of a run, oldest first, whole or not."""
    if not output_dir.is_dir():
        return []
    found = [path for path in output_dir.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def write_manifest(folder: Path, known: Mapping[str, Written] | None = None) -> None:
    """Describe every file below ``folder`` by size and SHA-256.

    A manifest is needed because neither safetensors nor ``torch.load`` notices a flipped bit in tensor data.

    Args:
        known: files that were hashed as they were written, by their name below ``folder``; the others are read.

    Raises:
        OSError: a file has another size than was written to it, or the disk refused.
    """
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        written = (known or {}).get(name) or Written(size, digest_of(path))
        if written.bytes != size:
            raise OSError(f"{name} has {size:,} bytes, and {written.bytes:,} were written to it")
        files[name] = {"bytes": size, "sha256": written.sha256}
    content = {"step": step_of(folder), "files": files}
    text = json.dumps({**content, "sha256": _seal(content)}, indent=1)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def flush_all(checkpoint: Path) -> None:
    """Return once a checkpoint, its name included, is on the disk itself. Raises ``OSError``."""
    for path in [*checkpoint.rglob("*"), checkpoint, checkpoint.parent]:
        flush(path)


def damage(checkpoint: Path) -> str | None:
    """Why ``checkpoint`` is not whole, or ``None`` if every byte is as it was written."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        if manifest.pop("sha256") != _seal(manifest):
            return f"{MANIFEST} has other content than was written"
        step = manifest["step"]
        files = {name: (recorded["bytes"], recorded["sha256"]) for name, recorded in manifest["files"].items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} can't be read ({type(error).__name__})"
    if step != step_of(checkpoint):
        return f"{MANIFEST} is that of step {step}"
    for name, (size, digest) in files.items():
        if reason := _file_damage(checkpoint / name, size, digest):
            return f"{name} {reason}"
    return None


def newest_whole(output_dir: Path) -> Selection:
    """The checkpoint to resume from.

    Raises:
        CheckpointError: there are checkpoints, and none of them is whole.
    """
    rejected: list[Rejected] = []
    for checkpoint in reversed(list_checkpoints(output_dir)):
        reason = damage(checkpoint)
        if reason is None:
            return Selection(checkpoint, tuple(rejected))
        rejected.append(Rejected(checkpoint, reason))
    if rejected:
        listed = "; ".join(f"{r.path.name}: {r.reason}" for r in rejected)
        raise CheckpointError(
            f"no checkpoint in {output_dir} is whole ({listed}). Restore one, or start anew with --overwrite_output_dir"
        )
    return Selection(None)


def require_whole(checkpoint: Path, what: str = "--resume_from_checkpoint") -> Path:
    """Check one checkpoint that the user named. Raises ``CheckpointError`` if it is missing or damaged."""
    if not checkpoint.is_dir():
        raise CheckpointError(f"{what} {checkpoint}: there is no such folder")
    step_of(checkpoint)
    if reason := damage(checkpoint):
        raise CheckpointError(f"{what} {checkpoint}: it is damaged ({reason}); restore it or name another one")
    return checkpoint


def best_of(checkpoint: Path, output_dir: Path) -> Path | None:
    """The best checkpoint that a whole one knows of; ``None`` where it knows none, or it is not there any more."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    best = state.get("best_global_step")
    folder = output_dir / f"checkpoint-{best}"
    return folder if best and folder.is_dir() else None


def set_aside(output_dir: Path, checkpoint: Path) -> Path:
    """Move a checkpoint that can't be used out of the way, keeping it, and return where it is now."""
    folder = output_dir / REJECTED
    folder.mkdir(exist_ok=True)
    target = folder / checkpoint.name
    count = 1
    while target.exists():
        count += 1
        target = folder / f"{checkpoint.name}.{count}"
    checkpoint.rename(target)
    return target


def rotate(output_dir: Path, keep: int | None, best: str | None) -> list[Path]:
    """Delete the oldest checkpoints beyond ``keep``, never the newest whole one nor ``best``; return the deleted."""
    checkpoints = list_checkpoints(output_dir)
    if keep is None or keep <= 0 or len(checkpoints) <= keep:
        return []
    # The newest was just written and renamed whole, so keeping the newest keeps a whole one.
    protected = {checkpoints[-1]} | ({Path(best).resolve()} if best else set())
    deleted = []
    for checkpoint in checkpoints[: len(checkpoints) - keep]:
        if checkpoint not in protected and checkpoint.resolve() not in protected:
            # Renamed first, so that a kill in mid-deletion leaves no half checkpoint under a valid name.
            doomed = output_dir / STAGING / f"deleted-{checkpoint.name}"
            doomed.parent.mkdir(exist_ok=True)
            shutil.rmtree(doomed, ignore_errors=True)
            checkpoint.rename(doomed)
            shutil.rmtree(doomed)
            deleted.append(checkpoint)
    return deleted


def _seal(content: dict[str, object]) -> str:
    """The manifest's own hash, so that its damage is not taken for that of a file that it describes."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_damage(path: Path, size: int, digest: str) -> str | None:
    try:
        found = path.stat().st_size
        if found != size:
            return f"has {found:,} bytes instead of {size:,}"
        if digest_of(path) != digest:
            return "has other content than was written (SHA-256 differs)"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None

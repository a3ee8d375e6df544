"""The final model's way into the run directory: whole files only, and one line where there is no room for them."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

from safetensors import SafetensorError
from transformers import Trainer

from grpo_project.errors import DiskFullError, JournalError
from grpo_project.record.durable import NO_ROOM, disk_full, flush
from grpo_project.training.checkpoints import STAGING


def publish(trainer: Trainer, output_dir: Path) -> tuple[str, ...]:
    """Write the final model into the run directory and return the names of its files. Called on every rank.

    It is written beside and moved in file by file: a kill leaves whole files, and the next start writes them again.

    Raises:
        DiskFullError: there is no room for it; nothing of it was moved in.
        JournalError: the disk refused it for another reason.
    """
    staged = output_dir / STAGING / "model"
    try:
        trainer.save_model(str(staged))
        if not trainer.args.should_save:
            return ()
        names = sorted(path.name for path in staged.iterdir())
        for name in names:
            flush(staged / name)
            (staged / name).replace(output_dir / name)
        flush(output_dir)
        return tuple(names)
    except (OSError, SafetensorError, RuntimeError) as error:  # the boundary of saving, as in ``atomic_save``
        raise refused_by_disk(output_dir / "model.safetensors", weights_size(trainer), error) from error
    finally:
        if trainer.args.should_save:  # a full disk needs the room at once
            shutil.rmtree(staged.parent, ignore_errors=True)


def weights_size(trainer: Trainer) -> int:
    """Bytes of the trained weights, about."""
    return sum(weight.numel() * weight.element_size() for weight in trainer.model.parameters())


def refused_by_disk(path: Path, needed: int, error: Exception) -> JournalError | DiskFullError:
    """What the disk's refusal means: safetensors tells the operating system's number in its text alone."""
    found = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
    if number is None and shutil.disk_usage(path.parent).free < needed:  # torch.save tells no number at all
        number = errno.ENOSPC
    if number in NO_ROOM:
        return disk_full(path, needed, OSError(number, ""))
    return JournalError(f"can't write {path}: {error}")

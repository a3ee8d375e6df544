"""Writing files so that a kill, or a power cut, leaves the old content or the new, never a part of it."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, through_power_loss: bool = True) -> None:
    """Replace a file. Readers see the old content or the new one.

    ``through_power_loss`` also waits for the disk itself (fsync); without it, only a kill is survived.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_bytes(content)
    if through_power_loss:
        flush(staged)
    staged.replace(path)


def flush(path: Path) -> None:
    """fsync a file, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

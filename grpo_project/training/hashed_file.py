"""Hashing files while they are written, so that a checkpoint need not be read again for its manifest.

``torch.save`` writes to a ``HashedFile`` from the first byte to the last; what other libraries write by themselves (the
weights) is hashed as soon as it is complete, while the next file is being written. Both run in threads beside the
writing: hashing and writing let go of the interpreter's lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import torch

from grpo_project.training.checkpoints import Written, digest_of

WORTH_A_THREAD = 1 << 20
"""Bytes; hashing less takes no longer than handing it over."""


class FileHashes:
    """The hashes of the files of one save. A context manager: its threads end with it.

    Raises:
        OSError: in ``known``, where a file could not be read.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="hash")
        self._found: dict[Path, Written | Future[Written]] = {}

    def save(self, content: Any, path: Path) -> None:
        """``torch.save``, hashed on the way."""
        with HashedFile(path, self._pool) as file:
            torch.save(content, cast(IO[bytes], file))
        self._found[path] = file.written

    def begin(self, paths: Iterable[Path]) -> None:
        """Hash files that are complete, beside what follows; those that are hashed already are left out."""
        for path in paths:
            if path not in self._found and path.is_file():
                self._found[path] = self._pool.submit(_read, path)

    def known(self, folder: Path) -> dict[str, Written]:
        """What was found, by the name below ``folder``."""
        return {
            path.relative_to(folder).as_posix(): found.result() if isinstance(found, Future) else found
            for path, found in self._found.items()
        }

    def __enter__(self) -> FileHashes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)


class HashedFile:
    """A new binary file that only grows, as ``torch.save`` takes it.

    An error of the disk is raised at the end of the ``with`` block, and not by ``write``: torch would end the process
    (its writer writes once more while it is being torn down, torch/csrc/serialize).
    """

    def __init__(self, path: Path, pool: ThreadPoolExecutor) -> None:
        self._file = path.open("wb")
        self._pool = pool
        self._digest = hashlib.sha256()
        self._size = 0
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """All of ``data``: a view of a tensor's memory, which is not copied."""
        view = memoryview(data).cast("B")
        if self._error is None:
            hashing = self._pool.submit(self._digest.update, view) if len(view) >= WORTH_A_THREAD else None
            try:
                self._file.write(view)
            except OSError as error:
                self._error = error
            if hashing is None:
                self._digest.update(view)
            else:
                hashing.result()  # after this the memory is the caller's again
            self._size += len(view)
        return len(view)

    def flush(self) -> None:
        """Nothing is read before the end."""

    @property
    def written(self) -> Written:
        return Written(self._size, self._digest.hexdigest())

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._file.close()
        finally:
            if self._error is not None:
                raise self._error


def _read(path: Path) -> Written:
    return Written(path.stat().st_size, digest_of(path))

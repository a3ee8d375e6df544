"""A file held by at most one live process.

POSIX record locks: unlike flock they are not kept alive by forked children (data loader workers that outlive a killed
trainer by some seconds), and the kernel drops them with the process, so that nothing stale is ever left behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Any


class FileLock:
    """Held from construction to ``release`` or the end of the process.

    A process must not open ``path`` in any other way: closing it would drop the lock.

    Raises:
        BlockingIOError: another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                return  # a file system without locks (some network mounts): go on without the protection
            os.close(self._file)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise BlockingIOError(errno.EAGAIN, "held by another process", str(path)) from error
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets nothing: a lock can't be sent."""
        return (type(None), ())

    def lost(self) -> bool:
        """Whether the file was deleted or replaced, so that somebody else could hold its name."""
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._file))

    def release(self) -> None:
        """Let go. Twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def is_held(path: Path) -> bool:
    """Whether another process holds the lock, without taking it.

    Not for the process that holds it: POSIX never shows a process its own lock.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # struct flock on 64-bit Linux: type, whence, start, length, pid
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(file, fcntl.F_GETLK, asked)
        return struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK
    finally:
        os.close(file)

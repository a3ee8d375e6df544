"""Writing so that a kill, a power cut, a full disk or a disk that stutters costs as little as it can.

Files are replaced whole, or grow by whole lines. A transient error (``EIO`` of a network file system) is tried again
for some seconds. When the disk is full, the run's own record goes on from a small reserve that was set aside while
there was room; when that is used up too, ``DiskFullError`` says so.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from grpo_project.errors import DiskFullError, JournalError

logger = logging.getLogger("grpo_project")
T = TypeVar("T")

TEMPORARY = ".tmp"
"""How the names of files end that are not whole yet; a kill may leave them behind."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # the last: a limit on one file (`ulimit -f`)
TRANSIENT = frozenset({errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ESTALE, errno.EREMOTEIO})
RETRY_WAITS_S = (0.1, 0.5, 2.0, 5.0)


class Reserve:
    """Room on the disk for the record of one run: a file that gives back what a writer on a full disk needs.

    Any process may take from it: all it knows is the file's size. A last share is left for what is small and says how
    the run ended (events and ``run.json``).
    """

    SIZE = 4 * 2**20
    """Two or three steps of 64 completions, or an evaluation."""
    LAST_SHARE = 256 * 2**10
    SLACK = 64 * 2**10
    """Taken beside what is asked for: file systems give and take whole blocks."""

    def __init__(self, output_dir: Path) -> None:
        self.path = output_dir / "journal" / "reserve"

    def fill(self) -> None:
        """Set the room aside, or as little of it as there was. Called again and again, it refills."""
        with contextlib.suppress(OSError):  # a full disk or a file system without room to reserve: go on without
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                there = os.fstat(file).st_size
                if there < self.SIZE:
                    try:
                        os.posix_fallocate(file, 0, self.SIZE)
                    except OSError:
                        os.ftruncate(file, there)
            finally:
                os.close(file)

    def take(self, needed: int, *, closing: bool) -> bool:
        """Give ``needed`` bytes back to the disk. False: the reserve is used up.

        Args:
            closing: the last share may be taken too.
        """
        try:
            size = os.stat(self.path).st_size
            left = size - needed - self.SLACK
            if size == 0 or left < (0 if closing else self.LAST_SHARE):
                return False
            os.truncate(self.path, left)
        except OSError:
            return False
        if size == self.SIZE:
            logger.warning("the disk is full: the record goes on from a reserve of %d kB", self.SIZE // 1000)
        return True

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def persistently(
    write: Callable[[], T], path: Path, needed: int, reserve: Reserve | None = None, *, closing: bool = False
) -> T:
    """``write()``, again after a transient error, and from the reserve on a full disk.

    Args:
        write: must begin anew, or where it stands, each time.
        path: what is written, for the message.
        needed: bytes that it takes on the disk, about.

    Raises:
        DiskFullError: there is no room, and no reserve any more.
        OSError: anything else that lasts.
    """
    waits = iter(RETRY_WAITS_S)
    while True:
        try:
            return write()
        except OSError as error:
            if error.errno in NO_ROOM:
                if reserve is None or error.errno == errno.EFBIG or not reserve.take(needed, closing=closing):
                    raise disk_full(path, needed, error) from error
            elif error.errno in TRANSIENT and (wait := next(waits, None)) is not None:
                logger.debug("%s: %s; trying again in %g s", path, error, wait)
                time.sleep(wait)
            else:
                raise


def disk_full(path: Path, needed: int, error: OSError) -> DiskFullError:
    """The one line for the user: what could not be written, how much room it takes, how to go on."""
    wanted = max(needed + Reserve.SIZE, 2 * Reserve.SIZE) // 2**20
    try:
        disk = os.statvfs(path.parent)
        free = f"{disk.f_bavail * disk.f_frsize // 2**20:,} MB are free there"
    except OSError:
        free = "how much is free there is unknown"
    return DiskFullError(
        f"disk full: {path} can't be written ({os.strerror(error.errno or 0)}): it needs {needed:,} bytes now, "
        f"and {free}. Make room (at least {wanted} MB, and what a checkpoint takes); the same command then goes on"
    )


def write_atomically(
    path: Path, content: bytes, *, through_power_loss: bool = True, reserve: Reserve | None = None
) -> None:
    """Replace a file. Readers see the old content or the new one.

    Args:
        through_power_loss: also wait for the disk itself (fsync); without it, only a kill is survived.
        reserve: where to take room from on a full disk.

    Raises:
        DiskFullError: there is no room.
        OSError: the disk refused it for another reason.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")

    def write() -> None:
        staged.write_bytes(content)
        if through_power_loss:
            # Not retried alone: after a failed fsync the kernel may report success and have lost the pages.
            flush(staged)
        staged.replace(path)

    try:
        persistently(write, path, len(content), reserve, closing=True)
    except (OSError, DiskFullError):
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """fsync a file, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AppendFile:
    """A file that grows by whole lines, one ``write(2)`` each; O_APPEND keeps several writers from mixing.

    Args:
        reserve: where to take room from on a full disk.
        new: the file must not exist yet.

    Raises:
        OSError: it can't be opened.
    """

    def __init__(self, path: Path, reserve: Reserve | None = None, *, new: bool = False) -> None:
        self.path, self.reserve = path, reserve
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if new else 0)
        self._file = os.open(path, flags, 0o666)
        # A process killed in the middle of a write leaves a line without an end; the next row must not be glued to it.
        self._torn = self._ends_torn()

    def append(self, line: bytes, *, closing: bool = False) -> None:
        """Add a line, its newline included.

        Args:
            closing: the reserve's last share may be used.

        Raises:
            DiskFullError: there is no room; a part of the line may be there.
            JournalError: the disk refused it.
        """
        before, rest = self.size, b"\n" + line if self._torn else line

        def write() -> None:
            nonlocal rest
            try:
                while rest:  # a regular file takes less than asked for only when the disk or the quota is full
                    rest = rest[os.write(self._file, rest) :]
            except OSError as error:
                if error.errno in TRANSIENT:  # how much arrived nobody says
                    rest = self._left_to_write(line, before)
                raise

        try:
            persistently(write, self.path, len(line), self.reserve, closing=closing)
        except OSError as error:
            raise JournalError(f"can't write {self.path}: {error}") from error
        finally:
            self._torn = bool(rest) and self._ends_torn()

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._file).st_size

    def sync(self) -> None:
        """Return once everything is on the disk itself. Raises ``JournalError``."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise JournalError(f"can't fsync {self.path}: {error}") from error

    def close(self) -> None:
        """Twice is fine."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _left_to_write(self, line: bytes, before: int) -> bytes:
        """What is to be written after an error, for ``line`` to be there once from the byte ``before`` on."""
        arrived = os.pread(self._file, self.size - before, before)
        if line in arrived:
            return b""
        # A line that lacks its end alone would be whole, and there twice, with a mere line feed.
        return b"~\n" + line if self._ends_torn() else line

    def _ends_torn(self) -> bool:
        size = self.size
        return size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

"""A published folder, or an archive of one, as texts by their path."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from pathlib import Path

from grpo_project.errors import DataError

SUFFIXES = (".sv", ".v", ".txt", ".dat", ".mem", ".hex")
_LARGEST, _MOST = 8 << 20, 20_000
"""Bytes of one file, and files in all."""


def published_files(path: Path) -> dict[str, str] | None:
    """The Verilog and text files of a folder or archive (tar, zip); ``None`` for any other file. Nothing is unpacked.

    Raises ``DataError`` where it can't be read.
    """
    try:
        if path.is_dir():
            return _of_folder(path)
        if not path.is_file():
            return None
        if zipfile.is_zipfile(path):
            return _of_zip(path)
        if _is_tar(path):
            return _of_tar(path)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: can't be read ({error}); fetch it again") from error
    return None


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError, zlib.error):  # damaged gzip data, which the reader of files has a message for
        return False


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n")


def _of_folder(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in SUFFIXES and path.is_file() and path.stat().st_size <= _LARGEST and len(found) < _MOST:
            found[path.relative_to(folder).as_posix()] = _text(path.read_bytes())
    return found


def _of_zip(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if info.filename.endswith(SUFFIXES) and info.file_size <= _LARGEST]
        return {info.filename: _text(archive.read(info)) for info in infos[:_MOST]}


def _of_tar(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(SUFFIXES) and member.size <= _LARGEST and len(found) < _MOST:
                content = archive.extractfile(member)
                assert content is not None  # it is a regular file
                found[member.name] = _text(content.read())
    return found

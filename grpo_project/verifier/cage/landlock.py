"""Landlock: take the file system and the network away from this process, without any privilege (Linux 5.13)."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from grpo_project.verifier.cage import kernel

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REG, _MAKE_SYM, _TRUNCATE = 1 << 7, 1 << 8, 1 << 12, 1 << 14
_OF_FOLDERS = _READ_DIR | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM
_SCRATCH = _OF_FOLDERS | _WRITE_FILE | _READ_FILE  # neither devices and sockets nor moves to other folders
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights each ABI version knows
_NET_RIGHTS = 0b11  # bind and connect TCP, from version 4 on
_SCOPES = 0b11  # abstract sockets and signals, from version 6 on
_RULE_PATH_BENEATH = 1


def version() -> int:
    """The kernel's Landlock ABI. Raises ``OSError`` where there is none or it is switched off."""
    return kernel.syscall("landlock", kernel.SYS_LANDLOCK_CREATE_RULESET, None, 0, 1)


def restrict(
    readable: Iterable[str], writable: Iterable[str], *, programs: Iterable[str] = (), scratch: str | None = None
) -> None:
    """Leave this process reading beneath these folders and writing to these files, and no other file.

    What lies beneath ``programs`` may be executed; beneath ``scratch`` files and folders may be made and removed.
    """
    abi = version()
    rights = (1 << _FS_RIGHTS[min(abi, 5)]) - 1
    attributes = struct.pack("=QQQ", rights, _NET_RIGHTS if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = kernel.syscall("landlock", kernel.SYS_LANDLOCK_CREATE_RULESET, attributes, size, 0)
    try:
        for path in readable:
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        for path in programs:
            _allow(ruleset, path, _READ_FILE | _EXECUTE)
        for path in writable:
            _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
        if scratch is not None:
            _allow(ruleset, scratch, (_SCRATCH | _TRUNCATE) & rights)
        kernel.syscall("landlock", kernel.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= ~_OF_FOLDERS  # the kernel refuses a rule on a file that has them
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, beneath), 12)
        kernel.syscall("landlock", kernel.SYS_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(beneath)

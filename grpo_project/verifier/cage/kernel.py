"""Linux system calls that Python 3.11 has no function for, through ctypes. Each raises ``OSError`` with its name."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_ZERO = ctypes.c_ulong(0)

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_PRIVATE, MS_RELATIME = 1 << 18, 1 << 21
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_GET_NAME = 1, 4, 15, 16
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_SET_VMA = 36, 38, 0x53564D41

# The same number on every architecture (both tables were unified at 424).
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446

_CAPABILITY_VERSION_3 = 0x20080522
_ADDR_NO_RANDOMIZE = 0x0040000
_SYS = {
    "x86_64": {"pivot_root": 155, "capset": 126, "seccomp": 317, "execve": 59},
    "aarch64": {"pivot_root": 41, "capset": 91, "seccomp": 277, "execve": 221},
}
MACHINE = os.uname().machine


def number_of(name: str) -> int:
    """Raises ``OSError`` on an architecture whose numbers are not known here."""
    if MACHINE not in _SYS:
        raise OSError(f"no table of system calls for {MACHINE}")
    return _SYS[MACHINE][name]


def _checked(name: str, result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def syscall(name: str, number: int, *arguments: Any) -> int:
    padded = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(name, _libc.syscall(ctypes.c_long(number), *padded))


def unshare(flags: int) -> None:
    _checked("unshare", _libc.unshare(flags))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _checked(f"mount {target}", _libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]))


def unmount(target: str, flags: int) -> None:
    _checked(f"umount {target}", _libc.umount2(target.encode(), flags))


def pivot_root(new: str, old: str) -> None:
    syscall("pivot_root", number_of("pivot_root"), new.encode(), old.encode())


def prctl(option: int, value: int) -> None:
    _checked(f"prctl {option}", _libc.prctl(option, ctypes.c_ulong(value), *[_ZERO] * 3))


def set_name(name: str) -> None:
    """The process's name in ``ps`` and ``top``."""
    # Not through ``ctypes.create_string_buffer``, which makes a type for each length: in every child, that is.
    _checked("prctl", _libc.prctl(PR_SET_NAME, name.encode()[:15], *[_ZERO] * 3))


def fix_addresses() -> None:
    """What this process execs from now on, and below it, has the same layout of memory each time.

    Programs that hang on addresses (the order of a set of objects) are then judged the same every time.
    """
    _checked("personality", _libc.personality(ctypes.c_ulong(_ADDR_NO_RANDOMIZE)))


def drop_bounding_set() -> None:
    """Give up the chance to ever regain a capability through an exec."""
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_READ, ctypes.c_ulong(capability)) < 0:
            return  # one above the last that this kernel knows
        prctl(PR_CAPBSET_DROP, capability)


def clear_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets of this process."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    syscall("capset", number_of("capset"), header, nothing)

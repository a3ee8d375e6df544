"""The ``namespaces`` level's world: an empty root with a read-only standard library, a small private /tmp, nobody else.

Two steps with the parent's help in between, because only it may say which user the new namespace's users are:
``unshare`` (new namespaces, then a fork whose child is process 1 of its own process namespace), and ``pivot_into``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from grpo_project.verifier.cage import kernel

NOBODY = 65534
TMP_OPTIONS = "size=16m,nr_inodes=2k,mode=1777"
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_ROOT = "/tmp"  # covered by the new root, in this process's own mount namespace only
_WORLD = kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
# statvfs flags that a less privileged namespace has to keep on a remount, as mount flags
_KEPT = {os.ST_NOSUID: 2, os.ST_NODEV: 4, os.ST_NOEXEC: 8, os.ST_NOATIME: 1024, os.ST_NODIRATIME: 2048, 4096: 1 << 21}


def unshare(*, processes: bool = True) -> None:
    """Enter new namespaces; one of processes for what is forked from then on, if so asked.

    Raises ``OSError`` where the machine does not let this user have any.
    """
    kernel.unshare(_WORLD | (kernel.CLONE_NEWPID if processes else 0))


def become_init() -> None:
    """Fork; the parent ends and the child, process 1 of the new process namespace, goes on."""
    if os.fork() != 0:
        os._exit(0)


def write_maps(pid: int) -> None:
    """Called by the parent: say who the users of the new namespace of ``pid`` are.

    As root, candidates are mapped to nobody (and the set-up runs as root, which may read where Python is installed); as
    an ordinary user, or as the root of a namespace that has no nobody, there is one user to map. Raises ``OSError``.
    """
    user, group = os.geteuid(), os.getegid()
    ranges = {"uid_map": f"0 {user} 1\n", "gid_map": f"0 {group} 1\n"}
    if user == 0 and _has_nobody():
        ranges = {name: text + f"{NOBODY} {NOBODY} 1\n" for name, text in ranges.items()}
    else:
        _write(pid, "setgroups", "deny")
    for name, text in ranges.items():
        _write(pid, name, text)


def _has_nobody() -> bool:
    with open("/proc/self/uid_map") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return any(first <= NOBODY < first + count for first, _, count in ranges)


def _write(pid: int, name: str, text: str) -> None:
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write(text)


def pivot_into(readable: Iterable[str]) -> None:
    """Build the new root of these folders, read-only, move into it, and drop every privilege."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    sources = {path: os.open(path, os.O_PATH) for path in (*readable, *_DEVICES)}
    kernel.mount("tmpfs", _ROOT, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    # Before the folders, some of which may lie beneath /tmp: mounted later it would cover them.
    os.makedirs(_ROOT + "/tmp")
    # Of the candidates' own user, so that the zygote can set its times back.
    owner = f",uid={NOBODY},gid={NOBODY}" if _mapped(NOBODY) else ""
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("tmpfs", _ROOT + "/tmp", "tmpfs", flags, TMP_OPTIONS + owner)
    for path, descriptor in sources.items():
        _bind(descriptor, path)
        os.close(descriptor)
    os.chdir(_ROOT)
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount(None, "/", None, flags)
    os.chdir("/tmp")
    _drop_privileges()


def _bind(descriptor: int, path: str) -> None:
    # Through the descriptor: the path may lie beneath a folder that the new root has just covered.
    source, target = f"/proc/self/fd/{descriptor}", _ROOT + path
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    kernel.mount(source, target, None, kernel.MS_BIND | kernel.MS_REC)
    present = os.statvfs(target).f_flag
    flags = sum(mount for status, mount in _KEPT.items() if present & status)
    kernel.mount(None, target, None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | flags)


def _drop_privileges() -> None:
    kernel.drop_bounding_set()
    if _mapped(NOBODY):
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.clear_capabilities()


def _mapped(user: int) -> bool:
    try:
        os.setegid(user)
    except OSError:
        return False
    os.setegid(0)
    return True

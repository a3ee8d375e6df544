"""The isolation levels: what a caged process gives up, once for a zygote and once more for each child.

``namespaces``  own user, mount, network, process and ipc namespaces; an empty root with a read-only standard library
                and a small private /tmp; no capabilities; a seccomp filter; rlimits.
``landlock``    no privilege needed, for containers: nothing of the file system but the standard library, read-only;
                seccomp: no network, no new process, signals to the own process only; rlimits.
``rlimits``     resource limits, and seccomp for no new process: files and network are open to the candidate. Used only
                where the user names it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import sysconfig
from collections.abc import Callable

from grpo_project.verifier.cage import kernel, landlock, namespaces, seccomp
from grpo_project.verifier.cage.profile import Profile

NAMESPACES = "namespaces"
LANDLOCK = "landlock"
RLIMITS = "rlimits"
LEVELS = (NAMESPACES, LANDLOCK, RLIMITS)
"""Strongest first."""
WORK = "/tmp/work"
"""Where children that become programs keep their files, in a cage with a file system of its own."""
_empty_bytes = 0  # size of the cage's /tmp with nothing in it


def enter(level: str, profile: Profile, work: str | None, ask_parent: Callable[[], None]) -> None:
    """Isolate this process, a zygote that is about to start its loop. Raises ``OSError`` where the kernel refuses.

    ``ask_parent`` returns when the parent has written the user maps. ``work`` is the folder of the host's that children
    may write to, for a profile with programs on a level without a file system of its own.
    """
    global _empty_bytes
    readable = _readable(profile)
    if level == NAMESPACES:
        namespaces.unshare()
        ask_parent()
        namespaces.become_init()
        namespaces.pivot_into(readable)
        if profile.programs:
            os.mkdir(WORK)
            os.chdir(WORK)
        _empty_bytes = os.stat("/tmp").st_size
    elif level == LANDLOCK:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        os.chdir(work or "/")
        landlock.restrict(readable, ["/dev/null"], programs=profile.programs, work=work)
        kernel.clear_capabilities()  # as root there are some
    elif work is not None:
        os.chdir(work)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # no ptrace and no /proc/PID/mem for processes of the same user
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if level != RLIMITS:
        seccomp.install(seccomp.zygote_filter(programs=bool(profile.programs)))


def enter_child(level: str) -> None:
    """What only a child gives up: the zygote itself has to fork and to signal."""
    if level != NAMESPACES:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # with process 1 of a namespace, everybody ends anyway
        seccomp.install(seccomp.child_filter(os.getpid()))


def sweep(level: str) -> bool:
    """End and reap every process that the candidate left behind; ``False`` when it left files, too."""
    if level != NAMESPACES:
        return True  # it could make neither processes nor, under Landlock, files
    try:
        os.kill(-1, signal.SIGKILL)  # from process 1: everybody in the namespace but itself
    except ProcessLookupError:
        pass  # nobody
    else:
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
    try:
        found = os.stat("/tmp")  # the size of a tmpfs folder counts the names in it
        return found.st_size == _empty_bytes and found.st_mode & 0o7777 == 0o1777
    except OSError:
        return False  # it took the folder's permissions away


def _readable(profile: Profile) -> list[str]:
    """The folders of the standard library, of the profile, and of the shared libraries that are loaded."""
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})}
    folders |= {path for path in sys.path if path != profile.site}
    if profile.site is not None:
        folders |= {
            os.path.join(profile.site, name.split(".")[0] + end) for name in profile.packages for end in ("", ".libs")
        }
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[-1].strip()
            if path.startswith("/") and ".so" in os.path.basename(path):
                folders.add(os.path.dirname(path))
    folders = {folder for folder in folders if os.path.isdir(folder)}
    return _outermost(sorted(folders | set(profile.programs)))


def _outermost(folders: list[str]) -> list[str]:
    """Without those beneath another; what lies beneath a link counts by its own path."""
    kept: list[str] = []
    for folder in folders:
        if not any(folder == other or folder.startswith(other + "/") for other in kept):
            kept.append(folder)
    return kept

"""The isolation levels: what a caged process gives up, once for a zygote and once more for each child; and a judge.

``namespaces``  own user, mount, network, process and ipc namespaces; an empty root with a read-only standard library
                and a small private /tmp; no capabilities; a seccomp filter; rlimits.
``landlock``    no privilege needed, for containers: nothing of the file system but the standard library, read-only, and
                a scratch folder; seccomp: no network, no new process, signals to the own process only, threads and
                files counted by the zygote; rlimits.
``rlimits``     resource limits, and seccomp for no new process: files and network are open to the candidate. Used only
                where the user names it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterable

from grpo_project.verifier.cage import kernel, landlock, namespaces, seccomp
from grpo_project.verifier.cage.profile import Profile

NAMESPACES = "namespaces"
LANDLOCK = "landlock"
RLIMITS = "rlimits"
LEVELS = (NAMESPACES, LANDLOCK, RLIMITS)
"""Strongest first."""
WORK = "/tmp/work"
"""Where children that become programs keep their files, in a cage with a file system of its own."""
_folder = ""  # where may be written; "" for nowhere
_clean: tuple[list[str], os.stat_result] | None = None  # that folder as it was at first: names, mode and times


def enter(level: str, profile: Profile, scratch: str | None, ask_parent: Callable[[], None]) -> None:
    """Isolate this process, a zygote that is about to start its loop. Raises ``OSError`` where the kernel refuses.

    ``ask_parent`` returns when the parent has written the user maps. ``scratch``: a folder of the host's that children
    may write to, on a level without a file system of its own. Where children become programs, what they leave there (in
    ``WORK`` on the other level) is the next one's.
    """
    global _folder
    packages = [name.split(".")[0] + end for name in profile.packages for end in ("", ".libs")]
    readable = _readable(profile.site, packages, profile.programs)
    if level == NAMESPACES:
        namespaces.unshare()
        ask_parent()
        namespaces.become_init()
        namespaces.pivot_into(readable)
        if profile.programs:
            os.mkdir(WORK)
            os.chdir(WORK)
        _folder = "/tmp"
    elif level == LANDLOCK:
        _confine_files(readable, scratch, profile.programs)
        _folder = "" if profile.programs else scratch or ""
    elif scratch is not None:
        os.chdir(scratch)
    _remember_scratch()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # no ptrace and no /proc/PID/mem for processes of the same user
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.child_filter_of_any()  # once, for all children
    if level != RLIMITS:
        seccomp.install(seccomp.zygote_filter(programs=bool(profile.programs)))


def _confine_files(readable: list[str], scratch: str | None, programs: Iterable[str] = ()) -> None:
    _become_nobody(readable, scratch)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    os.chdir(scratch or "/")
    if scratch is not None:
        os.environ["TMPDIR"] = scratch
        if (loaded := sys.modules.get("tempfile")) is not None:
            loaded.tempdir = scratch  # type: ignore[attr-defined]  # it has made up its mind already
    landlock.restrict(readable, ["/dev/null"], programs=programs, scratch=scratch)
    kernel.clear_capabilities()  # as root there are some


def _become_nobody(readable: list[str], scratch: str | None) -> None:
    """As root: become nobody, unless that would hide Python, which may be installed where only root can read."""
    if os.geteuid() != 0:
        return
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(OSError):
            _set_user(namespaces.NOBODY)
            os._exit(0 if all(os.access(path, os.R_OK | (os.X_OK * os.path.isdir(path))) for path in readable) else 1)
        os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
        if scratch is not None:
            os.chown(scratch, namespaces.NOBODY, namespaces.NOBODY)
        _set_user(namespaces.NOBODY)


def _set_user(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def enter_child(level: str) -> int | None:
    """What only a child gives up: the zygote itself has to fork and to signal.

    Returns the descriptor on which the zygote will be asked about threads and files, where it has to be.
    """
    if level == NAMESPACES:
        return None
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # with process 1 of a namespace, everybody ends anyway
    return seccomp.install(seccomp.child_filter(os.getpid()), supervised=True)


def enter_judge(level: str, site: str | None, scratch: str | None, ask_parent: Callable[[], None]) -> None:
    """Isolate this process, which is about to run the problems' test code. Raises ``OSError``.

    A downloaded problem file is code. It gets the standard library and what is installed (``site``) to read, a scratch
    folder, and neither network nor processes. The process namespace stays, which the candidates' clocks are read in.
    """
    global _folder
    package = os.path.abspath(__file__).partition("/verifier/cage/")[0]  # languages are loaded when they are met
    readable = _readable(site, ("",), (package,))
    if level == NAMESPACES:
        namespaces.unshare(processes=False)
        ask_parent()
        namespaces.pivot_into(readable)
        _folder = "/tmp"
    elif level == LANDLOCK:
        _confine_files(readable, scratch)
        _folder = scratch or ""
    _remember_scratch()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if level != RLIMITS:
        for program in seccomp.judge_filter(os.getpid(), own_files=level == NAMESPACES):
            seccomp.install(program)


def sweep(level: str) -> bool:
    """End and reap every process that the candidate left behind; ``False`` when it left files, too."""
    if level == NAMESPACES:
        try:
            os.kill(-1, signal.SIGKILL)  # from process 1: everybody in the namespace but itself
        except ProcessLookupError:
            pass  # nobody
        else:
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)
    return _scratch_is_clean()


def _remember_scratch() -> None:
    global _clean
    _clean = (os.listdir(_folder), os.stat(_folder)) if _folder else None  # in this order: looking changes a time


def _scratch_is_clean() -> bool:
    """Whether nothing new is in the scratch folder; its times are set back, which the next candidate could read."""
    global _clean
    if _clean is None:
        return True
    names, before = _clean
    try:
        if (_folder == "/tmp" or _folder.startswith("/dev/shm/")) and _looks(os.stat(_folder)) == _looks(before):
            return (
                True  # the size of a tmpfs folder counts the names in it, so nothing was left in the same tick either
            )
        same = os.listdir(_folder) == names  # first: looking changes a time, too
        found = os.stat(_folder)
        if (found.st_ctime_ns, found.st_atime_ns) != (before.st_ctime_ns, before.st_atime_ns):
            os.utime(_folder, ns=(before.st_atime_ns, before.st_mtime_ns))
            _clean = names, os.stat(_folder)
        return same and found.st_mode == before.st_mode
    except OSError:
        return False  # it took the folder's permissions away


def _looks(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_mode, found.st_ctime_ns, found.st_atime_ns


def clear_scratch() -> None:
    """In a judge: remove what test code has left in the scratch folder."""
    if _scratch_is_clean() or _clean is None:
        return
    import shutil

    for name in set(os.listdir(_folder)) - set(_clean[0]):
        path = os.path.join(_folder, name)
        shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.unlink(path)


def _readable(site: str | None, packages: Iterable[str], more: Iterable[str]) -> list[str]:
    """The folders of the standard library, of these packages in ``site``, of the shared libraries loaded, and more."""
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})}
    folders |= {path for path in sys.path if path != site}
    if site is not None:
        folders |= {os.path.join(site, name).rstrip("/") for name in packages}
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[-1].strip()
            if path.startswith("/") and ".so" in os.path.basename(path):
                folders.add(os.path.dirname(path))
    folders = {folder for folder in folders if os.path.isdir(folder)}
    return _outermost(sorted(folders | set(more)))


def _outermost(folders: list[str]) -> list[str]:
    """Without those beneath another; what lies beneath a link counts by its own path."""
    kept: list[str] = []
    for folder in folders:
        if not any(folder == other or folder.startswith(other + "/") for other in kept):
            kept.append(folder)
    return kept

"""The seccomp filters: which system calls a caged process may make. An allowlist; whatever it does not name fails.

``zygote_filter`` is put on once and inherited by every child. ``child_filter`` goes on top where there is no process
namespace to sweep: no new process, signals to the own process only; threads and files only as far as a supervisor, the
zygote, lets them (seccomp_unotify(2)), since there is no namespace of its own to count them. ``judge_filter`` is for
the process that runs the problems' test code.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import struct
import sys
from collections.abc import Callable

from grpo_project.verifier.cage import kernel

# name:number on x86_64:number on aarch64, from the kernel's headers; an empty number: not on that architecture.
_TABLE = """
read:0:63 write:1:64 open:2: close:3:57 stat:4: fstat:5:80 lstat:6: poll:7: lseek:8:62 mmap:9:222 mprotect:10:226
munmap:11:215 brk:12:214 rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 pread64:17:67
pwrite64:18:68 readv:19:65 writev:20:66 access:21: pipe:22: pipe2:293:59 select:23: pselect6:270:72
sched_yield:24:124 mremap:25:216 msync:26:227 mincore:27:232 madvise:28:233 dup:32:23 dup2:33: dup3:292:24
pause:34: nanosleep:35:101 getitimer:36:102 alarm:37: setitimer:38:103 getpid:39:172 sendto:44:206 recvfrom:45:207
sendmsg:46:211 recvmsg:47:212 sendmmsg:307:269 recvmmsg:299:243 shutdown:48:210 socketpair:53:199
getsockname:51:204 getpeername:52:205 setsockopt:54:208 getsockopt:55:209 exit:60:93 wait4:61:260 waitid:247:95
uname:63:160 fcntl:72:25 flock:73:32 fsync:74:82 fdatasync:75:83 truncate:76:45 ftruncate:77:46 getdents64:217:61
getcwd:79:17 chdir:80:49 fchdir:81:50 rename:82: renameat:264:38 renameat2:316:276 mkdir:83: mkdirat:258:34
rmdir:84: link:86: linkat:265:37 unlink:87: unlinkat:263:35 symlink:88: symlinkat:266:36 readlink:89:
readlinkat:267:78 chmod:90: fchmod:91:52 fchmodat:268:53 umask:95:166 gettimeofday:96:169 getrlimit:97:163
getrusage:98:165 sysinfo:99:179 times:100:153 getuid:102:174 getgid:104:176 geteuid:107:175 getegid:108:177
getppid:110:173 getpgrp:111: setsid:112:157 getpgid:121:155 getsid:124:156 setpgid:109:154 getgroups:115:158
getresuid:118:148 getresgid:120:150 rt_sigpending:127:136 rt_sigtimedwait:128:137 rt_sigsuspend:130:133
sigaltstack:131:132 statfs:137:43 fstatfs:138:44 gettid:186:178 time:201: futex:202:98 sched_getaffinity:204:123
sched_getparam:143:121 sched_getscheduler:145:120 sched_get_priority_max:146:125 sched_get_priority_min:147:126
set_tid_address:218:96 restart_syscall:219:128 fadvise64:221:223 timer_create:222:107 timer_settime:223:110
timer_gettime:224:108 timer_getoverrun:225:109 timer_delete:226:111 clock_gettime:228:113 clock_getres:229:114
clock_nanosleep:230:115 exit_group:231:94 epoll_create:213: epoll_create1:291:20 epoll_wait:232:
epoll_pwait:281:22 epoll_ctl:233:21 utimes:235: utimensat:280:88 futimesat:261: openat:257:56 newfstatat:262:79
faccessat:269:48 faccessat2:439:439 ppoll:271:73 set_robust_list:273:99 get_robust_list:274:100 splice:275:76
tee:276:77 sync_file_range:277:84 eventfd:284: eventfd2:290:19 timerfd_create:283:85 timerfd_settime:286:86
timerfd_gettime:287:87 fallocate:285:47 signalfd4:289:74 inotify_init1:294:26 preadv:295:69 pwritev:296:70
getcpu:309:168 getrandom:318:278 membarrier:324:283 copy_file_range:326:285 preadv2:327:286 pwritev2:328:287
statx:332:291 rseq:334:293 arch_prctl:158: close_range:436:436 pidfd_open:434:434 pidfd_send_signal:424:424
sendfile:40:71 setrlimit:160:164 prlimit64:302:261 clone:56:220 clone3:435:435 fork:57: vfork:58: kill:62:129
tkill:200:130 tgkill:234:131 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240 ioctl:16:29 prctl:157:167
get_mempolicy:239:236
"""
_MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}
_CONDITIONAL = ("clone", "clone3", "fcntl", "ioctl", "prctl", "prlimit64", "socketpair")
_PROCESSES = ("fork", "vfork", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_send_signal")
# New names for the supervisor to count; a further name of a file costs nothing, but is not needed either.
_NAMES, _LINKS = ("mkdir", "mkdirat", "symlink", "symlinkat"), ("link", "linkat")
_FLAGS_OF = {"open": 1, "openat": 2}
"""Which argument has the flags."""
_ANY_PID = 0x7E57C0DE  # above every process id, and nothing else in a filter
_O_ACCMODE, _O_CREAT, _O_TRUNC, _O_TMPFILE = 0o3, 0o100, 0o1000, 0o20000000
# What the owner of a file may do to it whatever Landlock says: it guards contents and names, not modes and times, and
# truncation only from its third version on.
_OWNERS = ("chmod", "fchmod", "fchmodat", "utimes", "utimensat", "futimesat", "truncate", "flock")
_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag
_CLONE_THREAD = 0x00010000
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPES = 1, 1, 0xF
# Who gets the signals of a descriptor: a way to send any signal to another process of the same user.
_SIGNAL_OWNER = {"fcntl": (8, 10, 15), "ioctl": (0x8901, 0x8902)}  # F_SETOWN, F_SETSIG, F_SETOWN_EX; FIO-, SIOCSETOWN

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # x86_64's second table of system calls
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data

_LOAD, _EQUAL, _GREATER_EQUAL, _BITS, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERRNO, _NOTIFY = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
_SECCOMP_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_NOTIFICATION, _RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
_CONTINUE = 1

Instruction = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@functools.cache
def numbers() -> dict[str, int]:
    """System call numbers by name on this machine. Raises ``OSError`` for an unknown architecture."""
    if kernel.MACHINE not in _AUDIT_ARCH:
        raise OSError(f"no table of system calls for {kernel.MACHINE}")
    column = 1 + list(_AUDIT_ARCH).index(kernel.MACHINE)
    rows = (row.split(":") for row in _TABLE.split())
    return {row[0]: int(row[column]) for row in rows if row[column]}


def _errno(number: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | number)


def _head() -> list[Instruction]:
    return [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _AUDIT_ARCH[kernel.MACHINE]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
        (_GREATER_EQUAL, 0, 1, _X32),
        _errno(errno.ENOSYS),
    ]


def _when(number: int, then: list[Instruction]) -> list[Instruction]:
    """``then`` has to return; it is skipped for other system calls."""
    return [(_EQUAL, 0, len(then), number), *then]


def _argument(index: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGS + 8 * index)  # the lower half: every argument looked at here is an int


def _one_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """Allow where the argument is one of these, else EPERM."""
    tests = [(_EQUAL, len(values) - position, 0, value) for position, value in enumerate(values)]
    return [_argument(argument), *tests, _errno(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]


def _none_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """EPERM where the argument is one of these, else allow."""
    tests = [(_EQUAL, len(values) - position, 0, value) for position, value in enumerate(values)]
    return [_argument(argument), *tests, (_RETURN, 0, 0, _ALLOW), _errno(errno.EPERM)]


def zygote_filter(*, programs: bool = False, also: dict[str, int] | None = None) -> bytes:
    """The filter that a zygote puts on after its set-up. With ``programs`` a child may become another program;
    ``also`` has the numbers of further calls to allow."""
    number = numbers() | (also or {})
    program = _head()
    program += _when(
        number["clone"], [_argument(0), (_BITS, 0, 1, _NEW_NAMESPACES), _errno(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    )
    program += _when(number["clone3"], [_errno(errno.ENOSYS)])  # its flags lie in memory; libc falls back to clone
    allowed = (kernel.PR_SET_NAME, kernel.PR_GET_NAME, kernel.PR_SET_VMA, kernel.PR_SET_PDEATHSIG)
    program += _when(number["prctl"], _one_of(0, allowed))
    program += _when(number["prlimit64"], _one_of(0, (0,)))
    for name, commands in _SIGNAL_OWNER.items():
        program += _when(number[name], _none_of(1, commands))
    # Streams only: from one end of a pair of datagram sockets any other of the host can be reached by its path, with
    # descriptors in the message, whatever Landlock says.
    streams = [(_LOAD, 0, 0, _ARGS + 8), (_AND, 0, 0, _SOCK_TYPES), (_EQUAL, 1, 0, _SOCK_STREAM), _errno(errno.EPERM)]
    program += _when(number["socketpair"], [*streams, *_one_of(0, (_AF_UNIX,))])
    for name, value in number.items():
        if name not in _CONDITIONAL:
            program += _when(value, [(_RETURN, 0, 0, _ALLOW)])
    if programs:
        program += _when(kernel.number_of("execve"), [(_RETURN, 0, 0, _ALLOW)])
    program += _when(kernel.number_of("seccomp"), [(_RETURN, 0, 0, _ALLOW)])  # a further filter only takes away
    return _assembled([*program, _errno(errno.EPERM)])


def child_filter(pid: int) -> bytes:
    """The filter on top for a child with this process id, where nothing but Landlock keeps it from the host's files.

    Threads but no processes, signals to itself only, no change to a file's mode, times or length by its name. A
    supervisor is asked about each new thread and each new name in the file system.
    """
    return child_filter_of_any().replace(_ANY_PID.to_bytes(4, sys.byteorder), pid.to_bytes(4, sys.byteorder))


@functools.cache
def child_filter_of_any() -> bytes:
    """The same for no process id in particular. Made once, in the zygote: a child only puts its own into it."""
    number = numbers()
    ask = (_RETURN, 0, 0, _NOTIFY)
    program = _alone(_ANY_PID, ask)
    for name, argument in _FLAGS_OF.items():
        if name in number:
            program += _when(number[name], _flags(argument, ask))
    for name in _NAMES:
        if name in number:
            program += _when(number[name], [ask])
    program += _refused((*_OWNERS, *_LINKS))
    return _assembled([*program, (_RETURN, 0, 0, _ALLOW)])


def judge_filter(pid: int, *, own_files: bool) -> tuple[bytes, bytes]:
    """The two filters of a judge: no network, process, or signal to others. ``own_files``: it has no others to see."""
    memory_files = {"memfd_create": _MEMFD_CREATE[kernel.MACHINE]} if kernel.MACHINE in _MEMFD_CREATE else {}
    allow = (_RETURN, 0, 0, _ALLOW)
    program = _alone(pid, allow) + _refused(() if own_files else (*_OWNERS, *_LINKS))
    return zygote_filter(also=memory_files), _assembled([*program, allow])


def _alone(pid: int, thread: Instruction) -> list[Instruction]:
    """No process, signals to itself only; ``thread`` is what a new thread meets."""
    number = numbers()
    program = _head()
    program += _when(number["clone"], [_argument(0), (_BITS, 1, 0, _CLONE_THREAD), _errno(errno.EPERM), thread])
    for name in ("kill", "tgkill"):
        program += _when(number[name], _one_of(0, (pid,)))
    program += _when(number["prctl"], _none_of(0, (kernel.PR_SET_PDEATHSIG,)))
    return program + _refused(_PROCESSES)


def _refused(names: tuple[str, ...]) -> list[Instruction]:
    number = numbers()
    return [step for name in names if name in number for step in _when(number[name], [_errno(errno.EPERM)])]


def _flags(argument: int, ask: Instruction) -> list[Instruction]:
    """What opening a file meets, by its flags."""
    return [
        _argument(argument),
        (_BITS, 0, 1, _O_TMPFILE),  # a file without a name; ``tempfile`` then makes one with a name
        _errno(errno.EOPNOTSUPP),
        (_AND, 0, 0, _O_ACCMODE | _O_TRUNC),
        # Emptying a file that is opened for reading: Landlock sees it from its third version on only (Linux 6.2).
        (_EQUAL, 0, 1, _O_TRUNC),
        _errno(errno.EACCES),
        _argument(argument),
        (_BITS, 0, 1, _O_CREAT),
        ask,
        (_RETURN, 0, 0, _ALLOW),
    ]


def _assembled(program: list[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def install(program: bytes, *, supervised: bool = False) -> int:
    """Put a filter on this process for good. Needs ``no_new_privs``. Raises ``OSError``.

    ``supervised``: returns the descriptor on which a supervisor is asked.
    """
    header = _Program(len(program) // 8, ctypes.cast(ctypes.c_char_p(program), ctypes.c_void_p))
    flags = _NEW_LISTENER if supervised else 0
    return kernel.syscall("seccomp", kernel.number_of("seccomp"), _SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(header))


def answer(listener: int, allowed: Callable[[bool], bool]) -> None:
    """As a supervisor: let the system call that waits on ``listener`` go on, or refuse it.

    ``allowed`` is asked whether there may be one more: thread (``True``) or name of a file (``False``).
    """
    question = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, question)
        number, _pid, _flags, call, *_ = _NOTIFICATION.unpack(question)
        thread = call == numbers()["clone"]
        # The kernel goes on with the call as it stands in the registers, flags included: they can't change meanwhile.
        error, flags = (0, _CONTINUE) if allowed(thread) else (-(errno.EAGAIN if thread else errno.ENOSPC), 0)
        fcntl.ioctl(listener, _SEND, _RESPONSE.pack(number, 0, error, flags))
    except FileNotFoundError:
        pass  # who asked is gone

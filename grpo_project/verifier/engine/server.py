"""The process that owns the workers: queues jobs, keeps each judge busy, replaces what died, retries our faults.

It stands between the trainer and the judges so that no thread and no fork of the trainer takes part: the trainer writes
jobs and reads outcomes. Workers are forked from here, where nothing heavy is loaded. It ends, with everything below it,
when the trainer closes its link or is gone; everything below ends when it is gone, however it went.

Messages with the trainer (pickle; both ends are ours): in ``(number, problem key, problem, program, seed, stuck_s)``,
``(-1, numbers)`` of jobs that nobody waits for, or ``(-2, profiles)`` that jobs after it need; out
``(number, kind, content)`` as the judge's, ``(number, "overran", None)`` when test code did not finish, and once
``(-1, "ready", isolation)`` or ``(-1, "fault", text)``.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import selectors
import shutil
import signal
import socket
import tempfile
import time
from collections import deque
from typing import Any

from grpo_project.verifier.cage import kernel, machine, wire
from grpo_project.verifier.cage.isolation import LANDLOCK, LEVELS, NAMESPACES
from grpo_project.verifier.cage.launch import CageError, LocalLauncher
from grpo_project.verifier.cage.profile import PYTHON
from grpo_project.verifier.engine import keeper
from grpo_project.verifier.engine.worker import Task, Worker, outcome_of

ATTEMPTS = 3
"""How often a job is tried when our own side fails, each time on another worker where there is one."""
_TICK_S = 1.0
_AHEAD_BYTES = 1 << 16
"""A job of this size fits into a worker's link while nobody reads it: writing it ahead never waits."""
_STACK_BYTES = 8 << 20
_SCRATCH = "grpo-verifier-"


class Server:
    """The loop over the trainer's link and the workers' links."""

    def __init__(self, trainer: socket.socket, workers: int, isolation: str, scratch: str | None) -> None:
        self._trainer = trainer
        self._isolation = isolation
        self._scratch = scratch
        self._frames = wire.Frames(1 << 31)
        self._outbox = bytearray()
        self._queue: deque[Task] = deque()
        self._profiles: dict[str, Any] = {}
        self._selector = selectors.DefaultSelector()
        trainer.setblocking(False)
        self._selector.register(trainer, selectors.EVENT_READ)
        self._workers = [self._start_worker(index) for index in range(workers)]
        self._parent = os.getppid()

    def _start_worker(self, index: int) -> Worker:
        worker = Worker(index, self._isolation, self._scratch, self._profiles)
        self._selector.register(worker.link, selectors.EVENT_READ, (self._serve_worker, worker))
        self._selector.register(worker.pidfd, selectors.EVENT_READ, (self._replace, worker))
        return worker

    def run(self) -> None:
        """Until the trainer is gone."""
        while os.getppid() == self._parent:
            for key, events in self._selector.select(_TICK_S):
                if key.data is None:
                    if not self._serve_trainer(events):
                        return
                else:
                    serve, worker = key.data
                    if not worker.ended:  # by an earlier event of this round
                        serve(worker)
            self._end_stuck()
            self._assign()
            self._reap()

    def _serve_trainer(self, events: int) -> bool:
        """Exchange bytes with the trainer; ``False`` when it is gone."""
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ:
            try:
                data = self._trainer.recv(1 << 20)
            except ConnectionResetError:
                return False
            if not data:
                return False
            self._frames.feed(data)
            while (frame := self._frames.next()) is not None:
                self._enqueue(*pickle.loads(frame))
        return True

    def _enqueue(self, number: int, *content: Any) -> None:
        if number == -2:
            self._profiles |= content[0]
            for worker in self._workers:
                worker.tell(content[0])
        elif number < 0:
            cancelled = set(content[0])
            dropped = [task for task in self._queue if task.number in cancelled]
            self._queue = deque(task for task in self._queue if task.number not in cancelled)
            for task in dropped:
                self.send(task.number, "cancelled", None)
        else:
            *job, stuck_s = content
            self._queue.append(Task(number, pickle.dumps((number, *job)), stuck_s))

    def send(self, number: int, kind: str, content: Any) -> None:
        """Send an outcome to the trainer, as soon as it reads."""
        self._outbox += wire.pack(pickle.dumps((number, kind, content)))
        self._flush()

    def _flush(self) -> None:
        try:
            del self._outbox[: self._trainer.send(self._outbox)]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            self._outbox.clear()  # the trainer is gone: its link's end ends the loop
        waiting = selectors.EVENT_WRITE if self._outbox else 0
        self._selector.modify(self._trainer, selectors.EVENT_READ | waiting)

    def _serve_worker(self, worker: Worker) -> None:
        try:
            data = worker.link.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            # The judge has ended; the keeper's end comes next, and tells how.
            self._selector.unregister(worker.link)
            worker.silent = True
            return
        if worker.doomed:
            return
        worker.frames.feed(data)
        try:
            while (frame := worker.frames.next()) is not None:
                self._take_outcome(worker, *outcome_of(frame))
        except (ValueError, wire.TooLong) as error:  # whatever test code has made of it: it is not to be believed
            worker.distrusted = f"a judge's answer makes no sense ({error})"
            worker.kill()

    def _take_outcome(self, worker: Worker, number: int, kind: str, content: Any) -> None:
        if kind == "ready":
            return
        if not worker.tasks or worker.tasks[0].number != number:
            raise ValueError("an outcome that nobody asked for")
        task = worker.done()
        if kind == "fault":
            self._fault(task, worker.index, content)
        elif kind == "out_of_memory" and not task.alone:
            task.alone = True
            self._queue.appendleft(task)
        else:
            self.send(number, kind, content)

    def _replace(self, worker: Worker) -> None:
        """A worker is gone: start another, and settle what it was at."""
        while not worker.silent:
            self._serve_worker(worker)  # what it had sent before
        self._selector.unregister(worker.pidfd)
        code = worker.end()
        self._workers[worker.index] = self._start_worker(worker.index)
        if not worker.tasks:
            return
        task, *waiting = worker.tasks
        self._queue.extendleft(waiting)
        if keeper.signal_of(code) in (signal.SIGALRM, signal.SIGPROF):
            self.send(task.number, "overran", None)
        else:
            self._fault(task, worker.index, worker.distrusted or f"a judge died (exit {code})")

    def _fault(self, task: Task, worker: int, text: str) -> None:
        task.faults.append(text)
        task.avoid = worker
        if len(task.faults) < ATTEMPTS:
            self._queue.appendleft(task)
        else:
            self.send(task.number, "fault", "; ".join(task.faults))

    def _end_stuck(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.tasks and now > worker.deadline:
                worker.kill()

    def _assign(self) -> None:
        """A task for every idle worker; then, as long as many wait, the next one for those that are busy."""
        for ahead in (0, 1):
            for worker in self._workers:
                # The last ones stay here: behind a long one they would wait while other workers are idle.
                many = len(self._queue) > ahead * len(self._workers)
                if many and len(worker.tasks) == ahead and not worker.doomed:
                    self._send_next(worker)

    def _send_next(self, worker: Worker) -> None:
        busy = any(other.tasks for other in self._workers)
        if any(task.alone for other in self._workers for task in other.tasks) or (busy and self._queue[0].alone):
            return
        for position, task in enumerate(self._queue):
            if worker.tasks and (task.alone or len(task.payload) > _AHEAD_BYTES):
                return
            if task.avoid != worker.index or len(self._workers) == 1:
                del self._queue[position]
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    worker.send(task)  # else the judge died while idle; its end comes next, and with it the retry
                return

    def _reap(self) -> None:
        """What a keeper that was killed has left behind becomes a child of this process; it has ended, too."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if any(worker.pid == ended.si_pid for worker in self._workers):
                    return  # its own event settles that
                os.waitpid(ended.si_pid, 0)

    def close(self) -> None:
        for worker in self._workers:
            worker.end()


def strongest(scratch: str | None) -> str:
    """The strongest level that this machine allows. Raises ``CageError`` where it allows none but ``rlimits``."""
    faults = []
    for level in (NAMESPACES, LANDLOCK):
        try:
            check(level, scratch)
        except CageError as error:
            faults.append(f"{level}: {error}")
        else:
            return level
    raise CageError("no isolation to be had here (" + "; ".join(faults) + "); name isolation 'rlimits' to go without")


def check(level: str, scratch: str | None) -> None:
    """Raises ``CageError`` where this machine does not allow the level, for candidates or for judges."""
    launcher = LocalLauncher(level, scratch)
    try:
        control, _ = launcher.start(PYTHON, check=True)
        control.close()
    finally:
        launcher.close()
    worker = Worker(0, level, scratch, {})
    try:
        worker.greeting()
    finally:
        worker.end()


@contextlib.contextmanager
def _scratch_folder() -> Any:
    """Where candidates and judges get folders to write to: in memory where possible, gone with this process.

    What servers that were killed have left is removed by the next one.
    """
    base = next((path for path in ("/dev/shm", tempfile.gettempdir()) if os.access(path, os.W_OK | os.X_OK)), None)
    if base is None:
        yield None
        return
    for name in os.listdir(base):
        owner = name.removeprefix(_SCRATCH).partition("-")[0]
        if name.startswith(_SCRATCH) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            shutil.rmtree(os.path.join(base, name), ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-", dir=base)
    os.chmod(folder, 0o711)  # candidates of another user go through it to their own
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(trainer_fd: int, workers: int, level: int) -> None:
    """``level``: an index into ``isolation.LEVELS``, or -1 for the strongest."""
    trainer = socket.socket(fileno=trainer_fd)
    kernel.set_name("grpo-server")
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    machine.raise_oom_score(machine.OOM_WORKER)
    with contextlib.suppress(OSError):  # refused in some containers: programs that hang on addresses are not repeatable
        kernel.fix_addresses()
    with contextlib.suppress(ValueError, OSError):  # without a limit for the stack, mappings would grow upwards
        resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    with _scratch_folder() as scratch:
        try:
            if level < 0:
                isolation = strongest(scratch)
            else:
                isolation = LEVELS[level]
                check(isolation, scratch)
        except CageError as error:
            wire.send(trainer, pickle.dumps((-1, "fault", str(error))))
            return
        server = Server(trainer, workers, isolation, scratch)
        server.send(-1, "ready", isolation)
        try:
            server.run()
        finally:
            server.close()

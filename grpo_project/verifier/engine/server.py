"""The process that owns the workers: queues jobs, gives each to an idle judge, replaces what died, retries our faults.

It stands between the trainer and the judges so that no thread and no fork of the trainer takes part: the trainer writes
jobs and reads outcomes. Judges are forked from here, where nothing heavy is loaded. It ends, with everything below it,
when the trainer closes its link or is gone.

Messages (pickle; both ends are ours): in ``(number, problem key, problem, program, seed, stuck_s)``, or
``(-1, numbers)`` of jobs that nobody waits for; out ``(number, kind, content)`` as the judge's,
``(number, "overran", None)`` when test code did not finish, and once ``(-1, "ready", isolation)`` or
``(-1, "fault", text)``.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import socket
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from grpo_project.verifier.cage import kernel, wire
from grpo_project.verifier.cage.cage import Cage, CageError
from grpo_project.verifier.cage.isolation import LANDLOCK, LEVELS, NAMESPACES
from grpo_project.verifier.engine import judge

ATTEMPTS = 3
"""How often a job is tried when our own side fails, each time on another worker where there is one."""
_TICK_S = 1.0


@dataclass(slots=True)
class Task:
    """A job on its way. ``stuck_s``: wall seconds after which a worker that still holds it has failed."""

    number: int
    payload: bytes
    stuck_s: float
    faults: list[str] = field(default_factory=list)
    avoid: int | None = None
    """The worker that failed it last."""


class Worker:
    """One judge process, as its parent sees it."""

    def __init__(self, index: int, isolation: str) -> None:
        self.index = index
        self.task: Task | None = None
        self.deadline = 0.0
        self.link, theirs = socket.socketpair()
        self.frames = wire.Frames(1 << 31)
        self.pid = os.fork()
        if self.pid == 0:
            _become_judge(theirs, isolation)
        theirs.close()

    def send(self, task: Task) -> None:
        self.task = task
        self.deadline = time.monotonic() + task.stuck_s
        wire.send(self.link, task.payload)

    def end(self) -> int:
        """End the judge (its zygote ends with its link) and return its wait status."""
        self.link.close()
        os.kill(self.pid, signal.SIGKILL)
        return os.waitpid(self.pid, 0)[1]


def _become_judge(link: socket.socket, isolation: str) -> None:
    try:
        keep = link.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 1 << 20)  # the other workers' links: their ends must show
        judge.serve(link, isolation)
    except BaseException:  # noqa: BLE001 - a mistake of ours: seen as a death, told on standard error, and retried
        traceback.print_exc()
        os._exit(1)
    finally:
        os._exit(0)


class Server:
    """The loop over the trainer's link and the workers' links."""

    def __init__(self, trainer: socket.socket, workers: int, isolation: str) -> None:
        self._trainer = trainer
        self._isolation = isolation
        self._frames = wire.Frames(1 << 31)
        self._outbox = bytearray()
        self._queue: deque[Task] = deque()
        self._selector = selectors.DefaultSelector()
        trainer.setblocking(False)
        self._selector.register(trainer, selectors.EVENT_READ)
        self._workers = [self._start_worker(index) for index in range(workers)]
        self._parent = os.getppid()

    def _start_worker(self, index: int) -> Worker:
        worker = Worker(index, self._isolation)
        self._selector.register(worker.link, selectors.EVENT_READ, worker)
        return worker

    def run(self) -> None:
        """Until the trainer is gone."""
        while os.getppid() == self._parent:
            for key, events in self._selector.select(_TICK_S):
                if key.data is not None:
                    self._serve_worker(key.data)
                elif not self._serve_trainer(events):
                    return
            self._end_stuck()
            self._assign()

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
        if number < 0:
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
            self._replace(worker)
            return
        worker.frames.feed(data)
        frame = worker.frames.next()
        if frame is None:
            return
        number, kind, content = pickle.loads(frame)
        task, worker.task = worker.task, None
        assert task is not None and task.number == number
        if kind == "fault":
            self._fault(task, worker.index, content)
        else:
            self.send(number, kind, content)

    def _replace(self, worker: Worker) -> None:
        """A judge is gone: start another, and settle what it was at."""
        self._selector.unregister(worker.link)
        task = worker.task
        code = os.waitstatus_to_exitcode(worker.end())
        self._workers[worker.index] = self._start_worker(worker.index)
        if task is None:
            return
        if code == -signal.SIGALRM:
            self.send(task.number, "overran", None)
        else:
            self._fault(task, worker.index, f"a judge died (exit {code})")

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
            if worker.task is not None and now > worker.deadline:
                os.kill(worker.pid, signal.SIGKILL)  # its link's end comes next

    def _assign(self) -> None:
        for worker in self._workers:
            if worker.task is None and self._queue:
                self._give_next(worker)

    def _give_next(self, worker: Worker) -> None:
        for position, task in enumerate(self._queue):
            if task.avoid != worker.index or len(self._workers) == 1:
                del self._queue[position]
                try:
                    worker.send(task)
                except (BrokenPipeError, ConnectionResetError):
                    return  # the judge died while idle; its link's end comes next, and with it the retry
                return

    def close(self) -> None:
        for worker in self._workers:
            worker.end()


def strongest() -> str:
    """The strongest level that this machine allows. Raises ``CageError`` where it allows none but ``rlimits``."""
    faults = []
    for level in (NAMESPACES, LANDLOCK):
        try:
            check(level)
        except CageError as error:
            faults.append(f"{level}: {error}")
        else:
            return level
    raise CageError("no isolation to be had here (" + "; ".join(faults) + "); name isolation 'rlimits' to go without")


def check(level: str) -> None:
    """Raises ``CageError`` where this machine does not allow the level."""
    cage = Cage(level)
    try:
        cage.start()
    finally:
        cage.close()


def main(trainer_fd: int, workers: int, level: int) -> None:
    """``level``: an index into ``isolation.LEVELS``, or -1 for the strongest."""
    trainer = socket.socket(fileno=trainer_fd)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    try:
        if level < 0:
            isolation = strongest()
        else:
            isolation = LEVELS[level]
            check(isolation)
    except CageError as error:
        wire.send(trainer, pickle.dumps((-1, "fault", str(error))))
        return
    server = Server(trainer, workers, isolation)
    server.send(-1, "ready", isolation)
    try:
        server.run()
    finally:
        server.close()

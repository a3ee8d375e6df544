"""Which of several processes is gone: each says in the group's own store that it lives, and listens to the others.

A process that dies leaves the others with a traceback of gloo's, or waiting in NCCL for half an hour. A thread of each
writes a heartbeat; a peer that has been silent for ``SILENT_S``, or whose process is gone from this very machine, is
named in one line, and this process ends with a code that a queue requeues. A thread beats on while training waits, so
silence means death, or a machine that is out of reach. Native code that keeps Python's global lock for as long looks
the same.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

from grpo_project.errors import PeerGoneError
from grpo_project.training.stop_request import EXIT_STOPPED

BEAT_S = 2.0
SILENT_S = 40.0
ASK_S = timedelta(seconds=5)


class Peers:
    """The heartbeats of one process group, as a context manager; nothing at all for a single process.

    Args:
        rank, ranks: of this process, and how many there are.
        store: the process group's (``torch.distributed.Store``), or another one that all ranks reach.
    """

    def __init__(self, rank: int, ranks: int, store: Any) -> None:
        self._rank, self._ranks, self._store = rank, ranks, store
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="peers", daemon=True)
        self._heard: dict[int, tuple[str, float]] = {}
        self.gone: str | None = None
        """The line that names the peer that is gone."""

    def __enter__(self) -> Peers:
        if self._ranks > 1:
            self._say("beat 0")  # a peer that dies within the first beat is to be known, too
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Where a collective has failed, say who is gone, in place of its traceback.

        Raises:
            InfrastructureError: a peer is gone; the message names it.
        """
        lost = self._ranks > 1 and isinstance(error, RuntimeError) and is_of_a_collective(error)
        if lost:  # the heartbeats will show who it is, or that all are there and the error is another
            self._thread.join(timeout=SILENT_S + 2 * BEAT_S)
        if self._ranks > 1 and error is None:
            self._say("left")
        self._over.set()
        if lost and self.gone is not None:
            raise PeerGoneError(f"{self.gone}; {GOES_ON}") from error

    def _say(self, state: str) -> None:
        me = {"host": socket.gethostname(), "pid": os.getpid(), "state": state}
        with suppress(RuntimeError):
            self._store.set(f"peer/{self._rank}", json.dumps(me))

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(BEAT_S):
            count += 1
            try:
                self._say(f"beat {count}")
                self.gone = self.gone or self._who_is_gone()
            except RuntimeError as error:  # the store itself: torchrun's agent, or rank 0
                self.gone = f"the processes' common store is gone (rank 0 or torchrun): {str(error).splitlines()[0]}"
            if self.gone is not None:
                threading.Thread(target=self._end, daemon=True).start()
                return

    def _who_is_gone(self) -> str | None:
        for rank in range(self._ranks):
            if rank == self._rank or not self._store.check([f"peer/{rank}"]):
                continue
            text = self._store.get(f"peer/{rank}").decode()
            said = json.loads(text)
            now = time.monotonic()
            before, since = self._heard.get(rank, ("", now))
            if text != before:
                self._heard[rank] = (text, since := now)
            here = said["host"] == socket.gethostname()
            if said["state"] != "left" and (now - since > SILENT_S or (here and not is_alive(said["pid"]))):
                return f"rank {rank} (process {said['pid']} on {said['host']}) is gone"
        return None

    def _end(self) -> None:
        """Give the training thread a moment to end by itself, with the record closed; then end without it."""
        if not self._over.wait(2 * BEAT_S):
            os.write(2, f"\ngrpo train: {self.gone}; {GOES_ON}\n".encode())
            os._exit(EXIT_STOPPED)


GOES_ON = "this rank ends too; the last checkpoint stands, the same command goes on"


def is_of_a_collective(error: RuntimeError) -> bool:
    """Whether this is what gloo or NCCL say when the other end is gone."""
    return any(word in str(error).lower() for word in ("gloo", "nccl", "connection", "socket", "tcpstore"))


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def group_store() -> Any:
    """A connection of its own to the process group's store, so that a thread may use it while another waits in one."""
    from torch.distributed import PrefixStore
    from torch.distributed.distributed_c10d import _get_default_store

    store: Any = _get_default_store().clone()  # type: ignore[attr-defined]
    store.set_timeout(ASK_S)
    return PrefixStore("grpo/peers", store)

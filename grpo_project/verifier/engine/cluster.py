"""Verification on a Ray cluster: an engine like ``engine.Engine`` whose workers are nodes.

One actor a node hosts our own engine. Jobs wait here in one queue and go out in batches to whichever node has room, so
a slow node gets fewer. A problem travels once a node. A job whose node is lost goes to another; an outcome counts once,
by its job's number, whoever sends it. A verdict depends on the program, the tests and the run's secret, so it is the
same wherever it is made.

No thread of its own: whoever submits or waits for an outcome moves everything on.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from grpo_project import __version__
from grpo_project.errors import ConfigError, SandboxError
from grpo_project.verifier.cage.isolation import LEVELS
from grpo_project.verifier.engine.engine import Outcome
from grpo_project.verifier.engine.node import Node
from grpo_project.verifier.languages import Spec

logger = logging.getLogger("grpo_project")

LOCAL = "ray"
"""The address that joins a cluster on this machine, or starts one."""
BATCHES_AHEAD = 2
LARGEST_BATCH = 64
OVERHEAD = 0.05
"""Share of a batch's time that its round trip may take."""
LOSSES = 6
"""Nodes that may be lost under a job; after two it travels alone, so that it takes no others with it."""
LOOK_S = 2.0
"""How often nodes that have joined are looked for."""
ALL_NODES_S = 30.0
"""How long a start waits for nodes that are there and not ready yet, once one is."""
NO_NODE_S = 300.0
"""How long there may be no node before the engine gives up."""


@dataclass(slots=True)
class _Job:
    spec: Spec
    program: str
    seed: bytes
    losses: int = 0


@dataclass(slots=True)
class _Member:
    """A node: its actor, what it said of itself, the problems that it has, and its batches under way."""

    name: str
    actor: Any
    workers: int
    greeting: Any = None
    isolation: str = ""
    known: set[bytes] = field(default_factory=set)
    batches: int = 0


@dataclass(slots=True)
class _Batch:
    member: _Member
    numbers: list[int]
    deadline: float


class ClusterEngine:
    """The nodes of a cluster and the jobs that they have. For any number of threads.

    Args:
        address: ``ray``, ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
        cpus_per_node: workers on each node; ``None`` takes all of its cores.
        isolation: asked of each node; one that does not allow it is left out.
        no_node_s: how long to wait while there is no node.

    Raises:
        ConfigError: Ray is not installed or not there, or no node may be used.
        SandboxError: no node came within ``no_node_s``.
    """

    def __init__(
        self, address: str, cpus_per_node: int | None, isolation: str | None, no_node_s: float = NO_NODE_S
    ) -> None:
        self._ray = connected(address)
        self._cpus, self._asked, self._no_node_s = cpus_per_node, isolation, no_node_s
        self._owner = os.getpid()
        self._changed = threading.Condition(threading.RLock())  # cancel() may be called by the garbage collector
        self._members: dict[str, _Member] = {}
        self._refused: dict[str, str] = {}
        self._jobs: dict[int, _Job] = {}
        self._queue: deque[int] = deque()
        self._under_way: dict[Any, _Batch] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._reader_active = False
        self._next = 0
        self._looked = -math.inf
        self._alone_since: float | None = None
        self._job_s = 0.02
        self._round_trip_s = 0.001
        self.lost_nodes = 0
        self.usable = True
        self._first_node()

    @property
    def here(self) -> bool:
        """Whether this process made it, rather than a parent that forked it."""
        return self._owner == os.getpid()

    @property
    def isolation(self) -> str:
        """The weakest level of the nodes at hand."""
        levels = [member.isolation for member in self._members.values() if member.isolation]
        return max(levels, key=LEVELS.index, default=LEVELS[0])

    @property
    def nodes(self) -> dict[str, str]:
        """Isolation level in force by node, or why a node is left out."""
        found = {member.name: member.isolation or "starting" for member in self._members.values()}
        return found | {name: f"refused: {reason}" for name, reason in self._refused.items()}

    @property
    def workers(self) -> int:
        return sum(member.workers for member in self._members.values() if member.isolation)

    def submit(self, spec: Spec, program: str, seed: bytes) -> int:
        """Queue a job and return its number. Raises ``SandboxError`` when the engine has given up."""
        with self._changed:
            self._require_usable()
            self._next += 1
            self._jobs[self._next] = _Job(spec, program, seed)
            self._queue.append(self._next)
            if not self._reader_active:
                self._move_on(0.0)
            return self._next

    def cancel(self, numbers: Collection[int]) -> None:
        """Nobody waits for these jobs any more."""
        with self._changed:
            for number in numbers:
                self._jobs.pop(number, None)
                self._outcomes.pop(number, None)

    def take(self, numbers: Collection[int]) -> tuple[int, Outcome]:
        """Wait for any of these jobs and take its outcome. Raises ``SandboxError`` when the engine has given up."""
        while True:
            with self._changed:
                for number in numbers:
                    if number in self._outcomes:
                        return number, self._outcomes.pop(number)
                self._require_usable()
                if self._reader_active:
                    self._changed.wait(0.5)
                    continue
                self._reader_active = True
            try:
                self._move_on(0.2)
            finally:
                with self._changed:
                    self._reader_active = False
                    self._changed.notify_all()

    def close(self) -> None:
        """Let go of the nodes; the cluster stays as it is, unless it was started here."""
        self.usable = False
        if self.here and self._ray.is_initialized():
            for member in self._members.values():
                self._ray.kill(member.actor)
        self._members.clear()

    def _require_usable(self) -> None:
        if not self.usable:
            raise SandboxError(f"the cluster has had no node to verify on for {self._no_node_s:g} s")

    def _move_on(self, timeout_s: float) -> None:
        """Take in what is done, look after the nodes, hand out what waits."""
        references = list(self._under_way)
        done = self._ray.wait(references, timeout=timeout_s)[0] if references else []
        if not references and timeout_s and not self._ready():
            time.sleep(timeout_s)  # for a node to come
        with self._changed:
            for reference in done:
                self._collect(reference)
            now = time.monotonic()
            for batch in list(self._under_way.values()):
                if now > batch.deadline:
                    self._lose(batch.member, "it gave no answer in time")
            if now - self._looked > LOOK_S or not self._ready():
                self._look_for_nodes(now)
            for member in sorted(self._ready(), key=lambda member: member.batches / member.workers):
                while member.batches < BATCHES_AHEAD and (numbers := self._next_batch(member)):
                    self._send(member, numbers)

    def _next_batch(self, member: _Member) -> list[int]:
        """As many jobs as make the round trip cheap, and no more than keep each of its workers busy for a while."""
        size = math.ceil(self._round_trip_s / OVERHEAD / self._job_s)
        size = max(member.workers, min(LARGEST_BATCH, size * member.workers))
        # The last jobs are shared out evenly: no node waits for another's batch.
        size = max(1, min(size, math.ceil(len(self._queue) / max(1, len(self._members)))))
        found: list[int] = []
        while self._queue and len(found) < size:
            number = self._queue[0]
            if number in self._jobs and self._jobs[number].losses > 1 and found:
                break
            self._queue.popleft()
            if number in self._jobs:
                found.append(number)
                if self._jobs[number].losses > 1:
                    break
        return found

    def _send(self, member: _Member, numbers: list[int]) -> None:
        jobs = [self._jobs[number] for number in numbers]
        fresh = {job.spec.key: job.spec for job in jobs if job.spec.key not in member.known}
        member.known |= fresh.keys()
        tasks = [(number, job.spec.key, job.program, job.seed) for number, job in zip(numbers, jobs, strict=True)]
        rounds = math.ceil(len(jobs) / member.workers) + 1
        limit_s = 60.0 + rounds * 3 * max(job.spec.stuck_s for job in jobs)  # the node's own engine is far quicker
        reference = member.actor.run.remote(tasks, fresh)
        member.batches += 1
        self._under_way[reference] = _Batch(member, numbers, time.monotonic() + limit_s)

    def _collect(self, reference: Any) -> None:
        batch = self._under_way.pop(reference, None)
        if batch is None:
            return  # of a node that was given up
        batch.member.batches -= 1
        try:
            outcomes = self._ray.get(reference)
        except Exception as error:  # noqa: BLE001 - whatever ended it there: the node is not to be relied on
            self._give_back(batch)
            self._lose(batch.member, str(error).strip().split("\n")[0])
            return
        for number, kind, content in outcomes:
            if self._jobs.pop(number, None) is not None:
                self._outcomes[number] = (kind, content)
                if kind == "judged":
                    self._job_s += 0.02 * (max(1e-4, content[2]) - self._job_s)

    def _give_back(self, batch: _Batch) -> None:
        """The jobs of a lost batch go to the front of the queue; one that is lost time and again is a fault of ours."""
        for number in reversed(batch.numbers):
            if (job := self._jobs.get(number)) is None:
                continue
            job.losses += 1
            if job.losses < LOSSES:
                self._queue.appendleft(number)
            else:
                del self._jobs[number]
                self._outcomes[number] = ("fault", f"{LOSSES} nodes were lost under it")

    def _lose(self, member: _Member, reason: str) -> None:
        if self._members.pop(member.name, None) is None:
            return
        self.lost_nodes += 1
        logger.warning("verification: node %s is lost (%.200s); its jobs go to others", member.name, reason)
        for reference, batch in list(self._under_way.items()):
            if batch.member is member:
                del self._under_way[reference]
                self._give_back(batch)
        self._ray.kill(member.actor)

    def _ready(self) -> list[_Member]:
        return [member for member in self._members.values() if member.isolation]

    def _look_for_nodes(self, now: float) -> None:
        """Greet nodes that have joined, take in the answers of those that were greeted."""
        self._looked = now
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for name, node in alive.items():
            cores = int(node["Resources"].get("CPU", 0))
            if name not in self._members and name not in self._refused and cores:
                self._members[name] = self._greeted(name, min(cores, self._cpus or cores))
        for member in list(self._members.values()):
            if member.name not in alive:
                self._lose(member, "it has left the cluster")
            elif not member.isolation and self._ray.wait([member.greeting], timeout=0)[0]:
                self._admit(member)
        if self._ready():
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
            if self._next:
                logger.warning("verification: the cluster has no node; waiting up to %g s for one", self._no_node_s)
        elif now - self._alone_since > self._no_node_s:
            self.usable = False

    def _greeted(self, name: str, workers: int) -> _Member:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = (
            self._ray.remote(Node)
            .options(
                num_cpus=workers,
                max_concurrency=BATCHES_AHEAD + 1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False),
            )
            .remote(workers, self._asked)
        )
        return _Member(name, actor, workers, actor.about.remote())

    def _admit(self, member: _Member) -> None:
        try:
            about = self._ray.get(member.greeting)
        except Exception as error:  # noqa: BLE001 - whatever ended it there: the node is not to be relied on
            self._lose(member, str(error).strip().split("\n")[0])
            return
        reason = about.get("refused")
        if about["version"] != __version__:
            reason = f"it has version {about['version']} of this package, not {__version__}"
        if reason is not None:
            self._refused[member.name] = reason
            del self._members[member.name]
            self._ray.kill(member.actor)
            logger.warning("verification: node %s is left out: %s", member.name, reason)
            return
        member.isolation = about["isolation"]
        started = time.perf_counter()
        self._ray.get([member.actor.nothing.remote() for _ in range(10)])
        self._round_trip_s = (time.perf_counter() - started) / 10

    def _first_node(self) -> None:
        """Wait for one node, and a while for all that are there: the run records the isolation of each."""
        limit = time.monotonic() + ALL_NODES_S
        while not self._ready() or (len(self._ready()) < len(self._members) and time.monotonic() < limit):
            self._look_for_nodes(time.monotonic())
            if self._refused and not self._members:
                raise ConfigError(
                    f"verifier isolation: no node of the cluster may be used: {'; '.join(self._refused.values())}"
                )
            self._require_usable()
            time.sleep(0.05)


def connected(address: str) -> Any:
    """Ray, connected. Raises ``ConfigError``."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--verifier_address needs Ray: pip install 'grpo-project[ray]'") from error
    if ray.is_initialized():
        return ray
    require_listening(address)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address="auto" if address == LOCAL else address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address != LOCAL:
            raise nobody_at(address, error) from error
        ray.init(include_dashboard=False, **quiet)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(
                signal.SIGTERM, on_term
            )  # Ray puts its own in (ray/_private/worker.py): a stop signal is ours
    return ray


def require_listening(address: str) -> None:
    """Ray tries for minutes to reach an address where nobody listens. Raises ``ConfigError``."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in (LOCAL, "auto"):
        return
    if not host or not port.isdigit():
        raise ConfigError(f"--verifier_address {address}: write ray, auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise nobody_at(address, error) from error


def nobody_at(address: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:200]
    return ConfigError(f"--verifier_address {address}: no Ray cluster answers there ({reason})")

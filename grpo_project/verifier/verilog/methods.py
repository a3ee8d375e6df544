"""Three ways to judge a design, each made once for a problem and held against one design after the other.

``Replay``  the design alone, driven by recorded (or drawn) stimuli; its outputs are compared outside of the cage.
``Player``  the design alone, then its outputs played into the untouched bench, which gives its own verdict.
``Nonce``   the design in the bench, under names and marks that it can't know, for benches that react to it at once.

In the first two no expected value, and no word of the bench, shares a simulation with the design: there is nothing to
read and nothing to forge. The third hangs on the check of the design's text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grpo_project.problems.verilog_text import modules_in, renamed, tokens
from grpo_project.verifier.cage.limits import Limits
from grpo_project.verifier.room import Result
from grpo_project.verifier.verilog import benches
from grpo_project.verifier.verilog.dialects import Report, read_report
from grpo_project.verifier.verilog.simulator import Failed, Simulator
from grpo_project.verifier.verilog.stimuli import Interface, Stimuli, Trace, parse_trace, stimuli_of, without_repeats

Test = tuple[str, str]
"""Kind and name: ("output", "q"), ("samples", "3"), ("case", "3")."""
_ROUNDS = 6
"""How often a design is run again for a bench that reacts to it."""
_PRINTING = re.compile(r"\$(display|write|strobe|monitor)[boh]?\Z")


@dataclass(slots=True)
class Bench:
    """A preprocessed bench and what was found out about it."""

    text: str
    interface: Interface
    roots: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict)


def nonce() -> str:
    return "n" + secrets.token_hex(8)


class Replay:
    """Golden outputs at each sample; x and z in them mean that any value is right."""

    name = "replay"

    def __init__(self, interface: Interface, stimuli: Stimuli, golden: Sequence[str], tests: Sequence[Test]) -> None:
        self.interface = interface
        self.stimuli = stimuli
        self.golden = list(golden)
        self.tests = tests
        self._memory = {benches.STIMULI_FILE: stimuli.memory()}
        self._golden_text = "".join(f"{line}\n" for line in golden)

    def run(self, simulator: Simulator, design: str, limits: Limits) -> tuple[list[str], float]:
        """The design's outputs at each sample. Raises ``Failed``."""
        mark = nonce()
        text = benches.alone(self.interface, self.stimuli, mark, traced=False) + "`resetall\n" + design
        run = simulator.simulate(text, [f"b{mark}"], limits, self._memory)
        lines, cpu_s = _lines(run.output, mark, run.cpu_s), run.cpu_s
        if len(lines) != len(self.stimuli.sampled):
            raise Failed("error", _disturbed(lines, len(self.stimuli.sampled)), cpu_s)
        return lines, cpu_s

    def judge(self, simulator: Simulator, design: str, limits: Limits) -> tuple[list[Result], float]:
        lines, cpu_s = self.run(simulator, design, limits)
        wrong = [] if "".join(f"{line}\n" for line in lines) == self._golden_text else self._wrong(lines, cpu_s)
        return [self._row(test, wrong) for test in self.tests], cpu_s

    def _wrong(self, lines: list[str], cpu_s: float) -> list[tuple[int, str, str, str]]:
        """(sample, output, expected, got) wherever they differ."""
        names = [port.name for port in self.interface.outputs]
        found = []
        for number, (line, golden) in enumerate(zip(lines, self.golden, strict=True)):
            if line == golden:
                continue
            got, expected = line.split(" "), golden.split(" ")
            if [len(bits) for bits in got] != [len(bits) for bits in expected]:
                raise Failed("error", "the simulation's output is not what the bench prints", cpu_s)
            for name, wanted, bits in zip(names, expected, got, strict=True):
                if wanted != bits and any(a != b and a not in "xz" for a, b in zip(wanted, bits, strict=True)):
                    found.append((number, name, wanted, bits))
        return found

    def _row(self, test: Test, wrong: list[tuple[int, str, str, str]]) -> Result:
        kind, name = test
        samples = len(self.golden)
        if kind == "output":
            mine = [item for item in wrong if item[1] == name]
            what = f"output {name}"
        else:
            groups = sum(kind == "samples" for kind, _ in self.tests)
            first, last = (int(name) - 1) * samples // groups, int(name) * samples // groups
            mine = [item for item in wrong if first <= item[0] < last]
            samples, what = last - first, f"samples {first + 1} to {last}"
        if not mine:
            return Result("passed", input=what)
        number, output, expected, got = mine[0]
        time, bits = self.stimuli.sampled[number]
        count = len({item[0] for item in mine})
        message = f"{what}: {count} of {samples} samples differ, first at time {time}"
        return Result("failed", message, named_bits(self.interface, bits), f"{output}={expected}", f"{output}={got}")


def _lines(output: str, mark: str, cpu_s: float) -> list[str]:
    """What the generated bench printed before its last line. Raises ``Failed`` where that line did not come."""
    lines = output.split("\n")
    if len(lines) < 2 or lines[-1] != "" or not lines[-2].startswith(f"@{mark} E "):
        raise Failed("error", "the simulation ended before its bench did" + _told(output), cpu_s)
    return lines[:-2]


def _told(output: str) -> str:
    last = next((line for line in reversed(output.splitlines()) if line.strip("01xz ")), "")
    return f" ({last.strip()[:200]})" if last else ""


def _disturbed(lines: list[str], expected: int) -> str:
    return f"{len(lines)} lines were printed where the bench prints {expected}{_told(chr(10).join(lines))}"


def named_bits(interface: Interface, bits: str) -> str:
    """``a=0101 b=1`` of the inputs side by side."""
    parts, position = [], 0
    for port in interface.inputs:
        parts.append(f"{port.name}={bits[position : position + port.width]}")
        position += port.width
    return " ".join(parts)


class Player:
    """Runs the design by itself, plays its outputs into the bench, and again where the bench reacted to them."""

    name = "player"

    def __init__(
        self, bench: Bench, stimuli: Stimuli, trace: Trace, merged: bool, tests: Sequence[Test], report: Report
    ):
        self.bench = bench
        self.stimuli = stimuli
        self.trace = trace
        self.merged = merged
        self.tests = tests
        self.report = report
        """What the bench said about its reference."""

    def judge(self, simulator: Simulator, design: str, limits: Limits) -> tuple[list[Result], float]:
        report, cpu_s = self.play(simulator, design, limits)
        return rows_of(report, self.report, self.tests), cpu_s

    def play(self, simulator: Simulator, design: str, limits: Limits) -> tuple[Report | None, float]:
        """What the bench says about the design. Raises ``Failed``."""
        cpu_s, stimuli, trace = 0.0, self.stimuli, self.trace
        for _ in range(_ROUNDS):
            outputs, used_s = run_traced(simulator, self.bench.interface, stimuli, design, limits)
            cpu_s += used_s
            output, played, used_s = self._into_bench(simulator, outputs, limits, cpu_s)
            cpu_s += used_s
            assert played.end is not None and trace.end is not None
            same = played.inputs_until(played.end) == trace.inputs_until(played.end)
            if played.end <= trace.end and same:
                return read_report(output), cpu_s
            trace, stimuli = played, stimuli_of(played, merged_steps(played) if self.merged else ())
        raise Failed("failed", f"the bench reacted to the design anew in each of {_ROUNDS} rounds", cpu_s)

    def _into_bench(
        self, simulator: Simulator, outputs: list[tuple[int, str]], limits: Limits, cpu_s: float
    ) -> tuple[str, Trace, float]:
        mark = nonce()
        module, memory = benches.player(self.bench.interface, outputs, mark)
        files = {**self.bench.files, benches.PLAYED_FILE: memory}
        try:
            run = simulator.simulate(self.bench.text + "\n" + module, self.bench.roots, limits, files)
        except Failed as failed:
            failed.cpu_s += cpu_s
            raise
        played, rest = parse_trace(run.output, mark)
        if played.end is None:
            raise Failed("failed", "the bench did not come to its end", cpu_s + run.cpu_s)
        return rest, played, run.cpu_s


def merged_steps(trace: Trace) -> range:
    """Every time step, as a container."""
    return range((trace.changes[-1][0] if trace.changes else 0) + 1)


def run_traced(
    simulator: Simulator, interface: Interface, stimuli: Stimuli, design: str, limits: Limits
) -> tuple[list[tuple[int, str]], float]:
    """The outputs of a design alone, at the end of each time step that changed them. Raises ``Failed``."""
    mark = nonce()
    text = benches.alone(interface, stimuli, mark, traced=True) + "`resetall\n" + design
    run = simulator.simulate(text, [f"b{mark}"], limits, {benches.STIMULI_FILE: stimuli.memory()})
    last: dict[int, str] = {}
    widths = [port.width for port in interface.outputs]
    for line in _lines(run.output, mark, run.cpu_s):
        time, *bits = line.split(" ")
        if not time.isdecimal() or [len(b) for b in bits] != widths or set().union(*bits) - set("01xz"):
            raise Failed("error", f"a line was printed that is not the bench's: {line[:100]!r}", run.cpu_s)
        last[int(time)] = "".join(bits)
    return without_repeats(sorted(last.items())), run.cpu_s


class Nonce:
    """The published bench, its modules renamed and everything it prints between marks."""

    name = "nonce bench"  # every design that comes here passed the check of its preprocessed text

    def __init__(self, bench: Bench, tests: Sequence[Test], report: Report | None) -> None:
        self.bench = bench
        self.tests = tests
        self.report = report

    def judge(self, simulator: Simulator, design: str, limits: Limits) -> tuple[list[Result], float]:
        report, cpu_s = self.simulate(simulator, design, limits)
        if self.report is None:
            return rows_of(report, report or Report("cases", ()), self.tests), cpu_s
        return rows_of(report, self.report, self.tests), cpu_s

    def simulate(self, simulator: Simulator, design: str, limits: Limits) -> tuple[Report | None, float]:
        mark = nonce()
        names = {name: f"{name}_{mark}" for name in modules_in(self.bench.text)}
        text = marked(renamed(self.bench.text, names), mark) + "\n`resetall\n" + design
        roots = [names.get(root, root) for root in self.bench.roots]
        run = simulator.simulate(text, roots, limits, self.bench.files)
        return read_report(unmarked(run.output, mark)), run.cpu_s


def marked(bench: str, mark: str) -> str:
    """The bench with a mark before and after everything that it prints."""
    parts: list[str] = []
    depth, task, pending = 0, "", False
    for kind, word in tokens(bench):
        if kind == "system" and not depth and (match := _PRINTING.match(word)):
            task, pending = match[1], True
        elif pending and word == "(":
            pending, depth = False, 1
            parts.append(f'("@{mark}<", ')
            continue
        elif pending and word == ";":
            pending = False
            parts.append(f'("@{mark}<@{mark}{"|" if task == "write" else "="}")')
        elif depth and kind == "sign" and word in "()":
            depth += 1 if word == "(" else -1
            if depth == 0:
                parts.append(f', "@{mark}{"|" if task == "write" else "="}"')
        parts.append(word)
    return "".join(parts)


def unmarked(output: str, mark: str) -> str:
    """Only what stands between marks; a task other than ``$write`` ends its line."""
    found = re.findall(rf"@{mark}<(.*?)@{mark}([|=])", output, re.DOTALL)
    return "".join(text + ("\n" if end == "=" else "") for text, end in found)


def rows_of(report: Report | None, reference: Report, tests: Sequence[Test]) -> list[Result]:
    """A row for each test, from what a bench said about a design and about its reference."""
    if report is None:
        return [Result("failed", "the bench gave no verdict") for _ in tests]
    if report.dialect != reference.dialect:
        return [Result("failed", "the bench spoke otherwise than for its reference") for _ in tests]
    if report.dialect == "mismatches":
        return [_hinted(test, report, reference) for test in tests]
    rows = []
    count = len(reference.passed)
    for position, (_, name) in enumerate(tests):
        told = position < len(report.passed) and len(report.passed) <= count
        message = report.messages[position] if position < len(report.messages) else ""
        if told and report.passed[position]:
            rows.append(Result("passed", input=f"test case {name}"))
        else:
            text = f"test case {name}: {message or 'failed'}" if told else f"test case {name}: the bench did not tell"
            rows.append(Result("failed", text, input=f"test case {name}"))
    return rows


def _hinted(test: Test, report: Report, reference: Report) -> Result:
    wrong = dict(report.hints).get(test[1], 0) if test[0] == "output" else int(not report.solved)
    samples = [message.rsplit(" in ", 1)[-1] for message in (*report.messages, *reference.messages)]
    if len(set(samples)) > 1:
        return Result("failed", f"{samples[0]}, where the reference had {samples[1]}")
    if wrong or (not report.hints and not report.solved):
        return Result("failed", f"output {test[1]}: {wrong} mismatches", input=f"output {test[1]}")
    return Result("passed", input=f"output {test[1]}")

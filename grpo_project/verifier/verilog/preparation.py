"""A problem's bench and reference, looked at once: which way of judging works, and what is odd about the problem.

In this order: replay, player, nonce bench. The reference is held through the chosen way, so that a problem whose own
solution does not pass is found before a model is trained on it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from grpo_project.problems.verilog_text import instantiated_in, modules_in, renamed
from grpo_project.verifier.cage.limits import Limits
from grpo_project.verifier.room import Unusable
from grpo_project.verifier.verilog import benches, words
from grpo_project.verifier.verilog.dialects import Report, read_report
from grpo_project.verifier.verilog.methods import (
    Bench,
    Nonce,
    Player,
    Replay,
    Test,
    merged_steps,
    nonce,
    run_traced,
)
from grpo_project.verifier.verilog.simulator import Failed, Run, Simulator, for_preparation
from grpo_project.verifier.verilog.stimuli import (
    Interface,
    Port,
    Trace,
    mergeable,
    parse_trace,
    random_stimuli,
    stimuli_of,
)

Method = Replay | Player | Nonce
_SAMPLED = re.compile(r"\bstats1\.clocks\s*\+\+\s*;")
"""Where VerilogEval's benches compare."""
_FITS = 60
_CPU_FACTOR, _CPU_LEAST_S = 20.0, 1.0
"""A design gets so many times the reference's CPU time: an endless one is ended soon, a slow one is not."""


@dataclass(slots=True)
class Prepared:
    """How one problem's designs are judged."""

    method: Method
    limits: Limits
    remarks: list[str] = field(default_factory=list)
    """What is odd about the problem, for ``grpo verify``."""


@dataclass(slots=True)
class Sources:
    """A problem's texts, preprocessed."""

    module: str
    tests: Sequence[Test]
    reference: str | None
    testbench: str | None
    files: dict[str, str]
    clock: str | None = None
    reset: str | None = None
    reset_low: bool = False
    samples: int = 1000


def prepare(simulator: Simulator, spec: dict[str, Any], limits: Limits) -> Prepared:
    """Raises ``Unusable`` where no way works, or the reference does not pass."""
    try:
        return _Preparation(simulator, _sources(simulator, spec, limits), limits).prepared()
    except Failed as failed:
        raise Unusable(f"the bench with its reference: {failed.message}") from None


def _sources(simulator: Simulator, spec: dict[str, Any], limits: Limits) -> Sources:
    files, wide = dict(spec["files"]), for_preparation(limits)

    def read(text: str | None, what: str) -> str | None:
        if text is None or not words.needs_preprocessing(text):
            return text
        try:
            return simulator.preprocess(text, wide, files).output
        except Failed as failed:
            raise Unusable(f"the {what}: {failed.message}") from None

    chosen = {name: spec[name] for name in ("clock", "reset", "reset_low", "samples")}
    reference, testbench = read(spec["reference"], "reference"), read(spec["testbench"], "bench")
    return Sources(spec["module"], spec["tests"], reference, testbench, files, **chosen)


class _Preparation:
    def __init__(self, simulator: Simulator, sources: Sources, limits: Limits) -> None:
        self._simulator = simulator
        self._sources = sources
        self._limits = limits
        self._wide = for_preparation(limits)
        self._remarks: list[str] = []
        self._reference_s = 0.0

    def prepared(self) -> Prepared:
        sources = self._sources
        if sources.reference is not None and sources.module not in modules_in(sources.reference):
            found = ", ".join(modules_in(sources.reference)) or "nothing"
            raise Unusable(f"the reference defines {found}, not {sources.module}")
        method = self._equivalence() if sources.testbench is None else self._with_bench()
        cpu_s = min(self._limits.test_cpu_s, max(_CPU_LEAST_S, _CPU_FACTOR * self._reference_s))
        return Prepared(method, replace(self._limits, test_cpu_s=cpu_s), self._remarks)

    def _equivalence(self) -> Method:
        """No bench: the design has to do what the reference does, under random inputs."""
        sources = self._sources
        assert sources.reference is not None
        interface = self._interface([sources.reference])[0]
        if interface is None:
            raise Unusable("ports that are no vectors of bits need a test bench")
        names = {port.name for port in interface.inputs}
        for field_name in ("clock", "reset"):
            if (name := getattr(sources, field_name)) is not None and name not in names:
                raise Unusable(f"the {field_name} {name!r} is no input of {sources.module}")
        stimuli = random_stimuli(
            interface,
            clock=sources.clock,
            reset=sources.reset,
            reset_low=sources.reset_low,
            steps=sources.samples,
            seed=sources.reference,
        )
        blank = Replay(interface, stimuli, [], sources.tests)
        golden, self._reference_s = blank.run(self._simulator, sources.reference, self._wide)
        self._look_at(golden)
        return Replay(interface, stimuli, golden, sources.tests)

    def _with_bench(self) -> Method:
        sources = self._sources
        assert sources.testbench is not None
        interface, roots, instances = self._interface([sources.testbench, sources.reference or ""])
        if sources.reference is None or interface is None or instances > 1:
            why = "there is no reference" if sources.reference is None else "its ports can't be recorded"
            return self._nonce(
                Bench(sources.testbench, interface or Interface(sources.module, ()), roots, sources.files), why
            )
        bench = Bench(sources.testbench, interface, roots, sources.files)
        trace, report = self._recorded(bench)
        if trace.samples and (replay := self._replay(interface, trace)) is not None:
            return replay
        if report is None:
            raise Unusable(
                "the bench prints no verdict that is known here: 'Test Case N: PASS', 'Passed: N, Failed: M', "
                "'Your Design Passed' or 'Mismatches: N in M samples'"
            )
        self._require_passed(report)
        player = self._player(bench, trace, report)
        return player or self._nonce(bench, "the bench and its reference depend on the order of processes", report)

    def _interface(self, sources: list[str]) -> tuple[Interface | None, list[str], int]:
        """The module as it is instantiated (``None`` where a port is no vector of bits), its roots, its instances."""
        module = self._sources.module
        found = self._simulator.interface_of(module, sources, self._wide)
        if found is None or (len(sources) > 1 and found["roots"] == [module]):  # the reference, which nobody names
            others = instantiated_in(sources[0]) - set(modules_in(sources[0]))
            instead = f"; it instantiates {', '.join(sorted(others))}" if others else ""
            raise Unusable(f"the bench instantiates no module {module}{instead}")
        ports = tuple(Port(*port) for port in found["ports"])
        usable = ports and all(port.direction != "other" for port in ports) and any(p.direction == "out" for p in ports)
        interface = Interface(module, ports, tuple(tuple(item) for item in found["parameters"])) if usable else None
        return interface, found["roots"], found["instances"]

    def _recorded(self, bench: Bench) -> tuple[Trace, Report | None]:
        """The bench with its reference, which logs what it is given and what it gives."""
        mark, reference = nonce(), self._sources.reference
        assert reference is not None
        inner = renamed(reference, {name: f"{name}_{mark}" for name in modules_in(reference)})
        wrapper = benches.recorder(bench.interface, f"{bench.interface.module}_{mark}", mark)
        outputs = [f"{port.name}_ref" for port in bench.interface.outputs]
        text, count = _SAMPLED.subn(lambda match: match[0] + _sample(mark, outputs), bench.text)
        if count != 1 or not all(re.search(rf"\b{name}\b", bench.text) for name in outputs):
            text = bench.text
        text = f"{text}\n`resetall\n{inner}\n{wrapper}"
        run = self._simulator.simulate(text, bench.roots, self._wide, bench.files)
        self._reference_s = run.cpu_s
        trace, rest = parse_trace(run.output, mark)
        if trace.end is None:
            raise Unusable("the bench did not come to its end with its own reference")
        self._repeated(text, bench, run, mark)
        return trace, read_report(rest)

    def _repeated(self, text: str, bench: Bench, first: Run, mark: str) -> None:
        again = self._simulator.simulate(text, bench.roots, self._wide, bench.files)
        if parse_trace(again.output, mark)[0] != parse_trace(first.output, mark)[0]:
            raise Unusable("the bench is not deterministic: two runs with its reference differ")

    def _replay(self, interface: Interface, trace: Trace) -> Replay | None:
        """A replay that gives the reference's recorded outputs, trying the order of assignments where need be."""
        golden = [bits for _, bits in trace.samples]
        reference = self._sources.reference
        assert reference is not None
        steps, merged, best = mergeable(trace), set[int](), -1
        for _ in range(_FITS):
            replay = Replay(interface, stimuli_of(trace, merged), golden, self._sources.tests)
            lines, cpu_s = replay.run(self._simulator, reference, self._wide)
            wrong = replay._wrong(lines, cpu_s)
            if not wrong:
                if merged:
                    self._remarks.append(
                        f"race: the bench assigns data with its clock edge in {len(merged)} time steps"
                    )
                self._look_at(golden)
                return replay
            time = trace.samples[wrong[0][0]][0]
            earlier = [step for step in steps if step < time]
            if time <= best or not earlier:
                return None
            best = time
            merged ^= {earlier[-1]}
        return None

    def _player(self, bench: Bench, trace: Trace, report: Report) -> Player | None:
        reference = self._sources.reference
        assert reference is not None and trace.end is not None
        for merged in (False, True):
            stimuli = stimuli_of(trace, merged_steps(trace) if merged else ())
            try:
                outputs, _ = run_traced(self._simulator, bench.interface, stimuli, reference, self._wide)
            except Failed:
                return None
            until = [step for step in outputs if step[0] < trace.end]
            if until != trace.outputs_until(trace.end):
                continue
            player = Player(bench, stimuli, trace, merged, self._sources.tests, report)
            try:
                played, _ = player.play(self._simulator, reference, self._wide)
            except Failed:
                return None
            if played == report:
                if merged:
                    self._remarks.append("race: the bench assigns data with its clock edge")
                return player
        return None

    def _nonce(self, bench: Bench, why: str, report: Report | None = None) -> Nonce:
        self._remarks.append(f"judged inside its bench: {why}")
        method = Nonce(bench, self._sources.tests, report)
        if self._sources.reference is not None:
            found, self._reference_s = method.simulate(self._simulator, self._sources.reference, self._wide)
            if found is None:
                raise Unusable("the bench gives no verdict about its reference")
            self._require_passed(found)
            method.report = found
        return method

    def _require_passed(self, report: Report) -> None:
        if not report.solved:
            words_ = next((text for good, text in zip(report.passed, report.messages, strict=False) if not good), "")
            good = f"{sum(report.passed)} of {len(report.passed)} cases pass"
            raise Unusable(f"the reference fails its own bench: {good}" + (f" ({words_})" if words_ else ""))
        told = len(report.passed)
        if report.dialect != "mismatches" and told != len(self._sources.tests):
            raise Unusable(f"the bench tells of {told} test cases, the problem of {len(self._sources.tests)}")

    def _look_at(self, golden: Sequence[str]) -> None:
        unknown = sum("x" in line or "z" in line for line in golden)
        if unknown:
            self._remarks.append(f"x in the golden outputs: {unknown} of {len(golden)} samples")
        if len(set(golden)) == 1:
            self._remarks.append("the golden outputs never change: a constant passes")


def _sample(mark: str, outputs: Sequence[str]) -> str:
    formats = " ".join("%b" for _ in outputs)
    return f' $display("@{mark} S %0d {formats}", $time, {", ".join(outputs)});'

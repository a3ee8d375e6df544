"""What a bench does to a design over time: parsed from a recording, drawn at random, written for a generated bench.

Bits are strings of ``01xz``, all inputs side by side, in the order of the module's ports.
"""

from __future__ import annotations

import random
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

DRIVE, SAMPLE, FOLLOW = 0, 1, 2
"""Kinds of entries: set the inputs at once; take the outputs down; set them later in the same time step."""
Entry = tuple[int, int, str]
"""Time units since the entry before, kind, bits of the inputs."""


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a module; ``width`` in bits."""

    direction: str
    """``in`` or ``out``; a module with others has no ``Interface`` that can be replayed."""
    width: int
    name: str


@dataclass(frozen=True, slots=True)
class Interface:
    """A module as its bench instantiates it. ``parameters``: those that the bench overrides, with their values."""

    module: str
    ports: tuple[Port, ...]
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def inputs(self) -> list[Port]:
        return [port for port in self.ports if port.direction == "in"]

    @property
    def outputs(self) -> list[Port]:
        return [port for port in self.ports if port.direction == "out"]


@dataclass(slots=True)
class Trace:
    """A simulation as the recorder took it down. ``end`` is ``None`` where the simulation did not come to its end."""

    start: str = ""
    changes: list[tuple[int, str]] = field(default_factory=list)
    """(time, inputs) at every change, several in a time step where the bench assigns in several steps."""
    settled: dict[int, str] = field(default_factory=dict)
    """Inputs once the assignments at the beginning of a time step were done."""
    outputs: list[tuple[int, str]] = field(default_factory=list)
    """(time, outputs) at the end of each time step that changed them."""
    samples: list[tuple[int, str]] = field(default_factory=list)
    """(time, the reference's outputs) wherever the bench compares; ports separated by a blank."""
    end: int | None = None

    def inputs_until(self, end: int) -> list[tuple[int, str]]:
        """The inputs' last value of each time step before ``end``, where it differs from the one before."""
        steps = {0: self.start} | {time: bits for time, bits in self.changes if time < end}
        return without_repeats(sorted(steps.items()))

    def outputs_until(self, end: int) -> list[tuple[int, str]]:
        return [(time, bits) for time, bits in self.outputs if time < end]


def parse_trace(text: str, nonce: str) -> tuple[Trace, str]:
    """The recording, and what else was printed. ``nonce`` marks the recorder's lines, wherever in a line they begin."""
    trace, last = Trace(), dict[int, str]()

    def take(match: re.Match) -> str:
        tag, time, bits = match[1], int(match[2]), match[3].strip()
        joined = bits.replace(" ", "")
        if tag == "I":
            trace.start = joined
        elif tag == "C":
            trace.changes.append((time, joined))
        elif tag == "Z":
            trace.settled.setdefault(time, joined)
        elif tag == "O":
            last[time] = joined
        elif tag == "S":
            trace.samples.append((time, bits))
        else:
            trace.end = time
        return ""

    rest = re.sub(rf"@{nonce} ([ICZOSE]) (\d+)([01xz ]*)\n", take, text)
    trace.outputs = without_repeats(sorted(last.items()))
    return trace, rest


def without_repeats(steps: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    kept: list[tuple[int, str]] = []
    for time, bits in steps:
        if not kept or kept[-1][1] != bits:
            kept.append((time, bits))
    return kept


@dataclass(frozen=True, slots=True)
class Stimuli:
    """Everything that a generated bench does to a design."""

    start: str
    entries: tuple[Entry, ...]
    end: int
    """Time at which the simulation ends."""
    sampled: tuple[tuple[int, str], ...]
    """(time, inputs) of each sample, for people who want to know where a design went wrong."""

    @property
    def delay_bits(self) -> int:
        return bits_for(delay for delay, _, _ in self.entries)

    def memory(self) -> str:
        """The text that ``$readmemb`` reads: ``delay_bits`` of time, 2 of kind, then the inputs."""
        width = self.delay_bits
        return "".join(f"{delay:0{width}b}{kind:02b}{bits or '0'}\n" for delay, kind, bits in self.entries)


def bits_for(values: Iterable[int]) -> int:
    """Bits that hold each of these, at least one."""
    return max(1, max(values, default=1).bit_length())


def stimuli_of(trace: Trace, merged: Container[int] = ()) -> Stimuli:
    """Stimuli that repeat a recording.

    The first change of a time step is made by a blocking assignment, as a clock is, further ones follow one by one.
    A bench that assigns data with its clock edge, and relies on the order in which the simulator happens to run its
    processes, gets a time step of its own kind: in the steps of ``merged`` the inputs change all at once.
    """
    changes: dict[int, list[str]] = {}
    last = trace.start
    for time, bits in trace.changes:
        if bits != last:
            changes.setdefault(time, []).append(bits)
            last = bits
    samples: dict[int, int] = {}
    for time, _ in trace.samples:
        samples[time] = samples.get(time, 0) + 1
    entries: list[Entry] = []
    sampled: list[tuple[int, str]] = []
    now, bits = 0, trace.start
    for time in sorted(changes.keys() | samples.keys()):
        for _ in range(samples.get(time, 0)):
            entries.append((time - now, SAMPLE, bits))
            sampled.append((time, bits))
            now = time
        steps = changes.get(time, [])
        if time in merged and time > 0 and trace.settled.get(time) in steps:
            steps = steps[steps.index(trace.settled[time]) :]
        for position, bits in enumerate(steps):
            entries.append((time - now, DRIVE if position == 0 and time > 0 else FOLLOW, bits))
            now = time
    return Stimuli(trace.start, tuple(entries), now if trace.end is None else max(now, trace.end), tuple(sampled))


def mergeable(trace: Trace) -> list[int]:
    """Time steps in which it makes a difference whether the inputs change one by one or at once."""
    changes: dict[int, list[str]] = {}
    for time, bits in trace.changes:
        changes.setdefault(time, []).append(bits)
    return sorted(
        time
        for time, steps in changes.items()
        if time > 0 and (settled := trace.settled.get(time)) in steps and steps.index(settled) > 0
    )


def random_stimuli(
    interface: Interface, *, clock: str | None, reset: str | None, steps: int, seed: str, reset_low: bool = False
) -> Stimuli:
    """Random inputs for an equivalence test: ``steps`` of them, a sample after each, the clock's edges in between.

    Every eighth value is all zeros, all ones or a single bit, which uniform draws of a wide port never are. The reset
    is held for two clock periods at the start and once more half-way.
    """
    rng = random.Random(seed)
    entries: list[Entry] = []
    sampled: list[tuple[int, str]] = []
    now, pending = 0, 0
    half, values = 5, {port.name: "0" * port.width for port in interface.inputs}

    def bits() -> str:
        return "".join(values[port.name] for port in interface.inputs)

    def put(delay: int, kind: int) -> None:
        nonlocal now
        now += delay
        entries.append((delay, kind, bits()))
        if kind == SAMPLE:
            sampled.append((now, bits()))

    if clock is not None:
        values[clock] = "0"
    if reset is not None:
        values[reset] = "0" if reset_low else "1"
    start = bits()
    for step in range(steps):
        for port in interface.inputs:
            if port.name not in (clock, reset):
                values[port.name] = _random_bits(rng, port.width)
        if reset is not None:
            active = step < 2 or step == steps // 2
            values[reset] = "1" if active != reset_low else "0"
        put(pending + half, DRIVE)
        pending = 0
        if clock is not None:
            values[clock] = "1"
            put(half, DRIVE)
        put(1, SAMPLE)
        if clock is not None:
            values[clock] = "0"
            put(half, DRIVE)
    return Stimuli(start, tuple(entries), now + half, tuple(sampled))


def _random_bits(rng: random.Random, width: int) -> str:
    if width > 1 and rng.random() < 0.125:
        corner = rng.randrange(3)
        return "0" * width if corner == 0 else "1" * width if corner == 1 else f"{1 << rng.randrange(width):0{width}b}"
    return f"{rng.getrandbits(width):0{width}b}"

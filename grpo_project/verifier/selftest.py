"""What the sandbox does on this machine: each level tried, each promise of the level in force put to the test."""

from __future__ import annotations

from dataclasses import dataclass

from grpo_project.errors import ConfigError
from grpo_project.problems.problem import Bench, BenchTest, CallTest, Problem
from grpo_project.verifier.cage.isolation import LEVELS, RLIMITS
from grpo_project.verifier.verdict import Job, Status
from grpo_project.verifier.verifier import Verifier

_PROBLEM = Problem("selftest", "Return 1.", (CallTest((), 1),), entry_point="f", time_limit_s=0.5, memory_limit_mb=256)


@dataclass(frozen=True, slots=True)
class Probe:
    """A program, and the statuses that show that the sandbox did its part."""

    promise: str
    program: str
    expected: tuple[Status, ...]
    without_isolation: bool = True
    """The ``rlimits`` level promises it as well."""


PROBES = (
    Probe("a right program passes", "def f(): return 1", (Status.PASSED,)),
    Probe("a wrong program fails", "def f(): return 2", (Status.FAILED,)),
    Probe(
        "an object that equals everything fails",
        "class E:\n  __eq__ = lambda a, b: True\ndef f(): return E()",
        (Status.FAILED,),
    ),
    Probe("ending with exit code 0 is no pass", "import os\ndef f(): os._exit(0)", (Status.ERROR,)),
    Probe("an endless loop is ended", "def f():\n  while True: pass", (Status.TIMEOUT,)),
    Probe("memory is limited", "def f(): return len(bytearray(1 << 30)) >> 30", (Status.MEMORY,)),
    Probe("the next program is judged right", "def f(): return 1", (Status.PASSED,)),
    Probe(
        "the machine's files can't be read",
        "def f(): return len(open('/etc/hostname').read(0)) + 1",
        (Status.ERROR,),
        False,
    ),
    Probe(
        "nothing can be written outside",
        "def f(): return open('/var/tmp/grpo-probe', 'w').write('x')",
        (Status.ERROR,),
        False,
    ),
    Probe("there is no network", "import socket\ndef f(): return socket.socket() and 1", (Status.ERROR,), False),
    Probe(
        "no other program can be started", "import os\ndef f(): os.execv('/bin/true', ['true'])", (Status.ERROR,), False
    ),
)


def available_levels() -> dict[str, str]:
    """Each isolation level with "" where the machine allows it, else with the reason why not."""
    reasons = {}
    for level in LEVELS:
        try:
            with Verifier(workers=1, isolation=level) as verifier:
                verifier.verify(Job(_PROBLEM, PROBES[0].program))
            reasons[level] = ""
        except ConfigError as error:
            reasons[level] = str(error)
    return reasons


def run_probes(verifier: Verifier) -> list[tuple[Probe, Status]]:
    """Every promise of the level in force, with what came out. Raises ``SandboxError`` or ``ConfigError``."""
    probes = [probe for probe in PROBES if probe.without_isolation or verifier.isolation != RLIMITS]
    return [(probe, verifier.verify(Job(_PROBLEM, f"```python\n{probe.program}\n```")).status) for probe in probes]


def verilog_probe() -> Status:
    """How a right Verilog design is judged here. Raises ``ConfigError`` where a tool is missing, ``SandboxError``."""
    design = "module m(input a, input b, output q); assign q = a ^ b; endmodule"
    tests = (BenchTest("samples", "1"),)
    problem = Problem("selftest", "", tests, entry_point="m", solution=design, language="verilog", bench=Bench())
    with Verifier(workers=1, cache=False) as verifier:
        return verifier.verify(Job(problem, f"```verilog\n{design}\n```")).status

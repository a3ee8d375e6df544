"""What a judge gets to know of a Verilog problem."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from grpo_project.errors import ConfigError, DataError
from grpo_project.problems.problem import Bench, BenchTest, Problem
from grpo_project.verifier.cage.profile import Profile
from grpo_project.verifier.verilog.icarus import find_icarus
from grpo_project.verifier.verilog.simulator import PROGRAMS, READER


def content_of(problem: Problem, *, stop_early: bool = False) -> tuple[dict[str, Any], float]:
    """Plain values, and wall seconds as in ``languages.Spec``. One simulation judges all tests: none can be left out.

    Raises ``DataError`` where the problem can't be judged, ``ConfigError`` where this machine has no Icarus Verilog.
    """
    bench = problem.bench or Bench()
    if problem.entry_point is None or (bench.testbench is None and problem.solution is None):
        raise DataError(f"problem {problem.id}: a Verilog problem needs a module's name, and a bench or a reference")
    if not problem.tests or not all(isinstance(test, BenchTest) for test in problem.tests):
        raise DataError(f"problem {problem.id}: its tests have to be outputs, cases or samples of its bench")
    content = {
        "module": problem.entry_point,
        "reference": problem.solution,
        "testbench": bench.testbench,
        "files": bench.files,
        "clock": bench.clock,
        "reset": bench.reset,
        "reset_low": bench.reset_low,
        "samples": bench.samples,
        "tests": [(test.kind, test.name) for test in problem.tests if isinstance(test, BenchTest)],
        "limits": {
            "test_cpu_s": problem.time_limit_s,
            "load_cpu_s": problem.time_limit_s,
            "candidate_cpu_s": problem.time_limit_s,
            "memory_mb": problem.memory_limit_mb,
        },
        "icarus": dataclasses.asdict(find_icarus()),
    }
    return content, 600 + problem.time_limit_s * 100


def profiles() -> dict[str, Profile]:
    """Cages whose children become Icarus' programs, and cages with ``pyslang``. Raises ``ConfigError``."""
    programs = Profile(resident="verilog.programs", programs=find_icarus().readable)
    reader = Profile(resident="verilog.check", site=pyslang_site(), packages=("pyslang",))
    return {PROGRAMS: programs, READER: reader}


def pyslang_site() -> str:
    """The folder that pyslang is installed in: a judge's bare interpreter can't see it. Raises ``ConfigError``."""
    found = importlib.util.find_spec("pyslang")
    if found is None or found.origin is None:
        raise ConfigError("Verilog problems need pyslang, which reads designs; install it: pip install pyslang")
    return str(Path(found.origin).parent.parent)

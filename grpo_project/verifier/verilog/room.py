"""Verilog in one judge: a simulator for each installation of Icarus Verilog that a problem names (there is one)."""

from __future__ import annotations

from typing import Any

from grpo_project.verifier.cage.launch import Launcher
from grpo_project.verifier.room import Graded
from grpo_project.verifier.verilog.exam import VerilogExam
from grpo_project.verifier.verilog.icarus import Icarus
from grpo_project.verifier.verilog.simulator import Simulator


class Room:
    """Nothing is started before the first design."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._simulator: Simulator | None = None

    def grader(self, spec: dict[str, Any]) -> VerilogExam:
        if self._simulator is None:
            self._simulator = Simulator(self._launcher, Icarus(**spec["icarus"]))
        return VerilogExam(spec)

    def grade(self, grader: VerilogExam, program: str, seed: bytes) -> Graded:
        """``seed`` is of no use: a design that draws random numbers is refused."""
        assert self._simulator is not None
        prepared = grader.prepared(self._simulator)
        results, cpu_s = grader.hold(self._simulator, program)
        return Graded(results, cpu_s, prepared.method.name, prepared.remarks)

    def start(self) -> None:
        """Which programs are needed is known with the first problem."""

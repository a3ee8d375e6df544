"""Python in one judge: its cages and its kinds of graders."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from grpo_project.verifier.cage import launch
from grpo_project.verifier.cage.cage import Cage
from grpo_project.verifier.cage.launch import CageError, Launcher
from grpo_project.verifier.cage.profile import NUMPY
from grpo_project.verifier.python.grader import CallGrader, Grader
from grpo_project.verifier.python.source_grader import CaseGrader, CheckGrader, SourceGrader
from grpo_project.verifier.python.stdio import StdioGrader
from grpo_project.verifier.room import Graded

KINDS: dict[str, type[Grader]] = {
    "call": CallGrader,
    "assert": SourceGrader,
    "check": CheckGrader,
    "case": CaseGrader,
    "stdio": StdioGrader,
}


class Room:
    """A cage for most programs, and one with numpy loaded for those that import it."""

    def __init__(self, launcher: Launcher) -> None:
        site = launch.numpy_site()
        self._cage = Cage(launcher)
        self._numpy_cage: Cage | None = None
        if site is not None:
            sys.path.append(site)  # for tests that import numpy, or what is installed beside it
            self._numpy_cage = Cage(launcher, NUMPY)

    def grader(self, spec: dict[str, Any]) -> Grader:
        return KINDS[spec["kind"]](spec)

    def grade(self, grader: Grader, program: str, seed: bytes) -> Graded:
        """A program whose process was killed by a stranger is run once more: then it counts as its own doing.

        Not where the machine was short of memory: that is for the server to try again, with nobody beside it.
        """
        cage = self._cage_for(grader, program)
        cage.watch_for_kills()
        results, cpu_s = grader.grade(cage, program, seed)
        if cage.killed_by_others and not cage.out_of_memory:
            results, cpu_s = grader.grade(cage, program, seed)
        return Graded(results, cpu_s, out_of_memory=cage.out_of_memory)

    def _cage_for(self, grader: Grader, program: str) -> Cage:
        """Loading numpy takes fifty times as long as a small program: one zygote has it loaded."""
        if self._numpy_cage is not None and (grader.imports_numpy or "numpy" in program):
            return self._numpy_cage
        return self._cage

    def start(self) -> None:
        with contextlib.suppress(CageError):
            self._cage.start()

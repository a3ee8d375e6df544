"""The trusted side of Verilog's cages: preprocess, compile and simulate a text, ask for names and ports.

Each program runs in a child of its own, which becomes it: the kernel's limits, the CPU time and the end of a child are
the program's.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from grpo_project.verifier.cage import values
from grpo_project.verifier.cage.cage import Cage
from grpo_project.verifier.cage.launch import CageError, Launcher
from grpo_project.verifier.cage.limits import Limits
from grpo_project.verifier.cage.session import Output, Session, Stopped
from grpo_project.verifier.verilog.icarus import Icarus

PROGRAMS, READER = "icarus", "pyslang"
"""Names of the two profiles (``spec.profiles``)."""
SOURCE, PROGRAM, CONFIGURATION, DEFINES = "design.sv", "design.vvp", "ivl.conf", "defines"
_MEMORY = re.compile(r"bad_alloc|out of memory|Cannot allocate memory|std::length_error", re.I)
_SYNTAX = re.compile(r"syntax error|\berror: (?:malformed|invalid)|\bgive up\b", re.I)


class Failed(Exception):
    """A design that did not get through: ``status`` is the verdict's, ``message`` says why."""

    def __init__(self, status: str, message: str, cpu_s: float = 0.0) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.cpu_s = cpu_s


@dataclass(slots=True)
class Run:
    """What a simulation printed, and the CPU seconds of all that was run for it."""

    output: str
    cpu_s: float


class Simulator:
    """Two cages: one whose children become Icarus' programs, one with ``pyslang``. Each starts when it is needed."""

    def __init__(self, launcher: Launcher, icarus: Icarus) -> None:
        self.icarus = icarus
        self._programs = Cage(launcher, PROGRAMS)
        self._reader = Cage(launcher, READER)

    def preprocess(self, text: str, limits: Limits, files: Mapping[str, str] | None = None) -> Run:
        """The text without macros and conditions. Raises ``Failed`` with the status of a text that can't be read."""
        contents = {DEFINES: b"D:__ICARUS__=1\n", SOURCE: text.encode("utf-8", "replace")} | _encoded(files)
        command = [self.icarus.ivlpp, f"-F{DEFINES}", SOURCE]
        output, code, cpu_s = self._run(command, contents, limits, clear=True)
        if code != 0:
            raise Failed("syntax_error", _first_lines(output) or "the preprocessor failed", cpu_s)
        return Run(output, cpu_s)

    def simulate(self, text: str, roots: Sequence[str], limits: Limits, files: Mapping[str, str] | None = None) -> Run:
        """Compile a preprocessed text with these root modules and run it.

        Raises ``Failed``: ``syntax_error``, ``elaboration_error``, ``timeout``, ``memory``, or ``error`` for a fault at
        run time.
        """
        contents = {
            CONFIGURATION: self.icarus.configured(roots, PROGRAM),
            SOURCE: text.encode("utf-8", "replace"),
        } | _encoded(files)
        command = [self.icarus.ivl, f"-C{CONFIGURATION}", "--", SOURCE]
        output, code, cpu_s = self._run(command, contents, limits, clear=True)
        if code != 0:
            raise Failed(_compile_status(output), _compile_message(output), cpu_s)
        try:
            output, code, more_s = self._run([self.icarus.vvp, "-n", PROGRAM, "-none"], {}, limits, clear=False)
        except Failed as failed:
            failed.cpu_s += cpu_s
            raise
        if code != 0:
            raise Failed(
                "error", _first_lines(output[-2000:]) or f"the simulator ended with exit code {code}", cpu_s + more_s
            )
        return Run(output, cpu_s + more_s)

    def foreign_names(self, design: str, limits: Limits) -> list[str]:
        """Names in a preprocessed text that nothing in it stands for. Raises ``Failed`` where it can't be read."""
        match self._ask({"design": design}, limits):
            case ["names", list() as names] if all(isinstance(name, str) for name in names):
                return names
        raise Failed("error", "the design can't be read")

    def interface_of(self, module: str, sources: list[str], limits: Limits) -> dict[str, Any] | None:
        """As ``check.interface_of``. Raises ``Failed`` where the sources can't be read."""
        match self._ask({"module": module, "sources": sources}, limits):
            case ["interface", dict() | None as found]:
                return found
        raise Failed("error", "the module's ports can't be read")

    def _ask(self, order: dict[str, Any], limits: Limits) -> list[Any]:
        with Session(self._reader, limits, order, final=True) as session:
            try:
                record = values.loads(session.payload(limits.test_cpu_s, "reading the design"))
            except Stopped as stopped:
                raise Failed(stopped.status, stopped.message, session.cpu_s) from None
            except values.Malformed as error:
                raise Failed("error", f"reading the design: {error}") from None
        return record

    def _run(
        self, command: list[str], files: Mapping[str, bytes], limits: Limits, *, clear: bool
    ) -> tuple[str, int, float]:
        """What a program printed, its exit code and its CPU seconds. Raises ``Failed`` at a limit, ``CageError``."""
        order = {"clear": clear, "files": list(files.items()), "command": command}
        reader, writer = os.pipe()
        source = os.open(os.devnull, os.O_RDONLY)
        try:
            with Session(self._programs, limits, order, (source, writer)) as session:
                os.close(writer)
                writer = -1
                output = Output(reader, limits.output_bytes)
                try:
                    session.until_end(output)
                except Stopped as stopped:
                    raise Failed(stopped.status, stopped.message, session.cpu_s) from None
                finally:
                    output.drain()
            return self._ended(session, output)
        finally:
            for descriptor in (reader, writer, source):
                if descriptor >= 0:
                    os.close(descriptor)

    def _ended(self, session: Session, output: Output) -> tuple[str, int, float]:
        if output.overflowed:
            raise Failed("error", f"it printed more than {output.limit} bytes", session.cpu_s)
        assert session.outcome is not None
        if (fault := session.ready("starting the program")) is not None:
            raise CageError(f"a program of Icarus Verilog could not be started: {values.loads(fault)[1]}")
        code = os.waitstatus_to_exitcode(session.outcome.status)
        text = output.text()
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            raise Failed("timeout", "out of CPU time", session.cpu_s)
        if code == -signal.SIGXFSZ:
            raise Failed("timeout", "it wrote more to a file than it may", session.cpu_s)
        if code != 0 and _MEMORY.search(text):
            raise Failed("memory", "it needs more memory than it may have", session.cpu_s)
        return text, code, session.cpu_s


def for_preparation(limits: Limits) -> Limits:
    """The problem's own files are trusted, and a recording is longer than what a design prints."""
    return replace(limits, test_cpu_s=max(60.0, limits.test_cpu_s), candidate_cpu_s=60.0, output_bytes=1 << 28)


def _encoded(files: Mapping[str, str] | None) -> dict[str, bytes]:
    return {name: content.encode("utf-8", "surrogateescape") for name, content in (files or {}).items()}


def _compile_status(output: str) -> str:
    """What ``ivl`` stumbled over. It counts errors of elaboration at its end, and none of parsing."""
    if "during elaboration" in output or "modules were missing" in output:
        return "elaboration_error"
    return "syntax_error" if _SYNTAX.search(output) else "elaboration_error"


def _compile_message(output: str) -> str:
    told = ("error:", "syntax error", "sorry:", "assert:", " referenced ")
    lines = [line for line in output.splitlines() if any(word in line for word in told)]
    return _first_lines("\n".join(lines) or output) or "the compiler failed"


def _first_lines(text: str, count: int = 3) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[:count])[:500]

"""A Verilog problem, made ready once and held against one design after the other."""

from __future__ import annotations

import re
from typing import Any

from grpo_project.problems.verilog_text import modules_in
from grpo_project.verifier.cage.limits import Limits
from grpo_project.verifier.room import Result
from grpo_project.verifier.verilog import words
from grpo_project.verifier.verilog.methods import Nonce
from grpo_project.verifier.verilog.preparation import Prepared, prepare
from grpo_project.verifier.verilog.simulator import Failed, Simulator

_NONCE = re.compile(r"\b[a-z]?_?n[0-9a-f]{16}_?|_n[0-9a-f]{16}\b")
_PORT = re.compile(r"is not a port of|Wrong number of ports|port .* not found", re.I)


class VerilogExam:
    """One problem. Prepared with the first design, because that needs the cage."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._limits = Limits(**spec["limits"])
        self._prepared: Prepared | None = None

    def prepared(self, simulator: Simulator) -> Prepared:
        """Raises ``Unusable`` where the problem can't be judged, ``CageError`` when our side failed."""
        if self._prepared is None:
            self._prepared = prepare(simulator, self._spec, self._limits)
        return self._prepared

    def hold(self, simulator: Simulator, design: str) -> tuple[list[Result], float]:
        """Every test's result and the CPU seconds used. Raises as ``prepared``."""
        prepared = self.prepared(simulator)
        try:
            text = self._checked(simulator, design, isinstance(prepared.method, Nonce))
            rows, cpu_s = prepared.method.judge(simulator, text, prepared.limits)
        except Failed as failed:
            # A nonce is drawn anew for each simulation: it must not make two verdicts on one design differ.
            message = _NONCE.sub("", failed.message)
            status = failed.status
            if status == "elaboration_error" and _PORT.search(message):
                status = "wrong_interface"
            return [Result(status, message) for _ in self._spec["tests"]], failed.cpu_s
        for row in rows:
            row.cpu_s = cpu_s / len(rows)
        return rows, cpu_s

    def _checked(self, simulator: Simulator, design: str, in_bench: bool) -> str:
        """The preprocessed design. Raises ``Failed`` where it says what no design may say."""
        if (directive := words.refused_directive(design)) is not None:
            raise Failed("refused", f"a design must not use {directive}")
        text = design
        if words.needs_preprocessing(design):
            text = simulator.preprocess(design, self._limits).output
        if found := words.refused_words(text):
            raise Failed("refused", f"a design must not use {', '.join(found[:5])}")
        module = self._spec["module"]
        if module not in modules_in(text):
            raise Failed("wrong_format", f"there is no module {module}")
        # Where the design is simulated alone, only dotted names are worth a look: the message says more than the
        # compiler's. In its bench every name counts.
        if (in_bench or words.has_dotted_names(text)) and (names := simulator.foreign_names(text, self._limits)):
            raise Failed("refused", f"a design must not name what is not its own: {', '.join(names[:5])}")
        return text

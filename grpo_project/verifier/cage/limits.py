"""What one candidate may use, and how long the trusted side waits for it."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
WALL_FACTOR = 4.0
WALL_SLACK_S = 2.0
SLICE_S = 0.05
"""Wall seconds between two looks at a candidate that needs long: its CPU time is known and limited this finely."""
SLICES = 8
"""Looks at least within one limit, where that is short."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that a problem may choose."""

    test_cpu_s: float = 2.0
    """CPU seconds for one call or one program run."""
    load_cpu_s: float = 2.0
    """CPU seconds to load a program whose functions are called: imports, tables, class definitions."""
    candidate_cpu_s: float = 20.0
    """CPU seconds for all of it."""
    memory_mb: int = 512
    """Address space above what the zygote maps."""
    output_bytes: int = 8 * MIB
    """One returned value, or all that a program prints."""

    @property
    def answers_bytes(self) -> int:
        """All values that a candidate returns, together: the trusted side keeps them until it is judged."""
        return 8 * self.output_bytes

    @property
    def wall_s(self) -> float:
        """Wall seconds after which a candidate has to be done, however busy the machine is."""
        return 60.0 + 20.0 * (self.candidate_cpu_s + self.load_cpu_s)

    def of_process(self) -> tuple[int, int]:
        """CPU seconds and bytes of memory above the zygote's, for setrlimit: a backstop in whole seconds."""
        return int(self.candidate_cpu_s + self.load_cpu_s) + 2, self.memory_mb * MIB

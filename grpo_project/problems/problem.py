"""A problem and its tests, as values. Loading and checking files is ``formats``' job, judging is ``verifier``'s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEVELS = ("foundation", "elementary", "intermediate", "advanced", "expert")
"""The guide's levels, easiest first."""

MAX_COMPLEXITY = 10.0

BUILTIN = "builtin"
BUILTIN_VERILOG = "builtin:verilog"
BUILTIN_EVERYDAY = "builtin:everyday"
"""The ``source`` of the problems that come with the package."""

LANGUAGES = ("python", "verilog")
"""What a problem can be solved in (``verifier.languages``)."""


@dataclass(frozen=True, slots=True)
class CallTest:
    """Call the entry point with ``args`` and ``kwargs``; the returned value must equal ``expected``."""

    args: tuple[Any, ...]
    expected: Any
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AssertTest:
    """One ``assert`` statement (with its set-up lines, if any) that must hold."""

    source: str


@dataclass(frozen=True, slots=True)
class CheckTest:
    """A HumanEval-style ``check(candidate)`` function; ``source`` defines it."""

    source: str


@dataclass(frozen=True, slots=True)
class CaseTest:
    """One case of a test file: a method of a ``unittest.TestCase`` class (``"Class.test_it"``) or a function."""

    source: str
    """The whole file."""
    case: str
    module: str = "solution"
    """What the file imports the program as, where it does."""


@dataclass(frozen=True, slots=True)
class StdioTest:
    """Run the program with ``stdin``; what it prints must match ``stdout``."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True)
class BenchTest:
    """One thing that a Verilog bench tells of a design.

    ``kind`` is ``output`` (every sample of the output ``name`` is right), ``case`` (the bench's own test case number
    ``name`` passes) or ``samples`` (the ``name``-th of as many stretches of samples as there are such tests).
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Bench:
    """What a Verilog design is judged with. The design defines the module ``Problem.entry_point``.

    Without ``testbench`` the design has to do what ``Problem.solution``, the reference, does under random inputs, with
    this ``clock`` and ``reset`` if it has them.
    """

    testbench: str | None = None
    files: tuple[tuple[str, str], ...] = ()
    """(name, text) of the data files that the bench reads."""
    clock: str | None = None
    reset: str | None = None
    reset_low: bool = False
    """The reset is active while it is 0."""
    samples: int = 1000
    """Random inputs, where there is no ``testbench``."""


Test = CallTest | AssertTest | CheckTest | CaseTest | StdioTest | BenchTest


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a returned value is compared with the expected one.

    Python's ``==`` on exact built-in types (``2 == 2.0`` holds), with these choices.
    """

    float_tolerance: float | None = None
    """Absolute and relative tolerance for floats, at any depth; ``None`` means exact."""
    nan_equal: bool = True
    """NaN equals NaN."""
    distinguish_sequences: bool = False
    """A tuple and a list with the same items differ. JSON has no tuples, so they are alike by default."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What to solve and how a solution is judged.

    All tests of a problem are of one kind; a Verilog problem has a ``bench`` as well. ``level`` is one of ``LEVELS`` or
    ``"unknown"``; ``complexity`` runs from 0 to 10. ``source`` says where the problem comes from (``BUILTIN`` or a
    file) and is kept with every number that the problem produces.
    """

    id: str
    prompt: str
    tests: tuple[Test, ...]
    level: str = "unknown"
    complexity: float | None = None
    entry_point: str | None = None
    solution: str | None = None
    starter_code: str | None = None
    tags: tuple[str, ...] = ()
    language: str = "python"
    time_limit_s: float = 2.0
    """CPU seconds that one test may take."""
    memory_limit_mb: int = 512
    comparison: Comparison = Comparison()
    checker: str | None = None
    """Trusted Python source that defines ``check(args, kwargs, got, expected) -> bool``, for several right answers."""
    bench: Bench | None = None
    """Verilog's."""
    source: str = "user"

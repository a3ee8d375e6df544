"""The problem sets that come with the package, by the name that stands in place of a file's."""

from __future__ import annotations

from collections.abc import Mapping

from grpo_project.errors import ConfigError
from grpo_project.problems.builtin.everyday import everyday_problems
from grpo_project.problems.builtin.verilog import builtin_verilog_problems
from grpo_project.problems.formats import load_problems
from grpo_project.problems.problem import BUILTIN, BUILTIN_EVERYDAY, BUILTIN_VERILOG, Problem
from grpo_project.problems.quickstart import builtin_problems

BUILTIN_SETS = {
    BUILTIN: builtin_problems,
    BUILTIN_VERILOG: builtin_verilog_problems,
    BUILTIN_EVERYDAY: everyday_problems,
}


def problems_of(
    name: str, split: str, base_path: str | None = None, columns: Mapping[str, str] | None = None
) -> tuple[Problem, ...]:
    """The problems of a file, or those of ``split`` (``train`` or ``heldout``) where ``name`` is a built-in set's.

    Raises:
        ConfigError: there is no built-in set of that name.
        DataError: the file can't be used.
    """
    if name in BUILTIN_SETS:
        return BUILTIN_SETS[name](split)
    if name.startswith(f"{BUILTIN}:"):
        raise ConfigError(f"there is no built-in set {name}; there are {', '.join(BUILTIN_SETS)}")
    return tuple(load_problems(name, base_path, columns))

"""How hard a problem is for a model: its complexity and level, from how often its completions solved it."""

from __future__ import annotations

from dataclasses import replace

from grpo_project.problems.native import level_of
from grpo_project.problems.problem import MAX_COMPLEXITY, Problem


def graded(problem: Problem, solved: int, samples: int) -> Problem:
    """The problem with the complexity and level of a pass rate of p = (solved + 1/2) / (samples + 1).

    The complexity is 10 (1 - p), and a level is two points of complexity.
    """
    complexity = round(MAX_COMPLEXITY * (1 - (solved + 0.5) / (samples + 1)), 2)
    return replace(problem, complexity=complexity, level=level_of(complexity))

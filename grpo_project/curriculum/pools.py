"""Which problems each stage has, and how unlabelled ones get into a stage: they are sorted by trying them.

A problem of level ``unknown`` that no stage selects waits to be sorted. It is drawn once, trained on like any other,
and the pass rate of its group gives it a complexity and a level, by the rule of ``grpo difficulty``; the stages that
select it then take it in. Nothing is sorted by a guess: trying costs one group, which is not wasted, and a stage filled
by predictions would be judged by problems that are not its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from random import Random
from typing import Any

from grpo_project.curriculum.stages import Stage
from grpo_project.problems.native import level_of
from grpo_project.problems.problem import MAX_COMPLEXITY, Problem

SEARCH = 300
"""Problems that are sorted without finding one of a stage before it counts as empty: of fewer than 1% with 95%
confidence (rule of three)."""


class Pools:
    """The problems of each stage, by index into ``problems``; the same for the same seed and results.

    ``of_stage`` and ``sizes`` grow in place as problems are sorted.
    """

    def __init__(self, problems: Sequence[Problem], stages: Sequence[Stage], seed: int = 0) -> None:
        self._problems = problems
        self._stages = stages
        self.of_stage = [[i for i, problem in enumerate(problems) if stage.selects(problem)] for stage in stages]
        self.sizes = [len(pool) for pool in self.of_stage]
        self._sizes_at_start = list(self.sizes)
        unplaced = self._unplaced()
        waiting = [i for i in unplaced if self._can_be_sorted(problems[i])]
        self.to_sort = len(waiting)
        """How many problems had to be sorted at the start."""
        self.outside = self.outside_at_start = len(unplaced) - len(waiting)
        """Problems that belong to no stage but the mixed one and don't wait to be sorted."""
        self._waits = bytearray(len(problems))
        for index in waiting:
            self._waits[index] = 1
        self._graded: dict[int, Problem] = {}
        self._results = array("q")  # problem, solved, samples, one after the other, in the order of sorting
        self._candidates = [sum(stage.could_select(problems[i]) for i in waiting) for stage in stages]
        self._tried = [0] * len(stages)  # of the candidates
        self._order = waiting
        self._position = 0
        self._shuffle(seed)

    @property
    def unsorted(self) -> int:
        """How many problems wait to be sorted."""
        return self.to_sort - len(self._graded)

    def problem(self, index: int) -> Problem:
        """The problem, with the level that it was sorted to."""
        return self._graded.get(index) or self._problems[index]

    def may_have_problems(self, stage: int) -> bool:
        """Whether the stage has problems, or some may turn up among those that wait to be sorted."""
        return bool(self.sizes[stage] or (self._tried[stage] < min(SEARCH, self._candidates[stage])))

    def next_unsorted(self) -> int | None:
        """A problem to be tried next: in a shuffled order, each once. None if all have been drawn."""
        while self._position < len(self._order):
            index = self._order[self._position]
            self._position += 1
            if self._waits[index]:
                return index
        return None

    def restart_order(self) -> None:
        """Once all have been drawn: begin anew with those that no result came of."""
        if self.unsorted and self._position == len(self._order):
            self._position = 0

    def sort(self, index: int, solved: int, samples: int) -> None:
        """``solved`` of ``samples`` completions of the problem passed all tests. It is sorted once, if at all."""
        if not self._waits[index]:
            return
        self._waits[index] = 0
        before, after = self._problems[index], graded(self._problems[index], solved, samples)
        self._graded[index] = after
        self._results.extend((index, solved, samples))
        joined = False
        for i, stage in enumerate(self._stages):
            self._tried[i] += stage.could_select(before)
            if stage.selects(after) and not stage.selects(before):
                self.of_stage[i].append(index)
                self.sizes[i] += 1
                joined = True
        self.outside += not joined

    def snapshot(self) -> tuple[int, int]:
        """A point that ``restore`` can go back to, however much was sorted before."""
        return len(self._results), self._position

    def restore(self, snapshot: tuple[int, int]) -> None:
        """Undo what was sorted and drawn since."""
        n_sorted, self._position = snapshot
        while len(self._results) > n_sorted:
            self._undo_last()

    def _undo_last(self) -> None:
        """The inverse of ``sort``, for the newest result."""
        index = self._results[-3]
        del self._results[-3:]
        before, after = self._problems[index], self._graded.pop(index)
        self._waits[index] = 1
        joined = False
        for i, stage in enumerate(self._stages):
            self._tried[i] -= stage.could_select(before)
            if stage.selects(after) and not stage.selects(before):
                self.of_stage[i].pop()
                self.sizes[i] -= 1
                joined = True
        self.outside -= not joined

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self._seed, "position": self._position, "sorted": self._results.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._order.sort()
        self._shuffle(state["seed"])
        for i, size in enumerate(self._sizes_at_start):
            del self.of_stage[i][size:]
            self.sizes[i] = size
        self.outside = self.outside_at_start
        for index in self._order:
            self._waits[index] = 1
        self._tried = [0] * len(self._stages)
        self._graded, self._results = {}, array("q")
        results = state["sorted"]
        if results and isinstance(results[0], list):  # as version 0.1.0 wrote them: one list a problem
            results = list(chain.from_iterable(results))
        for i in range(0, len(results), 3):
            self.sort(*results[i : i + 3])
        self._position = state["position"]

    def _shuffle(self, seed: int) -> None:
        self._seed = seed
        Random(f"sorting-{seed}").shuffle(self._order)

    def _can_be_sorted(self, problem: Problem) -> bool:
        return problem.level == "unknown" and any(stage.could_select(problem) for stage in self._stages)

    def _unplaced(self) -> list[int]:
        """The problems that belong to no stage but the mixed one."""
        placed = bytearray(len(self._problems))
        for stage, pool in zip(self._stages, self.of_stage, strict=True):
            if not stage.is_mixed:
                for index in pool:
                    placed[index] = 1
        return [index for index, is_placed in enumerate(placed) if not is_placed]


def graded(problem: Problem, solved: int, samples: int) -> Problem:
    """The problem with the complexity and level of a pass rate of p = (solved + 1/2) / (samples + 1).

    The complexity is 10 (1 - p), and a level is two points of complexity.
    """
    complexity = round(MAX_COMPLEXITY * (1 - (solved + 0.5) / (samples + 1)), 2)
    return replace(problem, complexity=complexity, level=level_of(complexity))

"""The built-in problems: sizes, splits, reproducibility, and tests that tell right from wrong."""

from __future__ import annotations

import ast
import random
from collections import Counter
from typing import Any

import pytest

from grpo_project.problems.builtin.examples import draw_examples
from grpo_project.problems.builtin.programs import Program, draw_program, unreliable_body, wrong_codes
from grpo_project.problems.builtin.steps import STEPS
from grpo_project.problems.problem import LEVELS, CallTest, Problem
from grpo_project.problems.quickstart import builtin_problems


def passes(starter_code: str, body: str, tests: list[tuple[Any, Any]]) -> float:
    """Share of the tests that our own text (never a model's) passes."""
    namespace: dict[str, Any] = {}
    exec(starter_code + body, namespace)
    return sum(_passes(namespace["solve"], argument, expected) for argument, expected in tests) / len(tests)


def _passes(function: Any, argument: Any, expected: Any) -> bool:
    try:
        return function(argument) == expected
    except (TypeError, ValueError, IndexError, ZeroDivisionError, AttributeError, UnboundLocalError):
        return False


def examples(problem: Problem) -> list[tuple[Any, Any]]:
    calls = [test for test in problem.tests if isinstance(test, CallTest)]
    assert len(calls) == len(problem.tests)
    return [(call.args[0], call.expected) for call in calls]


def drawn(seed: int, count: int) -> list[tuple[Program, list[tuple[Any, Any]]]]:
    """Programs of every level with the examples that they get as problems."""
    rng = random.Random(seed)
    pairs = ((program, draw_examples(rng, program)) for _ in range(count) for program in [draw_program(rng, _ % 5)])
    return [(program, tests) for program, tests in pairs if tests is not None]


@pytest.mark.parametrize(("split", "least"), [("train", 2000), ("heldout", 500)])
def test_splits_are_large_and_balanced(split: str, least: int) -> None:
    problems = builtin_problems(split)
    assert len(problems) >= least
    assert set(Counter(problem.level for problem in problems).values()) == {len(problems) // len(LEVELS)}
    assert len({problem.id for problem in problems}) == len(problems)
    assert len({problem.prompt for problem in problems}) == len(problems)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_heldout_problem_is_in_training_for_any_seed(seed: int) -> None:
    def key(problem: Problem) -> str:
        return " ".join(problem.prompt.casefold().split())

    training = builtin_problems("train") + builtin_problems("train", seed=seed)
    heldout = builtin_problems("heldout") + builtin_problems("heldout", seed=seed)
    assert not {key(problem) for problem in training} & {key(problem) for problem in heldout}
    assert not {problem.solution for problem in training} & {problem.solution for problem in heldout}


def test_the_seed_decides_and_count_is_a_prefix() -> None:
    assert builtin_problems("heldout", count=50) == builtin_problems("heldout")[:50]
    assert builtin_problems("heldout", seed=7, count=50) != builtin_problems("heldout", count=50)


def test_reference_solutions_pass_all_their_tests() -> None:
    for problem in builtin_problems("train") + builtin_problems("heldout"):
        assert len(problem.tests) >= 6
        assert problem.starter_code is not None and problem.solution is not None
        assert passes(problem.starter_code, problem.solution, examples(problem)) == 1, problem.prompt


def test_complexity_rises_with_the_level_and_solutions_stay_short() -> None:
    for problem in builtin_problems("train"):
        place = LEVELS.index(problem.level)
        assert problem.complexity is not None and 2 * place <= problem.complexity < 2 * place + 2
        assert problem.solution is not None and len(problem.solution) < 200
        assert "\n" not in problem.prompt
        assert problem.source == "builtin"


def test_mistakes_fail_most_tests() -> None:
    """One wrong step (operator, swapped operands, misconception, constant off by one) at a time."""
    rates = []
    for program, tests in drawn(seed=3, count=600):
        right = [part.fill(part.step.code) for part in program.parts]
        for place, part in enumerate(program.parts):
            for wrong in wrong_codes(part):
                body = program.body([*right[:place], wrong, *right[place + 1 :]])
                rates.append(passes(program.starter_code, body, tests))
    assert len(rates) > 1000
    assert max(rates) < 0.7
    assert sum(rates) / len(rates) < 0.2


@pytest.mark.parametrize("body", ["    return None\n", "    return 0\n", "    return []\n", "    return ''\n"])
def test_trivial_bodies_fail(body: str) -> None:
    rates = [passes(p.starter_code or "", body, examples(p)) for p in builtin_problems("heldout")]
    assert max(rates) <= 0.5
    assert sum(rates) / len(rates) < 0.02


def test_returning_the_argument_fails() -> None:
    rates = []
    for problem in builtin_problems("heldout"):
        variable = (problem.starter_code or "").partition("(")[2].partition(")")[0]
        rates.append(passes(problem.starter_code or "", f"    return {variable}\n", examples(problem)))
    assert max(rates) <= 0.25


def test_steps_are_valid_python_and_each_is_used() -> None:
    used = {part.step.code for program, _ in drawn(seed=4, count=4000) for part in program.parts}
    assert used == {step.code for step in STEPS}
    for program, _ in drawn(seed=5, count=300):
        ast.parse(program.starter_code + program.solution)


def test_unreliable_answers_are_right_some_of_the_time_and_less_so_at_higher_levels() -> None:
    rng = random.Random(6)
    by_level: dict[int, list[float]] = {level: [] for level in range(len(LEVELS))}
    for program, tests in drawn(seed=6, count=2000):
        by_level[program.level].append(passes(program.starter_code, unreliable_body(rng, program), tests))
    means = [sum(rates) / len(rates) for rates in by_level.values()]
    assert means == sorted(means, reverse=True)
    assert 0.35 < sum(means) / len(means) < 0.5
    assert means[-1] > 0.1


@pytest.mark.parametrize("arguments", [{"split": "test"}, {"count": 0}, {"split": "heldout", "count": 10_000}])
def test_impossible_requests_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        builtin_problems(**arguments)

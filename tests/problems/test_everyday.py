"""The built-in problems in plain English: sizes, splits that share no kind, tests that tell right from wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from grpo_project.cli import main
from grpo_project.errors import ConfigError
from grpo_project.problems.builtin.everyday import everyday_problems
from grpo_project.problems.problem import LEVELS, Problem
from grpo_project.problems.sets import BUILTIN_SETS, problems_of


def passes(problem: Problem, body: str) -> float:
    """Share of the tests that our own text (never a model's) passes."""
    namespace: dict[str, Any] = {}
    exec(f"{problem.starter_code}{body}", namespace)
    found = [namespace[problem.entry_point](*test.args) == test.expected for test in problem.tests]
    return sum(found) / len(found)


@pytest.mark.parametrize(("split", "least"), [("train", 300), ("heldout", 100)])
def test_splits_are_large_and_every_level_has_its_share(split: str, least: int) -> None:
    problems = everyday_problems(split)
    assert len(problems) >= least
    assert min(Counter(problem.level for problem in problems)[level] for level in LEVELS) >= least / 7
    assert len({problem.id for problem in problems}) == len({problem.prompt for problem in problems}) == len(problems)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_kind_is_in_both_splits(seed: int) -> None:
    train, heldout = everyday_problems("train", seed), everyday_problems("heldout", seed)
    assert not {tag for problem in train for tag in problem.tags} & {tag for problem in heldout for tag in problem.tags}
    assert not {problem.solution for problem in train} & {problem.solution for problem in heldout}


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_solution_passes_and_an_answer_that_knows_nothing_does_not(split: str) -> None:
    for problem in everyday_problems(split):
        assert passes(problem, problem.solution or "") == 1.0, problem.id
        argument = str(problem.starter_code).partition("(")[2].partition(",")[0].partition(")")[0]
        assert passes(problem, f"    return {argument}\n") <= 0.25, problem.id
        for test in problem.tests:
            assert passes(problem, f"    return {test.expected!r}\n") <= 0.625, problem.id


def test_the_seed_decides() -> None:
    assert everyday_problems("train", 1) != everyday_problems("train")


def test_a_built_in_set_is_named_in_place_of_a_file() -> None:
    for name in BUILTIN_SETS:
        assert problems_of(name, "heldout") != problems_of(name, "train")
    with pytest.raises(ConfigError, match=r"no built-in set builtin:else; there are builtin, builtin:verilog"):
        problems_of("builtin:else", "train")


def test_a_built_in_set_brings_its_held_out_problems_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = "--dataset_path builtin:everyday --max_steps 1 --per_device_train_batch_size 4 --num_generations 4"
    assert main(["train", *flags.split(), "--max_completion_length", "8", "--eval_every_n_steps", "0"]) == 0
    said = capsys.readouterr().out
    assert "336 problems (builtin:everyday), held out: 137 (builtin:everyday)" in " ".join(said.split())

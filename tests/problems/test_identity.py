"""Fingerprints and overlap."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from grpo_project.errors import DataError
from grpo_project.problems.identity import check_disjoint, dataset_fingerprint, normalised_prompt, problem_fingerprint
from grpo_project.problems.problem import CallTest, Comparison, Problem

ADD = Problem(id="add", prompt="Add a and b.", tests=(CallTest((1, 2), 3),), entry_point="add", level="foundation")


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "other"},
        {"prompt": "Add."},
        {"tests": (CallTest((1, 2), 3.0),)},
        {"tests": (CallTest((1, 2), True),)},
        {"tests": (CallTest(([1, 2],), 3),)},
        {"tests": (CallTest((1, 2), 3, {"c": 1}),)},
        {"level": "expert"},
        {"starter_code": "def add(a, b):\n"},
        {"time_limit_s": 1.0},
        {"comparison": Comparison(nan_equal=False)},
        {"checker": "def check(): ..."},
        {"tags": ("x",)},
    ],
)
def test_any_change_that_can_change_a_run_changes_the_fingerprint(changes):
    assert problem_fingerprint(replace(ADD, **changes)) != problem_fingerprint(ADD)


def test_reference_solution_and_path_do_not_change_it():
    assert problem_fingerprint(replace(ADD, solution="x", source="elsewhere")) == problem_fingerprint(ADD)


def test_the_order_of_the_problems_counts():
    other = replace(ADD, id="b")
    assert dataset_fingerprint([ADD, other]) != dataset_fingerprint([other, ADD])


def test_sets_print_the_same_in_every_process():
    program = (
        "from grpo_project.problems.identity import problem_fingerprint as f\n"
        "from grpo_project.problems.problem import CallTest, Problem\n"
        "print(f(Problem('a', 'b', (CallTest(({'x', 'y', 'z', ('w', 1)},), {'k': {'p', 'q'}}),))))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1


def test_prompts_are_compared_without_case_and_space():
    assert normalised_prompt(replace(ADD, prompt=" ADD  a\nand b. ")) == normalised_prompt(ADD)
    assert normalised_prompt(replace(ADD, starter_code="def add(a):")) != normalised_prompt(ADD)


def test_overlap_lists_the_ids():
    heldout = [replace(ADD, id=f"held-{i}", prompt=f"Task {i}.") for i in range(20)]
    check_disjoint([ADD], heldout)
    train = [ADD, replace(ADD, id="t1", prompt="task 3."), heldout[5]]
    with pytest.raises(DataError, match=r"2 of 20 evaluation .*: held-3 \(trained on as t1\), held-5; take"):
        check_disjoint(train, heldout)
    with pytest.raises(DataError, match="held-9 and 10 more"):
        check_disjoint(heldout, heldout)

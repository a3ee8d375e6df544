import json

import pytest
from datasets import Dataset, DatasetDict
from judging import make_problems

from grpo_project.errors import DataError
from grpo_project.evaluation.trainer_set import available_problems, problems_of
from grpo_project.problems.formats import load_problems

NATIVE = [
    {"id": "a", "prompt": "Add one.", "entry_point": "f", "level": "expert", "tests": [{"args": [1], "expected": 2}]},
    {"id": "b", "prompt": "Nothing.", "entry_point": "f", "tests": [{"args": [3], "expected": None}]},
    {"id": "c", "prompt": "A tuple.", "entry_point": "f", "tests": [{"args": [4], "expected_literal": "(1, 2)"}]},
]
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "canonical_solution": "    return x\n",
    "test": "def check(candidate):\n    assert candidate(1) == 1\n",
}
MBPP = {
    "task_id": 3,
    "text": "Write a function f that returns its argument.",
    "code": "def f(x):\n    return x",
    "test_list": ["assert f(1) == 1", "assert f(2) == 2"],
    "test_setup_code": "",
    "challenge_test_list": [],
}


def from_file(tmp_path, rows):
    """The same rows as the file reader understands them."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [(p.id, p.prompt, p.tests, p.level, p.entry_point, p.solution) for p in load_problems(path)]


def content(problems):
    return [(p.id, p.prompt, p.tests, p.level, p.entry_point, p.solution) for p in problems]


@pytest.mark.parametrize("rows", [NATIVE, [HUMANEVAL], [MBPP]], ids=["native", "humaneval", "mbpp"])
@pytest.mark.parametrize("arrow", [True, False], ids=["dataset", "list"])
def test_rows_mean_what_they_mean_in_a_file(tmp_path, rows, arrow):
    problems = problems_of(Dataset.from_list(rows) if arrow else rows)
    assert content(problems) == from_file(tmp_path, rows)
    assert {problem.source for problem in problems} == {"eval_dataset"}


def test_columns_of_the_trainer_are_passed_over():
    rows = [{**row, "input_ids": [1, 2], "completion": "x"} for row in NATIVE]
    assert content(problems_of(Dataset.from_list(rows))) == content(problems_of(NATIVE))


def test_several_sets_keep_their_names_and_those_without_tests_are_left_out():
    text = Dataset.from_dict({"text": ["a", "b"]})
    one = DatasetDict({"text": text, "easy": Dataset.from_list(NATIVE)})
    assert [problem.id for problem in problems_of(one)] == ["a", "b", "c"]
    assert {problem.source for problem in problems_of(one)} == {"eval_dataset/easy"}
    two = {"easy": Dataset.from_list(NATIVE), "hard": NATIVE[:1]}
    assert [problem.id for problem in problems_of(two)] == ["easy/a", "easy/b", "easy/c", "hard/a"]


def test_rows_that_carry_a_problem_give_it():
    problems = make_problems(3)
    assert problems_of([{"problem": problem} for problem in problems]) == problems


@pytest.mark.parametrize(
    "dataset",
    [
        None,
        [],
        ["text"],
        Dataset.from_dict({"text": ["a"]}),
        DatasetDict({"test": Dataset.from_dict({"text": ["a"]})}),
        Dataset.from_list(NATIVE).to_iterable_dataset(),
    ],
)
def test_sets_without_tests_hold_no_problems(dataset):
    assert problems_of(dataset) == []


def test_faulty_rows_are_all_named_and_nothing_is_taken():
    rows = [NATIVE[0], NATIVE[0], {"id": "x", "prompt": "", "tests": []}]
    with pytest.raises(DataError) as caught:
        problems_of({"mine": Dataset.from_list(rows)})
    message = str(caught.value)
    assert message.startswith("eval_dataset/mine:")
    assert "row 2, field id: 'a' is the id of an earlier row" in message
    assert "row 3, field tests: is empty" in message


def test_nulls_that_arrow_may_have_put_into_an_object_are_not_guessed_at():
    tests = [{"args": [{"x": 1}], "expected": 1}, {"args": [{"y": 2}], "expected": 2}]
    row = {"id": "a", "prompt": "Sum.", "entry_point": "f", "tests": tests}
    assert problems_of([row])[0].tests[0].args == ({"x": 1},)
    with pytest.raises(DataError, match="write it as args_literal"):
        problems_of(Dataset.from_list([row]))


def test_the_argument_comes_first_then_the_trainers_set_then_the_built_in():
    class Bound:
        eval_dataset = NATIVE

    given = make_problems(2)
    assert available_problems(given, Bound(), evaluates=True).problems == given
    own = available_problems(None, Bound(), evaluates=True)
    assert (content(own.problems), own.unexpected) == (content(problems_of(NATIVE)), False)
    Bound.eval_dataset = Dataset.from_dict({"text": ["a"]})
    without = available_problems(None, Bound(), evaluates=False)
    assert {problem.source for problem in without.problems} == {"builtin"}
    assert without.unexpected
    assert "no rows with tests" in without.reason
    unbound = available_problems(None, None, evaluates=True)
    assert unbound.unexpected
    assert "callback.bind(trainer)" in unbound.reason
    assert not available_problems(None, None, evaluates=False).unexpected

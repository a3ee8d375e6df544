"""Sets in the form that their authors publish: read, and their reference solutions pass while wrong ones don't."""

import gzip
import json

import pytest

from grpo_project.errors import DataError
from grpo_project.problems.formats import load_problems
from grpo_project.problems.problem import AssertTest, CallTest, CaseTest, CheckTest, StdioTest
from grpo_project.verifier import Job, Verifier

PLUS = {
    "task_id": "HumanEval/2",
    "prompt": '\ndef truncate_number(number: float) -> float:\n    """ The decimal part. """\n',
    "contract": "\n    assert number > 0\n",
    "entry_point": "truncate_number",
    "canonical_solution": "    return number % 1.0\n",
    "base_input": [[3.5], [1.33]],
    "plus_input": [[n + 0.25] for n in range(150)],
    "atol": 1e-6,
}
ZERO = {
    "task_id": "HumanEval/32",
    "prompt": "def poly(xs, x):\n    return sum(c * x ** i for i, c in enumerate(xs))\n\n\n"
    'def find_zero(xs):\n    """ A zero. """\n',
    "contract": "",
    "entry_point": "find_zero",
    "canonical_solution": "    return -xs[0] / xs[1]\n",
    "base_input": [[[1, 2]]],
    "plus_input": [[[-6, 4]]],
    "atol": 1e-4,
}
APPS = {
    "problem_id": 0,
    "question": "Double the number.",
    "solutions": json.dumps(["n = int(input())\nprint(2 * n)\n"]),
    "input_output": json.dumps({"inputs": ["2\n", ["3", ""]], "outputs": ["4\n", ["6"]]}),
    "difficulty": "introductory",
    "url": "https://example.org/0",
    "starter_code": "",
}
FUNCTION = APPS | {
    "problem_id": 1,
    "solutions": json.dumps(["def double(n):\n    return 2 * n\n"]),
    "input_output": json.dumps({"fn_name": "double", "inputs": [[2], [3]], "outputs": [[4], 6]}),
}
METHOD = APPS | {
    "problem_id": 2,
    "solutions": json.dumps(["class Solution:\n    def double(self, n):\n        return 2 * n\n"]),
    "input_output": json.dumps({"fn_name": "double", "inputs": [[2], [3]], "outputs": [4, 6]}),
    "starter_code": "\nclass Solution:\n    def double(self, n: int) -> int:\n        ",
}
CONTEST = {
    "name": "1_A. Double",
    "description": "Double the number.",
    "public_tests": {"input": ["2\n"], "output": ["4\n"]},
    "private_tests": {"input": ["3\n"], "output": ["6\n"]},
    "generated_tests": {"input": ["5\n"], "output": ["10\n"]},
    "source": 2,
    "difficulty": 7,
    "solutions": {"language": [2, 3], "solution": ["int main() {}", "print(2 * int(input()))\nexit()"]},
    "incorrect_solutions": {"language": [3], "solution": ["print(4)"]},
    "time_limit": {"seconds": 1, "nanos": 500000000},
    "memory_limit_bytes": 256000000,
}
BIG = {
    "task_id": "BigCodeBench/0",
    "complete_prompt": 'import random\ndef task_func(xs):\n    """ The largest. """\n',
    "instruct_prompt": "Write it.",
    "canonical_solution": "    return max(xs)\n",
    "code_prompt": "import random\ndef task_func(xs):\n",
    "test": "import unittest\nclass TestCases(unittest.TestCase):\n    def test_case_1(self):\n"
    "        self.assertEqual(task_func([1, 3, 2]), 3)\n    def test_case_2(self):\n"
    "        with self.assertRaises(ValueError):\n            task_func([])\n",
    "entry_point": "task_func",
    "doc_struct": "{}",
    "libs": "['random']",
}
EXERCISE = {
    "id": "two-fer",
    "prompt": "Two-fer.",
    "entry_point": "two_fer",
    "solution": "def two_fer(name='you'):\n    return f'One for {name}.'\n",
    "tests": [
        {
            "unittest": "import unittest\nfrom two_fer import two_fer\nclass T(unittest.TestCase):\n"
            "    def test_a(self):\n        self.assertEqual(two_fer(), 'One for you.')\n    def test_b(self):\n"
            "        self.assertEqual(two_fer('Al'), 'One for Al.')\n",
            "module": "two_fer",
        }
    ],
}
SETS = {
    "humaneval+": ([PLUS, ZERO], CheckTest, (3, 2), "    return 0.5\n"),
    "apps": ([APPS], StdioTest, (2,), "print(4)"),
    "apps, a function": ([FUNCTION], CallTest, (2,), "def double(n):\n    return 4"),
    "taco, a method": ([METHOD], AssertTest, (2,), "class Solution:\n    def double(self, n):\n        return 4"),
    "codecontests": ([CONTEST], StdioTest, (3,), "print(4)"),
    "bigcodebench": ([BIG], CaseTest, (2,), "    return 3"),
    "exercism": ([EXERCISE], CaseTest, (2,), "def two_fer(*a):\n    return 'One for you.'"),
}


@pytest.mark.parametrize("name", SETS)
def test_references_pass_and_a_wrong_program_does_not(name, tmp_path):
    rows, kind, counts, wrong = SETS[name]
    path = tmp_path / "set.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    problems = load_problems(path)
    assert [len(problem.tests) for problem in problems] == list(counts)
    assert {type(test) for problem in problems for test in problem.tests} == {kind}
    with Verifier(workers=1) as verifier:
        verdicts = verifier.verify_many([Job(p, f"~~~~python\n{p.solution}\n~~~~") for p in problems])
        assert [verdict.message for verdict in verdicts if not verdict.solved or verdict.weak] == []
        verdicts = verifier.verify_many([Job(p, f"~~~~python\n{wrong}\n~~~~") for p in problems])
        assert not any(verdict.solved for verdict in verdicts)


def test_any_zero_is_right_and_a_far_float_is_not(tmp_path):
    path = tmp_path / "plus.jsonl"
    path.write_text(json.dumps(ZERO) + "\n" + json.dumps(PLUS))
    zero, part = load_problems(path)
    with Verifier(workers=1) as verifier:
        assert verifier.verify(Job(zero, "    return -xs[0] / xs[1] + 1e-6")).solved
        assert not verifier.verify(Job(zero, "    return -xs[0] / xs[1] + 1e-2")).solved
        assert verifier.verify(Job(part, "    return number - int(number) + 1e-9")).solved
        assert not verifier.verify(Job(part, "    return number - int(number) + 1e-3")).solved


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (APPS | {"input_output": "{"}, "input_output"),
        (APPS | {"input_output": json.dumps({"inputs": ["1"], "outputs": []})}, "as many outputs"),
        (CONTEST | {"private_tests": [1]}, "private_tests"),
        (BIG | {"test": "x = 1"}, "no case"),
        ({k: v for k, v in PLUS.items() if k != "atol"}, "atol"),
    ],
)
def test_a_row_that_can_t_be_judged_is_told(row, told, tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=told):
        load_problems(path)

"""The native format's rules, one fault a case, and what the files of HumanEval and MBPP become."""

import json
import os
from pathlib import Path

import pytest
from problem_rows import error_of, problem, write

from grpo_project.problems.formats import load_problems
from grpo_project.problems.problem import AssertTest, CheckTest

CALL = {"args": [1], "expected": 2}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": True}, "field id: is true or false, not a string"),
        ({"prompt": None}, "field prompt: is missing"),
        ({"prompt": " "}, "field prompt: is empty"),
        ({"prompt": "\ud800"}, "field prompt: holds half of a surrogate pair"),
        ({"tests": ...}, "field tests: is missing"),
        ({"tests": {}}, "field tests: is an object, not a list"),
        ({"tests": [3]}, "field tests[0]: is a number, not an object"),
        ({"tests": [{}]}, "field tests[0]: is empty"),
        ({"tests": [CALL]}, "field entry_point: is missing, and the tests call a function"),
        ({"entry_point": "a.b"}, "field entry_point: 'a.b' is not a Python name"),
        ({"entry_point": "class"}, "field entry_point: 'class' is not a Python name"),
        ({"language": "pyton"}, "field language: 'pyton' is not a language here; known are python, verilog"),
        ({"level": "expart"}, "field level: 'expart' is not a level; did you mean 'expert'?"),
        ({"level": 3}, "field level: 3 is not a level"),
        ({"complexity": 10.5}, "field complexity: is 10.5; give a number from 0 to 10"),
        ({"complexity": True}, "field complexity: is true or false, not a number"),
        ({"complexity": "3"}, "field complexity: is a string, not a number"),
        ({"time_limit_s": 0}, "field time_limit_s: is 0"),
        ({"memory_limit_mb": 1.5}, "field memory_limit_mb: is 1.5; give a whole number"),
        ({"tags": "x"}, "field tags: is not a list of strings"),
        ({"compare": {"tolerance": 1}}, "field compare.tolerance: is not a choice of comparison"),
        ({"compare": {"float_tolerance": -1}}, "field compare.float_tolerance: is -1"),
        ({"compare": {"nan_equal": 1}}, "field compare.nan_equal: is a number"),
        ({"compare": 1e-6}, "field compare: is a number, not an object"),
        ({"checker": "def verify(): pass"}, "field checker: does not define check()"),
        ({"checker": "def check(:"}, "field checker: is not Python"),
        ({"solutions": "x"}, "field solutions: is not a field of this format; did you mean 'solution'?"),
        ({"tests": [{"assert": "assert f("}]}, "field tests[0].assert: is not Python"),
        ({"tests": [{"assert": "f(\0)"}]}, "field tests[0].assert: is not Python"),
        ({"tests": [{"assert": "f(1) == 2"}]}, "field tests[0].assert: asserts nothing"),
        ({"tests": [{"stdin": "1"}]}, "field tests[0].stdout: is missing"),
        ({"tests": [{"stdin": "1", "stdout": 1}]}, "field tests[0].stdout: is a number, not a string"),
        ({"tests": [{"check": "assert 1"}], "entry_point": "f"}, "field tests[0].check: does not define check()"),
        ({"tests": [{"input": [1], "expected": 2}], "entry_point": "f"}, "field tests[0].input: is not a field"),
        ({"tests": [CALL | {"stdin": ""}], "entry_point": "f"}, "field tests[0]: mixes fields of call and stdin"),
        ({"tests": [{"args": [1]}], "entry_point": "f"}, "field tests[0].expected: is missing"),
        ({"tests": [{"args": 1, "expected": 2}], "entry_point": "f"}, "field tests[0].args: is not a list"),
        ({"tests": [CALL | {"kwargs": {"a b": 1}}], "entry_point": "f"}, "field tests[0].kwargs: is not an object"),
        ({"tests": [CALL | {"expected_literal": "1"}], "entry_point": "f"}, "expected_literal: stands beside expected"),
        ({"tests": [{"expected_literal": "f(1)"}], "entry_point": "f"}, "'f(1)' is not a Python literal"),
        ({"tests": [{"expected_literal": 1}], "entry_point": "f"}, "expected_literal: is a number, not a string"),
        ({"tests": [CALL, {"assert": "assert f(1)"}], "entry_point": "f"}, "mixes call tests with assert tests"),
    ],
)
def test_a_fault_names_the_field(tmp_path, changes, expected):
    assert expected in error_of(write(tmp_path, problem(**changes)))


def test_null_leaves_an_optional_field_out(tmp_path):
    names = ("level", "complexity", "entry_point", "solution", "tags", "compare", "checker", "time_limit_s")
    (loaded,) = load_problems(write(tmp_path, problem(**dict.fromkeys(names))))
    assert (loaded.level, loaded.tags, loaded.time_limit_s) == ("unknown", (), 2.0)


def test_humaneval_as_published():
    shared = os.environ.get("GRPO_SHARED_DATA")
    if not shared:
        pytest.skip("GRPO_SHARED_DATA does not name a folder with HumanEval.jsonl.gz")
    problems = load_problems(Path(shared) / "HumanEval.jsonl.gz")
    assert len(problems) == 164
    first = problems[0]
    assert (first.id, first.entry_point, first.level) == ("HumanEval/0", "has_close_elements", "unknown")
    assert all(isinstance(p.tests[0], CheckTest) and len(p.tests) == 1 for p in problems)
    for p in problems:
        compile(p.prompt + p.solution, p.id, "exec")


def test_a_humaneval_row(tmp_path):
    row = {
        "task_id": "HumanEval/0",
        "prompt": 'def add(a, b):\n    """Add."""\n',
        "entry_point": "add",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    }
    (loaded,) = load_problems(write(tmp_path, row))
    assert (loaded.prompt, loaded.starter_code, loaded.solution) == (row["prompt"], None, row["canonical_solution"])
    assert loaded.tests == (CheckTest(row["test"]),)
    message = error_of(write(tmp_path, row, {**row, "task_id": "HumanEval/1", "plus_input": []}, {"task_id": "x"}))
    assert "row 2, field plus_input: is not a field of HumanEval as published" in message
    assert "row 3, field canonical_solution: is missing in a HumanEval row" in message


MBPP = {
    "text": "Write a python function to double a number.",
    "code": "import math\r\ndef half(x):\r\n  return x\r\ndef double(x):\r\n\treturn 2 * half(x)",
    "task_id": 11,
    "test_setup_code": "",
    "test_list": ["assert set(double([1])) == {1}", "assert double(3) == 6"],
    "challenge_test_list": ["assert double(100) == 200"],
}
SANITIZED = {
    "source_file": "Benchmark Questions Verification V2.ipynb",
    "task_id": 2,
    "prompt": "Write a function to halve.",
    "code": "def halve(x):\n  return x / 2",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(halve(3), 1.5, rel_tol=0.001)"],
}


def test_mbpp_as_published(tmp_path):
    (full,) = load_problems(write(tmp_path, MBPP))
    assert (full.id, full.entry_point, full.solution) == ("MBPP/11", "double", MBPP["code"])
    assert full.tests == tuple(AssertTest(source) for source in MBPP["test_list"])
    assert full.prompt == f"{MBPP['text']}\nYour code should pass this test:\n{MBPP['test_list'][0]}"
    path = tmp_path / "sanitized.json"
    path.write_text(json.dumps([SANITIZED]))
    (clean,) = load_problems(path)
    assert clean.entry_point == "halve"
    assert clean.tests == (AssertTest(f"import math\n{SANITIZED['test_list'][0]}"),)


def test_mbpp_rows_with_faults(tmp_path):
    rows = [MBPP, MBPP | {"task_id": 12, "test_list": []}, MBPP | {"task_id": 13, "test_list": "x"}, MBPP | {"test": 1}]
    message = error_of(write(tmp_path, *rows))
    assert "row 2, field tests: is empty" in message
    assert "row 3, field test_list: is a string, which MBPP as published never has" in message
    assert "row 4, field test: is not a field of MBPP as published" in message


def test_the_documented_problems_load(tmp_path):
    document = (Path(__file__).parents[2] / "docs" / "problem-format.md").read_text(encoding="utf-8")
    examples = [block.split("```")[0] for block in document.split("```json\n")[1:]]
    rows = [json.loads(block) for block in examples if block.startswith("{")]
    assert len(rows) == 5
    options = json.loads("{" + ",".join(block for block in examples if not block.startswith("{")) + "}")
    assert set(options) == {"compare", "checker", "tests"}
    (file,) = options.pop("tests")
    file["unittest"] = file["unittest"].replace("...", "\n    def test_one(self): self.assertEqual(two_fer(), 'One')")
    rows.append(rows[0] | {"id": "options"} | options)
    rows.append(rows[0] | {"id": "test file", "tests": [file]})
    assert [p.id for p in load_problems(write(tmp_path, *rows))] == [row["id"] for row in rows]

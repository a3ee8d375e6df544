"""Files as people have them: tables, other names of columns, ids or none, metadata, LeetCode's sets, conversion."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from grpo_project.cli import main
from grpo_project.errors import ConfigError, DataError
from grpo_project.problems.formats import load_problems
from grpo_project.problems.problem import AssertTest, CallTest
from grpo_project.problems.rows import parse_columns
from grpo_project.verifier import Job, Verifier

ROW = {"prompt": "Add a and b.", "entry_point": "add", "tests": [{"args": [1, 2], "expected": 3}]}
LEETCODE = {
    "task_id": "two-sum",
    "question_id": 1,
    "difficulty": "Easy",
    "tags": ["Array"],
    "problem_description": "Given nums and target, return the indices of two numbers that add up to target.",
    "starter_code": "class Solution:\n    def twoSum(self, nums: List[int], target: int) -> List[int]:\n        ",
    "prompt": "from typing import *\n\n",
    "completion": "from typing import *\n\nclass Solution:\n    def twoSum(self, nums, target):\n"
    "        seen = {}\n        for i, x in enumerate(nums):\n            if target - x in seen:\n"
    "                return [seen[target - x], i]\n            seen[x] = i\n",
    "entry_point": "Solution().twoSum",
    "test": "def check(candidate):\n    assert candidate(nums = [3,3],target = 6) == [0,1]\n"
    "    assert candidate(nums = [1,2,4],target = 6) == [1,2]\n",
}


def jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_ids_may_be_left_out_or_be_numbers(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"id": 7, "prompt": "Add x and y."}]
    assert [p.id for p in load_problems(jsonl(tmp_path / "a.jsonl", *rows))] == ["row-1", "7"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([ROW | {"prompt": "加"}]), encoding=encoding)
    assert load_problems(path)[0].prompt == "加"


def test_metadata_become_tags_and_misspelt_fields_are_told(tmp_path: Path) -> None:
    row = ROW | {"source": "book", "year": 2024, "embedding": [0.1, 0.2], "tags": ["sum"]}
    (problem,) = load_problems(jsonl(tmp_path / "a.jsonl", row))
    assert problem.tags == ("sum", "source:book", "year:2024")
    with pytest.raises(DataError, match="field entry_piont: is not a field of this format; did you mean 'entry_point'"):
        load_problems(jsonl(tmp_path / "b.jsonl", {"entry_piont": "add", "prompt": "x", "tests": ROW["tests"]}))


def test_columns_of_other_names(tmp_path: Path) -> None:
    row = {"question": "Add.", "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"], "prompt": "unused"}
    columns = parse_columns("prompt=question,tests=test_list")
    (problem,) = load_problems(jsonl(tmp_path / "a.jsonl", row), columns=columns)
    assert problem.prompt == "Add." and len(problem.tests) == 2
    assert isinstance(problem.tests[0], AssertTest)
    with pytest.raises(ConfigError, match="FIELD=COLUMN"):
        parse_columns("prompt")


def test_parquet_and_csv(tmp_path: Path) -> None:
    rows = [ROW | {"id": f"p{i}", "level": "expert" if i else None} for i in range(2)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["id", "prompt", "entry_point", "tests", "level"])
        writer.writeheader()
        writer.writerows({**row, "tests": json.dumps(row["tests"])} for row in rows)
    for name in ("a.parquet", "a.csv"):
        problems = load_problems(tmp_path / name)
        assert [problem.id for problem in problems] == ["p0", "p1"], name
        assert problems[0].tests == (CallTest((1, 2), 3, {}),) and problems[1].level == "expert"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"PAR1 garbage", "the Parquet file can't be read"),
        ("a.csv", b"id,prompt\n", "is empty"),
        ("a.csv", b"id,prompt\na,b,c\n", "line 2 or so has more cells"),
        ("a.csv", b"\xff\xfe\xff", "as CSV in UTF-8"),
        ("a.csv", b"prompt,tests\nAdd.,[\n", "field tests"),
    ],
)
def test_broken_tables_are_told(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        load_problems(tmp_path / name)


def test_the_hub_is_told_to_be_out_of_reach_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    assert main(["train", "--dataset_name", "org/problems", "--output_dir", "never"]) == 2
    error = capsys.readouterr().err
    assert "hub:org/problems: the data set can't be loaded (HF_HUB_OFFLINE is set)" in error
    assert len(error.splitlines()) == 1
    assert main(["train", "--dataset_name", "a/b", "--dataset", "c.json"]) == 2
    assert "give one" in capsys.readouterr().err


def test_a_leetcode_set_is_judged(tmp_path: Path) -> None:
    (problem,) = load_problems(jsonl(tmp_path / "a.jsonl", LEETCODE))
    assert problem.id == "two-sum" and "difficulty:Easy" in problem.tags and len(problem.tests) == 2
    wrong = "class Solution:\n    def twoSum(self, nums, target):\n        return [0, 1]\n"
    with Verifier(workers=1) as verifier:
        assert verifier.verify(Job(problem, problem.solution or "")).solved
        verdict = verifier.verify(Job(problem, wrong))
    assert not verdict.solved and verdict.passed == 1


def test_convert_writes_what_is_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = jsonl(tmp_path / "in.jsonl", LEETCODE, LEETCODE | {"task_id": "again", "problem_description": "Again."})
    target = tmp_path / "out.jsonl"
    assert main(["convert", str(source), str(target)]) == 0
    assert "2 problems" in capsys.readouterr().out
    assert [p.tests for p in load_problems(target)] == [p.tests for p in load_problems(source)]
    assert main(["convert", str(source), str(target)]) == 2
    assert "exists already" in capsys.readouterr().err

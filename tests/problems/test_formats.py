"""Problem files as a whole: layouts, compression, and files that can't be read."""

import gzip
import json
import logging

import pytest
from problem_rows import error_of, problem, write

from grpo_project.problems.faults import RIGHT_ROW
from grpo_project.problems.formats import load_problems
from grpo_project.problems.problem import AssertTest, CallTest, CheckTest, Comparison, StdioTest

CLIP = {
    "id": "clip-1",
    "prompt": "Clip x to the range lo..hi.",
    "entry_point": "clip",
    "starter_code": "def clip(x, lo, hi):\n",
    "solution": "    return max(lo, min(x, hi))\n",
    "tests": [{"args": [5, 0, 3], "kwargs": {}, "expected": 3}],
    "level": "foundation",
    "complexity": 1.5,
    "tags": ["arithmetic"],
    "verifier": "python",
    "time_limit_s": 2.5,
    "memory_limit_mb": 256,
    "compare": {"float_tolerance": 1e-6, "nan_equal": False, "distinguish_sequences": True},
    "checker": "def check(args, kwargs, got, expected):\n    return got == expected\n",
}


def test_every_field_arrives(tmp_path):
    (clip,) = load_problems(write(tmp_path, CLIP))
    assert clip.tests == (CallTest((5, 0, 3), 3),)
    assert (clip.id, clip.entry_point, clip.level, clip.complexity) == ("clip-1", "clip", "foundation", 1.5)
    assert (clip.starter_code, clip.solution) == (CLIP["starter_code"], CLIP["solution"])
    assert (clip.tags, clip.language, clip.time_limit_s, clip.memory_limit_mb) == (("arithmetic",), "python", 2.5, 256)
    assert clip.comparison == Comparison(float_tolerance=1e-6, nan_equal=False, distinguish_sequences=True)
    assert clip.checker == CLIP["checker"]
    assert clip.source == str(tmp_path / "data.jsonl")


def test_array_lines_and_gzip_of_each_are_told_by_content(tmp_path):
    rows = [problem("a"), problem("b", prompt="Mehr.\u2028Zeilen")]
    array, lines = json.dumps(rows, indent=1), "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"
    for i, text in enumerate((array, lines)):
        for j, data in enumerate((text.encode(), gzip.compress(text.encode()))):
            path = tmp_path / f"misleading{i}{j}.txt"
            path.write_bytes(data)
            assert [p.id for p in load_problems(path)] == ["a", "b"]


def test_each_kind_of_test(tmp_path):
    path = write(
        tmp_path,
        problem("call", entry_point="f", tests=[{"args": [[1]], "kwargs": {"n": 2}, "expected": None}]),
        problem("assert", tests=[{"assert": "import math\nassert f(1) == math.pi"}]),
        problem("stdin", tests=[{"stdin": "5 0 3\n", "stdout": "3\n"}, {"stdin": "", "stdout": ""}]),
        problem("check", entry_point="f", tests=[{"check": "def check(candidate):\n    assert candidate(1)\n"}]),
    )
    call, asserted, stdin, check = (p.tests for p in load_problems(path))
    assert call == (CallTest(([1],), None, {"n": 2}),)
    assert asserted == (AssertTest("import math\nassert f(1) == math.pi"),)
    assert stdin == (StdioTest("5 0 3\n", "3\n"), StdioTest("", ""))
    assert check == (CheckTest("def check(candidate):\n    assert candidate(1)\n"),)


def test_literals_say_what_json_cannot(tmp_path):
    tests = [{"args_literal": "((1, 2), {3})", "expected_literal": "{1: b'x', (2,): 1e999}"}]
    (loaded,) = load_problems(write(tmp_path, problem(entry_point="f", tests=tests)))
    assert loaded.tests[0].args == ((1, 2), {3})
    assert loaded.tests[0].expected == {1: b"x", (2,): float("inf")}


def test_missing_level_is_inferred_and_the_log_says_how_many(tmp_path, caplog):
    rows = [problem(str(c), complexity=c) for c in (0, 1.99, 2, 4, 6, 8, 10)]
    with caplog.at_level(logging.INFO, logger="grpo_project"):
        loaded = load_problems(write(tmp_path, *rows, problem("none"), problem("own", level="expert", complexity=1)))
    levels = ["foundation", "foundation", "elementary", "intermediate", "advanced", "expert", "expert"]
    assert [p.level for p in loaded] == [*levels, "unknown", "expert"]
    assert "inferred the level of 7 of 9 problems from their complexity" in caplog.text
    assert "1 of 9 problems have neither a level nor a complexity" in caplog.text


def test_all_bad_rows_are_told_at_once_with_row_and_field(tmp_path):
    path = write(tmp_path, problem("a"), problem("b", tests=[]), "", problem("a"), problem(True), "{broken", '"text"')
    message = error_of(path)
    assert message.splitlines() == [
        f"{path}: 5 faults in 5 rows, nothing was loaded",
        "  row 2, field tests: is empty; give at least one test, or no solution can be judged",
        "  row 4, field id: 'a' is already the id of row 1; make ids unique",
        "  row 5, field id: is true or false, not a string; put it in quotes",
        "  row 6: is not JSON (Expecting property name enclosed in double quotes, column 2); correct it there",
        '  row 7: is a string, not an object; write {"id": ..., "prompt": ..., "tests": [...]}',
    ]


def test_a_long_list_of_faults_is_capped_and_says_how_many_more(tmp_path):
    message = error_of(write(tmp_path, *[problem(str(i), level=f"l{i}") for i in range(500)]))
    assert "500 faults in 500 rows" in message
    assert message.endswith("... and 480 more")
    assert len(message.splitlines()) == 22


def test_what_is_wrong_with_all_rows_alike_is_one_line(tmp_path):
    rows = [problem(str(i), tests=...) | {"question": f"Do {i}."} for i in range(500)]
    path = write(tmp_path, *rows)
    assert error_of(path) == (
        f"{path}: field tests in 500 rows, first in row 1: is missing; "
        "every problem needs tests (--dataset_columns tests=COLUMN names another column)"
    )
    rows[6]["level"] = "hard"
    message = error_of(write(tmp_path, *rows))
    assert len(message.splitlines()) == 4
    assert "row 7, field level" in message
    assert message.endswith("a right row: " + RIGHT_ROW + " (docs/problem-format.md)")


def test_one_fault_is_one_line(tmp_path):
    path = write(tmp_path, problem(entry_piont="f"))
    assert (
        error_of(path)
        == f"{path}: row 1, field entry_piont: is not a field of this format; did you mean 'entry_point'?"
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"[]", "the array is empty"),
        (b"\xef\xbb\xbf[]", "the array is empty"),
        ("[]".encode("utf-16"), "the array is empty"),
        (b'{"id": "a"}\n{"id": "\xff"}', "line 2 is not UTF-8"),
        (b"\x1f\x8b\x08\x00garbage", "gzip data is damaged"),
        (gzip.compress(b"[" + b" " * 5000 + b"]", mtime=0)[:-9], "gzip data is damaged"),
        (b'{"problems": [],\n "x": 1}', "the file is one JSON object"),
        (b'[{"id": 1}', "row 1: is not JSON (Expecting ',' or ']'"),
        (b"[1 2]", "row 1: is not JSON (Expecting ',' or ']'"),
        (b"[{},]", "a comma after it ends the array"),
        (b"[{}] x", "there is text after the array's end"),
        (b'{"id": "a", "id": "b"}', "the key 'id' appears twice"),
        (b'[{"complexity": 1},\n{"complexity": NaN}]', "row 2: is not JSON that can be read (NaN is no JSON value"),
        (b'{"complexity": ' + b"9" * 5000 + b"}", "row 1: is not JSON that can be read"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"id": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_are_not_problems(tmp_path, data, expected):
    path = tmp_path / "data"
    path.write_bytes(data)
    message = error_of(path)
    assert expected in message
    assert message.startswith(f"{path}: ")


def test_missing_file_and_folder(tmp_path):
    assert error_of(tmp_path / "none.json") == f"{tmp_path / 'none.json'}: there is no such file; check the path"
    assert "is a folder" in error_of(tmp_path)

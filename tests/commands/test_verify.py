"""``grpo verify``: the real command over small problem files, and over HumanEval where it is at hand."""

import gzip
import json
import os
from pathlib import Path

import pytest

from grpo_project.cli import main

SQUARE = {
    "id": "square",
    "prompt": "Square x.",
    "entry_point": "square",
    "solution": "def square(x):\n    return x * x\n",
    "tests": [{"args": [2], "expected": 4}, {"args": [-3], "expected": 9}],
}


@pytest.fixture
def verify(tmp_path, capsys):
    """Run the command over these problems; gives its exit code and what it printed."""

    def run(problems, *flags):
        path = tmp_path / "problems.jsonl"
        path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
        code = main(["verify", str(path), "--verifier_workers", "2", *flags])
        return code, capsys.readouterr()

    return run


def test_right_references_end_with_0(verify):
    code, printed = verify([SQUARE])
    assert code == 0
    assert "1 of 1 passed" in printed.out
    assert "0 weak" in printed.out


def test_a_failing_reference_ends_with_1_and_says_why(verify):
    wrong = SQUARE | {"id": "wrong", "prompt": "Wrong.", "solution": "def square(x):\n    return 4\n"}
    code, printed = verify([SQUARE, wrong])
    assert code == 1
    assert "1 of 2 passed" in printed.out
    assert "square(-3) gave 4, not 9" in printed.out


def test_problems_without_a_solution_are_no_failure(verify):
    bare = {key: value for key, value in SQUARE.items() if key != "solution"}
    code, printed = verify([bare])
    assert code == 0
    assert "1 without a solution" in printed.out


def test_json_is_one_line_a_row_and_nothing_else(verify):
    second = SQUARE | {"id": "second", "prompt": "Again.", "solution": "def square(x):\n    return 0\n"}
    code, printed = verify([second, SQUARE], "--json")
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert code == 1
    assert [(row["id"], row["status"], row["passed"], row["total"]) for row in rows] == [
        ("second", "failed", 0, 2),
        ("square", "passed", 2, 2),
    ]
    assert set(rows[0]) == {"id", "status", "passed", "total", "weak", "cpu_s", "wall_s"}


def test_given_completions_are_judged_in_their_order(verify, tmp_path):
    completions = ["```python\ndef square(x):\n    return x ** 2\n```", "no idea", "def square(x):\n    return 4"]
    given = tmp_path / "given.jsonl"
    given.write_text("".join(json.dumps({"id": "square", "completion": text}) + "\n" for text in completions))
    code, printed = verify([SQUARE], "--json", "--solutions", str(given))
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert code == 0  # a wrong completion is data
    assert [(row["status"], row["passed"]) for row in rows] == [("passed", 2), ("wrong_format", 0), ("failed", 1)]


def test_bad_rows_of_solutions_are_all_named(verify, tmp_path):
    given = tmp_path / "given.jsonl"
    given.write_text('{"id": "other", "completion": "x"}\n{"id": "square"}\nnot json\n')
    code, printed = verify([SQUARE], "--solutions", str(given))
    assert code == 2
    for number in (1, 2, 3):
        assert f"line {number}" in printed.err
    assert printed.out == ""


def test_flaky_slow_trivial_and_duplicate_problems_are_flagged(verify):
    problems = [
        SQUARE,
        SQUARE | {"id": "twin"},
        SQUARE
        | {
            "id": "coin",
            "prompt": "Toss.",
            "entry_point": "toss",
            "solution": "import random\ndef toss(n):\n    return random.random() < 0.5\n",
            "tests": [{"args": [n], "expected": True} for n in range(12)],
        },
        SQUARE
        | {
            "id": "nothing",
            "prompt": "Return nothing.",
            "solution": "def square(x):\n    return None\n",
            "tests": [{"args": [1], "expected": None}],
        },
        SQUARE
        | {
            "id": "crawl",
            "prompt": "Slowly.",
            "time_limit_s": 0.4,
            "tests": [{"args": [2], "expected": 4}],
            "solution": "import time\ndef square(x):\n    end = time.process_time() + 0.25\n"
            "    while time.process_time() < end: pass\n    return x * x\n",
        },
    ]
    _, printed = verify(problems)
    lines = {line.split()[0]: line for line in printed.out.splitlines() if line.strip()}
    assert "duplicate of square" in lines["twin"]
    assert "flaky" in lines["coin"]
    assert "trivial" in lines["nothing"]
    assert "slow" in lines["crawl"]
    assert all(word not in lines["square"] for word in ("flaky", "slow", "trivial", "duplicate"))


def test_selftest_names_the_level_and_holds(capsys):
    assert main(["verify", "--selftest", "--verifier_workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "in force: " in printed
    assert "BROKEN" not in printed


def test_nothing_to_do_is_a_user_error(capsys):
    assert main(["verify"]) == 2
    assert "--selftest" in capsys.readouterr().err


def test_an_unknown_level_is_a_user_error(verify):
    code, printed = verify([SQUARE], "--verifier_isolation", "chroot")
    assert code == 2
    assert "namespaces, landlock, rlimits" in printed.err


@pytest.fixture(scope="module")
def humaneval():
    folder = os.environ.get("GRPO_SHARED_DATA")
    if folder is None:
        pytest.skip("GRPO_SHARED_DATA names no folder with HumanEval.jsonl.gz")
    return Path(folder) / "HumanEval.jsonl.gz"


@pytest.mark.parametrize("isolation", ["namespaces", "landlock"])
def test_every_humaneval_reference_passes_and_no_wrong_program(humaneval, tmp_path, capsys, isolation):
    level = ("--verifier_isolation", isolation)
    assert main(["verify", str(humaneval), "--json", *level]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 164
    assert all(row["status"] == "passed" and not row["weak"] for row in rows)
    ids = [json.loads(line)["task_id"] for line in gzip.decompress(humaneval.read_bytes()).splitlines()]
    for body in ("    return None\n", "    import os\n    os._exit(0)\n"):
        wrong = tmp_path / "wrong.jsonl"
        wrong.write_text("".join(json.dumps({"id": task, "completion": body}) + "\n" for task in ids))
        assert main(["verify", str(humaneval), "--json", "--solutions", str(wrong), *level]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["passed"] for row in rows] == [0] * 164


def test_half_a_surrogate_pair_in_an_exception_is_shown_as_an_escape(verify, tmp_path):
    mirror = SQUARE | {"solution": "def square(x):\n    raise ValueError('\\ud800')\n"}
    code, printed = verify([mirror])
    assert code == 1
    assert "ud800" in printed.out
    code, printed = verify([mirror | {"id": "\u00e9"}], "--json")
    assert json.loads(printed.out)["id"] == "\u00e9"

import json
import os
import re
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from grpo_project.cli import main
from grpo_project.config import embedded_model_path

PROBLEMS = ["--max_problems", "15", "--max_new_tokens", "96"]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def results(folder):
    """What `result.json` says in each evaluation below ``folder``, without times."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]
    return [{name: value for name, value in result.items() if "seconds" not in name} for result in found]


def test_the_built_in_model_evaluated_twice_gives_the_same_numbers(tmp_path, capsys):
    for name in ("a", "b"):
        assert main(["evaluate", *PROBLEMS, "--output", str(tmp_path / name)]) == 0
    (first,), (second,) = results(tmp_path / "a"), results(tmp_path / "b")
    assert first == second
    assert first["eval/source"] == "builtin"
    assert first["eval/problems"] == 15
    assert 0 < first["eval_avg_test_pass_rate"] < 1
    printed = capsys.readouterr().out
    assert f"{first['eval_avg_test_pass_rate']:.3f} [" in printed
    assert "foundation" in printed and "expert" in printed


def test_a_finished_evaluation_is_read_and_not_repeated(tmp_path, capsys):
    command = ["evaluate", *PROBLEMS, "--num_samples", "2", "--k", "1", "2", "--output", str(tmp_path)]
    assert main(command) == 0
    first = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "settings.json"}
    assert main(command) == 0
    second = capsys.readouterr().out
    assert "evaluated before" in second
    rows = [re.findall(r"all .*", text) for text in (first, second)]
    assert rows[0] == rows[1] != []
    assert "pass@2" in second
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "settings.json"}


def test_two_models_are_compared_on_the_same_problems(tmp_path, tiny_model, capsys):
    models = [str(tiny_model), str(embedded_model_path())]
    command = ["evaluate", "--model", *models, "--max_problems", "10", "--max_new_tokens", "64"]
    assert main([*command, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "side by side" in printed
    (line,) = re.findall(r"tests passed .*\+0\.\d+ \[.*\].*", printed)
    assert float(re.findall(r"0\.\d{3}", line)[-1]) < 0.05  # the p-value: random weights solve nothing
    assert len(results(tmp_path)) == 2


HUMANEVAL = {
    "task_id": "Test/0",
    "prompt": 'def add_one(x):\n    """Return x plus one."""\n',
    "entry_point": "add_one",
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}
MBPP = {
    "task_id": 7,
    "text": "Write a function to double a number.",
    "code": "def double(x):\n    return 2 * x",
    "test_list": ["assert double(2) == 4"],
    "test_setup_code": "",
    "challenge_test_list": [],
}


@pytest.mark.parametrize("row", [HUMANEVAL, MBPP], ids=["HumanEval", "MBPP"])
def test_published_files_work_as_they_are_and_greedily(tmp_path, row):
    file = tmp_path / "problems.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert main(["evaluate", "--dataset", str(file), "--output", str(tmp_path / "out"), "--max_new_tokens", "32"]) == 0
    (settings,) = (tmp_path / "out").glob("*/settings.json")
    assert json.loads(settings.read_text())["temperature"] == 0.0
    (records,) = (tmp_path / "out").glob("*/evaluations/*.parquet")
    assert len(pq.read_table(records)) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_samples", "0"], "--num_samples is 0"),
        (["--num_samples", "2", "--temperature", "0"], "greedy completions are all alike"),
        (["--k", "5"], "pass@5 needs"),
        (["--model", "a", "b", "c"], "one model, or two"),
        (["--model", "./no-such-model"], "--model ./no-such-model: there is no such folder"),
        (["--levels", "impossible"], "no evaluation problem has level 'impossible'"),
        (["--dataset", "no-such-file.jsonl"], "no-such-file.jsonl"),
    ],
)
def test_bad_flags_end_with_one_line_and_write_nothing(tmp_path, capsys, flags, message):
    assert main(["evaluate", *flags, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_evaluation_that_was_killed_goes_on_and_ends_with_the_same_numbers(tmp_path):
    command = ["evaluate", *PROBLEMS, "--batch_size", "1"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "grpo_project.cli", *command, "--output", str(tmp_path / "killed")],
        stdout=subprocess.DEVNULL,
    )
    while not any(path.stat().st_size for path in (tmp_path / "killed").glob("*/batches.jsonl")):
        assert killed.poll() is None
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    (batches,) = (tmp_path / "killed").glob("*/batches.jsonl")
    done = batches.read_bytes()
    with batches.open("ab") as file:
        file.write(b'{"batch": 14, "rec')  # a line that the kill tore
    assert results(tmp_path / "killed") == []
    assert main([*command, "--output", str(tmp_path / "killed")]) == 0
    assert main([*command, "--output", str(tmp_path / "whole")]) == 0
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    content = batches.read_bytes()
    assert content.startswith(done)
    assert sorted(json.loads(line)["batch"] for line in content.splitlines()) == list(range(15))


def test_within_a_batch_what_was_generated_is_only_judged_again(tmp_path):
    """The folder of a command that was killed amid its only batch, with six completions kept and a seventh torn."""
    command = ["evaluate", *PROBLEMS, "--temperature", "1", "--output", str(tmp_path)]
    assert main(command) == 0
    (folder,) = tmp_path.iterdir()
    (records,) = folder.glob("evaluations/*.parquet")
    whole = {row["problem_id"]: row["completion"] for row in pq.read_table(records).to_pylist()}
    records.unlink()
    for name in ("evaluations", "result.json", "batches.jsonl"):
        (folder / name).rmdir() if name == "evaluations" else (folder / name).unlink()
    kept = list(whole)[:6]
    lines = [{"problem_id": name, "sample": 0, "text": "# kept", "tokens": 3, "truncated": False} for name in kept]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"problem_id": "torn'
    (folder / "completions.jsonl").write_text(text)
    assert main(command) == 0
    after = {row["problem_id"]: row["completion"] for row in pq.read_table(records).to_pylist()}
    assert after == whole | dict.fromkeys(kept, "# kept")
    assert not (folder / "completions.jsonl").exists()

"""`grpo difficulty` on the embedded model: what it writes, and what it refuses."""

from dataclasses import replace
from itertools import pairwise

import pytest

from grpo_project.cli import main
from grpo_project.problems.formats import load_problems
from grpo_project.problems.native_writer import write_problems
from grpo_project.problems.problem import LEVELS
from grpo_project.problems.quickstart import builtin_problems


@pytest.fixture
def unlabelled(tmp_path):
    path = tmp_path / "problems.jsonl"
    problems = builtin_problems("heldout", count=20)
    write_problems([replace(problem, level="unknown", complexity=None) for problem in problems], path)
    return path


def graded(path, target, *options):
    command = ["difficulty", str(path), "--write", str(target), "--num_samples", "4", "--max_new_tokens", "64"]
    assert main([*command, "--output", str(path.parent / "evaluations"), *options]) == 0
    return load_problems(target)


def test_problems_get_the_difficulty_that_the_model_has_with_them(unlabelled, tmp_path, capsys):
    by_rate = graded(unlabelled, tmp_path / "rate.jsonl")
    assert [p.id for p in by_rate] == [p.id for p in load_problems(unlabelled)]
    possible = [10 * (1 - (solved + 0.5) / 5) for solved in range(5)]
    assert all(min(abs(p.complexity - c) for c in possible) < 0.01 for p in by_rate)
    truth = {p.id: LEVELS.index(p.level) for p in builtin_problems("heldout", count=20)}
    easy = [p.complexity for p in by_rate if truth[p.id] == 0]
    hard = [p.complexity for p in by_rate if truth[p.id] == 4]
    assert sum(easy) / len(easy) < sum(hard) / len(hard)

    by_fifths = graded(unlabelled, tmp_path / "fifths.jsonl", "--levels", "fifths")
    assert "evaluated before" in capsys.readouterr().out
    assert [sum(p.level == level for p in by_fifths) for level in LEVELS] == [4] * 5
    ranges = [[p.complexity for p in by_fifths if p.level == level] for level in LEVELS]
    assert all(max(easier) <= min(harder) for easier, harder in pairwise(ranges))


def test_without_a_file_to_write_it_prints_the_table(unlabelled, tmp_path, capsys):
    command = ["difficulty", str(unlabelled), "--num_samples", "2", "--max_new_tokens", "16"]
    before = sorted(path.name for path in unlabelled.parent.glob("*.json*"))
    assert main([*command, "--output_dir", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    assert "of 2" in printed and "complexity" in printed and "--write FILE" in printed
    assert sorted(path.name for path in unlabelled.parent.glob("*.json*")) == before


def test_nothing_is_overwritten_and_nothing_loaded_in_vain(unlabelled, tmp_path, capsys):
    before = unlabelled.read_bytes()
    assert main(["difficulty", str(unlabelled), "--write", str(unlabelled)]) == 2
    assert main(["difficulty", str(unlabelled), "--write", str(tmp_path / "no" / "x")]) == 2
    assert main(["difficulty", str(tmp_path / "none"), "--write", str(tmp_path / "x")]) == 2
    assert main(["difficulty", str(unlabelled), "--write", str(tmp_path / "x"), "--num_samples", "0"]) == 2
    assert main(["difficulty", str(unlabelled), "--write", str(tmp_path / "x"), "--model", "./none"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert "exists already" in lines[0]
    assert unlabelled.read_bytes() == before
    assert not (tmp_path / "x").exists()

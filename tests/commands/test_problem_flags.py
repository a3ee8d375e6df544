"""Every command that reads problems takes the same names for them, and the same flags."""

import argparse
import importlib
import json

import pytest
from verilog_problems import EVAL_BENCH, XOR

from grpo_project.cli import main
from grpo_project.commands import evaluate


def parsed(name: str, *flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"grpo_project.commands.{name}").add_arguments(parser)
    return parser.parse_args(flags)


@pytest.fixture
def moved(tmp_path):
    """A problem file beside the folder that its paths start from."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bench.sv").write_text(EVAL_BENCH)
    (tmp_path / "data" / "xor.v").write_text(XOR)
    path = tmp_path / "train.jsonl"
    row = {"testbench_path": "bench.sv", "reference_verilog_path": "xor.v", "expected_total_tests": 1}
    path.write_text(json.dumps({"prompt": "Write xor: `TopModule`.", "task_id": "xor", "level": "basic", **row}) + "\n")
    return path


@pytest.mark.parametrize("name", ["verify", "difficulty", "evaluate", "serve"])
def test_a_base_path_is_taken(name, moved):
    named = [str(moved)] if name in ("verify", "difficulty") else ["--dataset", str(moved)]
    args = parsed(name, *named, "--dataset_base_path", str(moved.parent / "data"))
    assert args.dataset_base_path == str(moved.parent / "data")


def test_evaluation_reads_built_in_verilog_and_files_from_a_base_path(moved):
    verilog = evaluate.find_problems(parsed("evaluate", "--dataset", "builtin:verilog", "--max_problems", "5"))
    assert {problem.language for problem in verilog} == {"verilog"}
    base = str(moved.parent / "data")
    (problem,) = evaluate.find_problems(parsed("evaluate", "--dataset", str(moved), "--dataset_base_path", base))
    assert problem.solution == XOR


def test_verify_knows_the_built_in_sets(capsys, tmp_path):
    none = tmp_path / "none.jsonl"
    none.write_text("")
    assert main(["verify", "builtin:verilog", "--solutions", str(none), "--json"]) == 0
    assert main(["verify", "builtin:nothing"]) == 2
    assert "builtin:verilog" in capsys.readouterr().err

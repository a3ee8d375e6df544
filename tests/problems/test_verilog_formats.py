"""Verilog data as it is published: recognised by its content, every fault with its row, field and remedy."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
from problem_rows import error_of
from verilog_problems import ADDER_BENCH, EVAL_BENCH, XOR

from grpo_project.problems.formats import load_problems
from grpo_project.problems.native_writer import native_row
from grpo_project.problems.problem import Bench, BenchTest

GUIDE = {
    "prompt": "Write xor. The module MUST be named `TopModule`.",
    "testbench_path": "benches/xor_testbench.v",
    "reference_verilog_path": "xor.v",
    "expected_total_tests": 4,
    "level": "basic",
    "complexity_score": 1.61,
    "task_id": "bit1_xor",
    "category": "logic",
}


def write_guide(folder: Path, *rows: dict) -> Path:
    (folder / "benches").mkdir(exist_ok=True)
    (folder / "benches" / "xor_testbench.v").write_text(ADDER_BENCH)
    (folder / "xor.v").write_text(XOR)
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_guide_s_manifest(tmp_path):
    (problem,) = load_problems(write_guide(tmp_path, GUIDE))
    assert (problem.id, problem.language, problem.level, problem.complexity) == (
        "bit1_xor",
        "verilog",
        "foundation",
        1.61,
    )
    assert (problem.entry_point, problem.solution, problem.tags) == ("TopModule", XOR, ("logic",))
    assert problem.tests == tuple(BenchTest("case", str(i)) for i in (1, 2, 3, 4))
    assert problem.bench == Bench(ADDER_BENCH)


def test_paths_start_from_the_base_folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    path = write_guide(data, GUIDE)
    moved = tmp_path / "moved.jsonl"
    path.rename(moved)
    assert load_problems(moved, data)[0].solution == XOR
    assert "--dataset_base_path" in error_of(moved)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"testbench_path": "none.v"}, "row 1, field testbench_path"),
        ({"reference_verilog_path": None}, "row 1, field reference_verilog_path: is missing"),
        ({"expected_total_tests": 0}, "row 1, field expected_total_tests: is 0"),
        ({"level": "hard"}, "row 1, field level: 'hard' is not a level"),
        ({"complexity_score": 11}, "row 1, field complexity_score: is 11"),
        ({"prompt": "The module must be named full_adder_2."}, "names the module full_adder_2, and the bench"),
        ({"reference_verilog_path": "benches/xor_testbench.v"}, "the reference defines testbench"),
    ],
)
def test_a_faulty_row_is_named(tmp_path, change, told):
    assert told in error_of(write_guide(tmp_path, {**GUIDE, **change}))


def test_a_bench_that_names_another_module(tmp_path):
    path = write_guide(tmp_path, GUIDE)
    (tmp_path / "xor.v").write_text(XOR.replace("TopModule", "full_adder_2"))
    assert "instantiates TopModule, and the reference defines full_adder_2" in error_of(path)


def test_languages_don_t_mix_unseen(tmp_path):
    path = write_guide(tmp_path, GUIDE, {"id": "py", "prompt": "p", "tests": [{"assert": "assert f()"}]})
    assert "row 2, field testbench_path: is missing" in error_of(path)


def write_eval(folder: Path) -> Path:
    root = folder / "dataset_spec-to-rtl"
    root.mkdir()
    bench, _, reference = EVAL_BENCH.partition("module RefModule")
    (root / "Prob001_xor_prompt.txt").write_text("Implement TopModule.\n")
    (root / "Prob001_xor_test.sv").write_text(bench)
    (root / "Prob001_xor_ref.sv").write_text("module RefModule" + reference)
    return root


def test_verilog_eval_as_folder_and_archive(tmp_path):
    root = write_eval(tmp_path)
    archive = tmp_path / "eval.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(root, "eval/dataset_spec-to-rtl")
    for path in (root, tmp_path, archive):
        (problem,) = load_problems(path)
        assert (problem.id, problem.entry_point) == ("Prob001_xor", "TopModule")
        assert problem.tests == (BenchTest("output", "q"),)
        assert "module TopModule" in problem.solution
    (root / "Prob001_xor_ifc.txt").write_text("module TopModule (input a, input b, output q);\n")
    assert load_problems(root)[0].starter_code.startswith("module TopModule")
    (root / "Prob001_xor_ref.sv").unlink()
    assert "Prob001_xor_ref.sv is missing" in error_of(root)


def test_the_published_verilog_eval():
    shared = os.environ.get("GRPO_SHARED_DATA")
    path = Path(shared or "") / "verilog-eval-spec-to-rtl.tar.gz"
    if shared is None or not path.exists():
        pytest.skip("GRPO_SHARED_DATA does not name a folder with verilog-eval-spec-to-rtl.tar.gz")
    problems = load_problems(path)
    assert len(problems) == 156
    assert problems[29].id == "Prob030_popcount255"
    assert all(problem.tests for problem in problems)


def test_rtllm_renames_the_reference_and_takes_data_files(tmp_path):
    folder = tmp_path / "Arithmetic" / "Other Things" / "xor gate"
    folder.mkdir(parents=True)
    bench = (
        'module tb; TopModule u(); initial begin $readmemh("in.dat", m); $display("%d /20 failures", e); end endmodule'
    )
    (folder / "design_description.txt").write_text("Write TopModule.")
    (folder / "testbench.v").write_text(bench)
    (folder / "verified_TopModule.v").write_text(XOR.replace("TopModule", "verified_TopModule"))
    (folder / "in.dat").write_text("1\n")
    (problem,) = load_problems(tmp_path)
    assert (problem.id, problem.entry_point, problem.solution) == ("xor gate", "TopModule", XOR)
    assert len(problem.tests) == 20
    assert problem.bench.files == (("in.dat", "1\n"),)


def test_codev(tmp_path):
    golden = {"code": XOR, "clock_port_polarity": [], "reset_port_polarity_sync": []}
    row = {"prompt": [{"role": "user", "content": "xor"}], "reward_model": {"ground_truth": {"answer": golden}}}
    path = tmp_path / "codev.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (problem,) = load_problems(path)
    assert (problem.prompt, problem.entry_point, len(problem.tests)) == ("xor", "TopModule", 10)
    assert problem.bench.testbench is None


def test_the_native_format_and_back(tmp_path):
    row = {"id": "x", "prompt": "xor", "language": "verilog", "testbench": ADDER_BENCH, "reference": XOR, "cases": 4}
    path = tmp_path / "native.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (problem,) = load_problems(path)
    assert (problem.entry_point, len(problem.tests), problem.time_limit_s) == ("TopModule", 4, 10.0)
    path.write_text(json.dumps(native_row(problem)) + "\n")
    (again,) = load_problems(path)
    assert again == problem
    path.write_text(json.dumps({**row, "module": "other"}) + "\n")
    assert "'other' is not in the reference" in error_of(path)
    path.write_text(json.dumps({"id": "x", "prompt": "xor", "language": "verilog"}) + "\n")
    assert "field module: is missing" in error_of(path)

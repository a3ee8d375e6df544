"""Several runs beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorded_run import record_run

from grpo_project.cli import main
from grpo_project.errors import ConfigError
from grpo_project.record.run_record import RunRecord
from grpo_project.reports.comparison import compare, crossing
from grpo_project.reports.page_data import open_runs

MAIN = "eval_avg_test_pass_rate"


def test_two_runs_are_compared_on_their_common_problems(tmp_path: Path) -> None:
    weak = record_run(tmp_path / "weak", skill=-0.25, config={"learning_rate": 1e-3})
    strong = record_run(tmp_path / "strong", config={"learning_rate": 2e-3, "output_dir": "elsewhere"})
    found = compare(open_runs([weak, strong]))
    assert found["flags"] == [{"flag": "grpo.learning_rate", "values": [1e-3, 2e-3]}], "names of runs are no difference"
    (pair,) = found["paired"]
    # At the end the strong run passes 4 and 3 of 4 tests of each level's two problems, the weak one 3 and 2.
    assert (pair["problems"], pair["first_mean"], pair["second_mean"]) == (4, 0.625, 0.875)
    assert pair["change"] == pytest.approx(0.25) and pair["low"] < 0.25 < pair["high"]
    assert pair["p"] == 0.125, "two of the sixteen ways to sign four equal differences are as large"
    assert found["averages"] == []


def test_what_a_pass_rate_costs(tmp_path: Path) -> None:
    found = compare(open_runs([record_run(tmp_path / "a"), record_run(tmp_path / "b", skill=-0.5)]))
    half = next(row for row in found["targets"] if row["target"] == 0.5)
    # evaluations at 0, 5, 10, 15, 20 of 0, 0.125, 0.375, 0.625, 0.875: half is met halfway between 10 and 15
    assert half["runs"] == [{"step": 12.5, "seconds": 24.0, "completions": 48}, None]


def test_where_a_curve_meets_a_target() -> None:
    rows = [{"step": step, MAIN: rate} for step, rate in ((0, 0.2), (10, 0.4), (20, 0.3), (30, 0.8))]
    assert crossing(rows, 0.1) == 0
    assert crossing(rows, 0.3) == pytest.approx(5)
    assert crossing(rows, 0.55) == pytest.approx(25)
    assert crossing(rows, 0.9) is None
    assert crossing([], 0.1) is None


def test_seeds_of_one_configuration_are_averaged(tmp_path: Path) -> None:
    runs = [record_run(tmp_path / f"seed{i}", skill=s, config={"seed": i}) for i, s in enumerate((0.0, -0.25))]
    other = record_run(tmp_path / "other", config={"seed": 7, "learning_rate": 5.0})
    (average,) = compare(open_runs([*runs, other]), average=True)["averages"]
    assert average["runs"] == ["seed0", "seed1"]
    assert average["mean"] == [[0, 5, 10, 15, 20], [0.0, 0.0625, 0.25, 0.5, 0.75]]
    assert average["low"][1] == [0.0, 0.0, 0.125, 0.375, 0.625]
    assert average["high"][1] == [0.0, 0.125, 0.375, 0.625, 0.875]
    assert average["levels"].keys() == {"foundation", "expert"}
    with pytest.raises(ConfigError, match="nothing but the seed"):
        compare(open_runs([runs[0], other]), average=True)


def test_runs_are_listed_with_their_state(tmp_path: Path, capsys) -> None:
    record_run(tmp_path / "deep" / "er" / "done")
    killed = record_run(tmp_path / "killed", every=0)
    record = RunRecord.read(killed)
    assert record is not None
    record.content["status"] = "running"
    record.write()
    (tmp_path / "no run").mkdir()
    assert main(["runs", str(tmp_path), "--json"]) == 0
    rows = {Path(row["folder"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == {"done", "killed"}
    done = rows["done"]
    assert (done["status"], done["step"], done["pass_rate"]) == ("finished", 20, 0.875)
    assert done["low"] < 0.875 < done["high"]
    assert (rows["killed"]["status"], rows["killed"]["pass_rate"]) == ("killed", None)
    assert main(["runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "0.875 [0.52, 0.98]" in printed and "deep/er/done" in printed and str(tmp_path) not in printed


def test_a_folder_without_runs_is_refused_in_one_line(tmp_path: Path, capsys) -> None:
    assert main(["runs", str(tmp_path)]) == 2
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    assert "no run in it" in capsys.readouterr().err

"""What a page says against what the journal says, worked out here from the files' lines, without the readers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from recorded_run import record_run

from grpo_project.record.journal import Journal
from grpo_project.reports.curves import bucket_means, smooth, thin
from grpo_project.reports.page import as_json
from grpo_project.reports.page_data import open_runs, run_data
from grpo_project.reports.rollouts import find_suspects

KILLED_TWICE = ((0, 7), (5, 13), (10, 20))


def rows_that_count(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Of each step the row of the newest process start, read line by line."""
    newest: dict[int, dict[str, Any]] = {}
    for line in (folder / "journal" / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["kind"] == kind and row["attempt"] >= newest.get(row["step"], row)["attempt"]:
            newest[row["step"]] = row
    return [newest[step] for step in sorted(newest)]


def test_every_number_of_the_page_is_the_journals(tmp_path: Path) -> None:
    folder = record_run(tmp_path / "run", KILLED_TWICE)
    (reader,) = open_runs([folder])
    page = json.loads(as_json(run_data(reader)))
    train, evaluated = rows_that_count(folder, "train"), rows_that_count(folder, "eval")
    assert [row["step"] for row in train] == list(range(1, 21))
    assert {row["attempt"] for row in train} == {0, 1, 2}

    for name, (steps, values) in page["curves"].items():
        assert list(zip(steps, values, strict=True)) == [
            (r["step"], pytest.approx(r[name], rel=1e-5)) for r in train
        ], name
    numeric = {key for row in train for key, value in row.items() if isinstance(value, float)}
    assert page["curves"].keys() == numeric - {"time"}

    main = "eval_avg_test_pass_rate"
    expected = {"rate": main, "low": f"{main}_low", "high": f"{main}_high"}
    curves = {name: page["held_out"][name] for name in expected}
    for level in ("foundation", "expert"):
        expected[level] = f"eval/{level}/test_pass_rate"
        curves[level] = page["held_out"]["levels"][level]
    expected["pass@1"] = "eval/pass@1"
    curves["pass@1"] = page["held_out"]["pass_at"]["pass@1"]
    for name, (steps, values) in curves.items():
        assert list(zip(steps, values, strict=True)) == [
            (row["step"], pytest.approx(row[expected[name]], rel=1e-5)) for row in evaluated
        ]

    rewards = [row["reward"] for row in train]
    window = page["reward"]["window"]
    means = [sum(part) / len(part) for i in range(20) if (part := rewards[max(0, i + 1 - window) : i + 1])]
    assert page["reward"]["curve"][1] == pytest.approx(means, rel=1e-5)
    assert page["time"] == {"step": [row["step"] for row in train], "whole step": [2.0] * 20}
    # 1,000 tokens in 2 seconds; where a process began there is no step before to compare with
    assert page["tokens_per_second"] == [[s for s in range(2, 21) if s not in (6, 11)], [500.0] * 17]

    assert page["time_in_all"] == "In all 40 s in steps, 8 s in 5 evaluations."
    starts = [(a["from"], a["kept"], a["seen"], a["how"]) for a in page["attempts"]]
    assert starts == [(0, 5, 7, "killed"), (5, 10, 13, "killed"), (10, 20, 20, "finished")]
    first, last = evaluated[0], evaluated[-1]
    rate = "{:.2f} [{:.2f}, {:.2f}]"
    before, after = (rate.format(row[main], row[f"{main}_low"], row[f"{main}_high"]) for row in (first, last))
    assert page["sentence"] == (
        f"Held-out pass rate {before} to {after} in 20 steps; 2 interruptions, 5 steps done again, 0 steps lost"
    )
    tiles = {tile["label"]: tile for tile in page["tiles"]}
    assert tiles["Held-out pass rate"]["value"] == f"{last[main]:.3f}"
    assert f"{last['eval/change_since_first']:+.3f}" in tiles["Held-out pass rate"]["detail"]
    assert tiles["Training reward"]["value"] == f"{sum(rewards) / 20:.3f}"
    assert tiles["Step"]["value"] == "20 of 20"
    assert [(s["stage"], s["start"], s["end"]) for s in page["stages"]] == [
        ("foundation", 0, 10),
        ("elementary", 10, 20),
    ]


def test_completions_are_counted_once_after_kills(tmp_path: Path) -> None:
    (reader,) = open_runs([record_run(tmp_path / "run", KILLED_TWICE)])
    found = run_data(reader)["completions"]
    assert found["count"] == 20 * 4, "those of superseded steps are left out"
    groups = found["outcomes_of_groups"]
    assert groups["step"] == list(range(1, 21))
    assert groups["hopeless"] == [float(step < 4) for step in range(1, 21)]
    assert groups["mixed"] == [float(4 <= step < 16) for step in range(1, 21)]
    assert groups["solved"] == [float(step >= 16) for step in range(1, 21)]
    assert found["outcomes"]["passed"] == [min(4, step // 4) / 4 for step in range(1, 21)]
    assert [len(group["completions"]) for group in found["groups"]] == [4] * len(found["groups"])
    mixed = next(group for group in found["groups"] if group["sort"] == "mixed")
    wrong = mixed["completions"][-1]
    assert wrong["failing"] == {"status": "failed", "message": "", "input": "f(41)", "expected": "42", "got": "41"}


def test_the_grid_has_each_problem_at_each_evaluation(tmp_path: Path) -> None:
    (reader,) = open_runs([record_run(tmp_path / "run")])
    grid = run_data(reader)["grid"]
    assert grid["steps"] == [0, 5, 10, 15, 20]
    assert grid["problems"] == ["foundation-0", "foundation-1", "expert-0", "expert-1"]
    cells = {(grid["steps"][x], grid["problems"][y]): value for x, y, value in grid["cells"]}
    assert cells[0, "foundation-0"] == 0.0 and cells[10, "foundation-0"] == 0.5 and cells[20, "expert-1"] == 0.75
    assert len(cells) == 20
    assert grid["details"]["expert-0"]["last"]["step"] == 20


def test_a_run_without_evaluations_and_samples_has_a_page(tmp_path: Path) -> None:
    (reader,) = open_runs([record_run(tmp_path / "run", ((0, 1),), every=0, samples=False)])
    data = run_data(reader)
    assert data["held_out"] is None and data["completions"] is None and data["grid"] is None
    assert data["sentence"] == "No held-out evaluation in 1 step; 0 interruptions"


def test_where_reward_and_held_out_part_is_marked(tmp_path: Path) -> None:
    folder = record_run(tmp_path / "run")
    with Journal(folder, 1) as journal:
        journal.event("resumed", step=20)
        journal.event("alarm", step=20, kind="reward_without_learning", cause="From step 5 to 20 ...", remedy="Look.")
    (reader,) = open_runs([folder])
    data = run_data(reader)
    assert data["divergence"] == [{"start": 5, "end": 20, "text": "From step 5 to 20 ..."}]
    assert data["alarms"][0] == {
        "step": 20,
        "kind": "reward_without_learning",
        "cause": "From step 5 to 20 ...",
        "remedy": "Look.",
    }


def test_thinning_keeps_the_ends_and_every_extreme() -> None:
    generator = random.Random(0)
    points = [(step, generator.random()) for step in range(100_000)]
    points[31_415] = (31_415, 50.0)
    points[27_182] = (27_182, -50.0)
    thinned = thin(points, 600)
    assert len(thinned) <= 600 and thinned == sorted(thinned)
    assert {points[0], points[-1], (31_415, 50.0), (27_182, -50.0)} <= set(thinned)
    assert set(thinned) <= set(points)
    assert thin(points[:500], 600) == points[:500]


def test_many_evaluations_are_thinned_by_the_same_steps(tmp_path: Path) -> None:
    folder = record_run(tmp_path / "run", ((0, 2),), every=1, samples=False)
    last = rows_that_count(folder, "eval")[-1]
    with Journal(folder, 1) as journal:
        journal.event("resumed", step=2)
        for step in range(3, 2000):
            own = {"attempt", "step", "time", "kind"}
            journal.metrics(step, "eval", {name: value for name, value in last.items() if name not in own})
    (reader,) = open_runs([folder])
    held_out = run_data(reader)["held_out"]
    steps = held_out["rate"][0]
    assert len(steps) <= 500 and steps[0] == 0 and steps[-1] == 1999
    assert steps == held_out["low"][0] == held_out["levels"]["expert"][0]


def test_means_over_buckets_and_windows() -> None:
    rows = [{"step": step, "a": float(step)} for step in range(1, 9)] + [{"step": 9}]
    assert bucket_means(rows, ["a"], limit=3) == {"step": [3, 6, 9], "a": [2.0, 5.0, 5.0]}
    assert smooth([(1, 1.0), (2, 3.0), (3, 8.0)], 2) == [(1, 1.0), (2, 2.0), (3, 5.5)]


def test_suspects_are_programs_that_hold_their_tests_or_are_far_too_short() -> None:
    tests = [
        {"status": "passed", "message": "", "input": f"f({i})", "expected": str(70 + i), "got": ""} for i in range(3)
    ]

    def row(code: str, prompt: str = "Add 70.", status: str = "passed") -> dict[str, Any]:
        return {"problem_id": "p", "status": status, "code": code, "prompt": prompt, "tests": tests, "step": 1}

    honest = [row(f"def f(x):\n    # {i}\n    total = x + 70\n    return total") for i in range(4)]
    learned = row("def f(x):\n    return {0: 70, 1: 71, 2: 72}[x]")
    short = row("f=70 .__add__")
    found = find_suspects([*honest, learned, row(learned["code"], status="failed"), short])
    assert [suspect["index"] for suspect in found] == [4, 6]
    assert found[0]["signs"] == ["holds what 2 of its tests expect: 71, 72"], "70 stands in the prompt"
    assert "13 characters" in found[1]["signs"][0]
    assert not find_suspects([row("return 711 + a72 + 1.71")]), "parts of other numbers and names"

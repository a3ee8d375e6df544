"""What a run is trained and evaluated on where only one file is given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from grpo_project.config import Configuration, parse_configuration
from grpo_project.problems.native_writer import write_problems
from grpo_project.problems.quickstart import builtin_problems
from grpo_project.record.journal import Journal
from grpo_project.record.run_record import RunRecord
from grpo_project.training.plan import RunPlan, make_plan


def configuration(folder: Path, *flags: str) -> Configuration:
    return parse_configuration(["--output_dir", str(folder / "run"), "--use_cpu", *flags])


def own_file(folder: Path, count: int) -> list[str]:
    """A file of problems that are not the built-in ones, as flags."""
    path = folder / "own.jsonl"
    own = [replace(p, id=f"own-{p.id}", prompt=f"Mine: {p.prompt}") for p in builtin_problems("train", count=count)]
    write_problems(own, str(path))
    return ["--dataset_path", str(path)]


def record_of(plan: RunPlan) -> RunRecord:
    """What a start with this plan leaves behind that made a step."""
    plan.output_dir.mkdir()
    with Journal(plan.output_dir, 0) as journal:
        journal.event("started", step=0)
        journal.metrics(1, "train", {"loss": 0.5})
    sets = {"train": plan.train.describe(), "heldout": plan.heldout.describe()}
    record = RunRecord.create(plan.output_dir, plan.configuration.to_dict(), sets)
    record.write()
    return record


def ids(problems) -> set[str]:
    return {problem.id for problem in problems}


def test_a_part_of_the_only_file_is_held_out(tmp_path: Path) -> None:
    plan = make_plan(configuration(tmp_path, *own_file(tmp_path, 400)))
    assert (len(plan.train.problems), len(plan.heldout.problems)) == (380, 20)
    assert not ids(plan.train.problems) & ids(plan.heldout.problems)
    assert plan.source.problems == plan.train.problems
    assert plan.heldout.describe()["split"] == {"share": 0.05, "seed": 42}
    assert plan.heldout.source == plan.train.source
    assert plan.notes == ()


def test_a_run_keeps_the_parts_that_it_was_started_with(tmp_path: Path) -> None:
    file = own_file(tmp_path, 400)
    first = make_plan(configuration(tmp_path, *file, "--enable_curriculum", "false"))
    record_of(first)
    other = tmp_path / "other.jsonl"
    write_problems(builtin_problems("heldout", count=30), str(other))
    for flags in ((), ("--eval_split", "0.2")):
        again = make_plan(configuration(tmp_path, *file, "--enable_curriculum", "false", *flags))
        assert again.train.fingerprint == first.train.fingerprint
        assert again.heldout.fingerprint == first.heldout.fingerprint
    given = make_plan(configuration(tmp_path, *file, "--enable_curriculum", "false", "--eval_dataset_path", str(other)))
    assert given.train.fingerprint == first.train.fingerprint
    assert len(given.heldout.problems) == 30


def test_a_run_of_before_there_were_parts_goes_on_with_the_whole_file(tmp_path: Path) -> None:
    file = own_file(tmp_path, 400)
    record = record_of(make_plan(configuration(tmp_path, *file, "--eval_split", "0")))
    del record.content["config"]["run"]["eval_split"]
    record.write()
    plan = make_plan(configuration(tmp_path, *file))
    assert len(plan.train.problems) == 400
    assert plan.heldout.source == "builtin"


@pytest.mark.parametrize(("count", "flags"), [(63, ()), (400, ("--eval_split", "0"))])
def test_built_in_problems_are_the_last_resort_and_said_aloud(
    tmp_path: Path, count: int, flags: tuple[str, ...]
) -> None:
    plan = make_plan(configuration(tmp_path, *own_file(tmp_path, count), *flags))
    assert (len(plan.train.problems), plan.heldout.source) == (count, "builtin")
    (note,) = plan.notes
    assert note.startswith("EVALUATIONS ARE ON THE BUILT-IN PROBLEMS")
    quiet = make_plan(configuration(tmp_path, *own_file(tmp_path, count), *flags, "--eval_every_n_steps", "0"))
    assert quiet.notes == ()


def test_a_file_for_it_is_taken_as_it_is(tmp_path: Path) -> None:
    heldout = tmp_path / "heldout.jsonl"
    write_problems(builtin_problems("heldout", count=30), str(heldout))
    plan = make_plan(configuration(tmp_path, *own_file(tmp_path, 400), "--eval_dataset_path", str(heldout)))
    assert (len(plan.train.problems), len(plan.heldout.problems)) == (400, 30)
    assert "split" not in plan.heldout.describe()
    assert json.dumps(plan.heldout.describe())

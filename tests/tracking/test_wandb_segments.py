"""Which W&B run an attempt belongs to, and which rows that run gets."""

from dataclasses import replace

import pytest

from grpo_project.errors import TrackingError
from grpo_project.record.journal import Journal
from grpo_project.record.run_directory import RunPaths
from grpo_project.tracking.segments import (
    SegmentRows,
    adopt_segments,
    choose_policy,
    plan_segment,
    read_segments,
    record_segment,
    segment_rows,
)


def attempt(folder, number, resume_step, steps, policy="new", environment=None, **options):
    """One process start: its event, its W&B run, its rows (value: 100 x attempt + step)."""
    with Journal(folder, number) as journal:
        journal.event("resumed" if number else "started", resume_step)
        options = {"project": "p", "name": "n", "config": {"lr": 1}, **options}
        segment = plan_segment(folder, number, resume_step, policy, environment=environment or {}, **options)
        record_segment(folder, number, segment)
        for step in steps:
            journal.metrics(step, "train", {"value": 100 * number + step})
    return segment


def sent(folder, segment, **options):
    rows = segment_rows(folder, segment, **options)
    return [(row.step, row.values["value"]) for row in [*rows.poll(1000), *rows.close()]]


def test_new_segments_share_a_group_and_name_their_parent(tmp_path):
    first = attempt(tmp_path, 0, 0, range(1, 6))
    second = attempt(tmp_path, 1, 3, range(4, 9))
    assert second.run_id != first.run_id
    assert (second.group, second.name, second.parent_id, second.branch_step) == (
        first.group,
        "n-attempt1",
        first.run_id,
        3,
    )
    assert second.config == {"lr": 1, "parent_run_id": first.run_id, "branch_step": 3}
    segments = read_segments(tmp_path)
    assert [sent(tmp_path, segment) for segment in segments] == [
        [(step, step) for step in range(1, 6)],
        [(step, 100 + step) for step in range(4, 9)],
    ]


def test_the_same_run_gets_each_step_of_the_newest_attempt(tmp_path):
    first = attempt(tmp_path, 0, 0, range(1, 6))
    second = attempt(tmp_path, 1, 3, range(4, 9), "same")
    assert second.run_id == first.run_id
    (segment,) = read_segments(tmp_path)
    assert segment.attempts == [0, 1]
    assert sent(tmp_path, segment) == [(1, 1), (2, 2), (3, 3), *((step, 100 + step) for step in range(4, 9))]


def test_steps_that_were_delivered_already_are_not_sent_again(tmp_path):
    attempt(tmp_path, 0, 0, range(1, 6))
    attempt(tmp_path, 1, 3, range(4, 9), "same")
    (segment,) = read_segments(tmp_path)
    assert sent(tmp_path, segment, number=5, after=5) == [(6, 106), (7, 107), (8, 108)]


def test_all_kinds_of_a_step_are_one_row_and_the_last_step_waits(tmp_path):
    with Journal(tmp_path, 0) as journal:
        rows = SegmentRows(RunPaths(tmp_path).metrics, [0], {})
        journal.metrics(1, "train", {"loss": 1})
        journal.metrics(1, "eval", {"pass": 0.5})
        assert rows.poll(10) == []
        journal.metrics(2, "train", {"loss": 2, "step": 7})
        (row,) = rows.poll(10)
        assert (row.step, row.number, row.values) == (1, 1, {"loss": 1, "pass": 0.5})
        assert rows.open_rows == 1
        (row,) = rows.close()
        assert (row.step, row.number, row.values) == (2, 2, {"loss": 2, "step": 7})


def test_reading_goes_on_from_any_rows_restart(tmp_path):
    with Journal(tmp_path, 0) as journal:
        for step in range(1, 6):
            journal.metrics(step, "train", {"value": step})
            journal.metrics(step, "eval", {"other": step})
    paths = RunPaths(tmp_path)
    whole = SegmentRows(paths.metrics, [0], {})
    rows = [*whole.poll(10), *whole.close()]
    for row in rows:
        rest = SegmentRows(paths.metrics, [0], {}, offset=row.restart, number=row.number, after=row.step)
        assert [*rest.poll(10), *rest.close()] == rows[row.number :]


def test_a_row_for_a_step_that_is_complete_is_counted_not_sent(tmp_path):
    with Journal(tmp_path, 0) as journal:
        for step in (1, 2, 1, 3):
            journal.metrics(step, "train", {"value": step})
    rows = SegmentRows(RunPaths(tmp_path).metrics, [0], {})
    assert [row.step for row in [*rows.poll(10), *rows.close()]] == [1, 2, 3]
    assert rows.late == 1


@pytest.mark.parametrize(
    ("asked", "force_new", "environment", "policy"),
    [
        (None, False, {}, "new"),
        ("same", False, {"WANDB_RESUME": "never"}, "same"),
        (None, False, {"WANDB_RESUME": "allow"}, "same"),
        (None, False, {"WANDB_RUN_ID": "job7"}, "same"),
        (None, False, {"WANDB_RUN_ID": "job7", "WANDB_RESUME": "never"}, "new"),
        ("same", True, {"WANDB_RUN_ID": "job7"}, "new"),
    ],
)
def test_precedence_of_policies(asked, force_new, environment, policy):
    assert choose_policy(asked, force_new, environment) == policy


def test_an_unknown_policy_is_an_error():
    with pytest.raises(TrackingError, match="--wandb_resume is 'continue'; it can be new or same"):
        choose_policy("continue", False, {})
    with pytest.raises(TrackingError, match="WANDB_RESUME is 'perhaps'"):
        choose_policy(None, False, {"WANDB_RESUME": "perhaps"})


@pytest.mark.parametrize("policy", ["fork", "rewind"])
def test_a_policy_that_is_gone_is_one_line_and_runs_that_had_it_go_on(tmp_path, policy):
    with pytest.raises(
        TrackingError, match=f"'{policy}', which was a preview of W&B's and is no longer offered; it can"
    ):
        choose_policy(policy, True, {})
    first = attempt(tmp_path, 0, 0, range(1, 6))
    with Journal(tmp_path, 1) as journal:
        journal.event("resumed", 3)
        record_segment(tmp_path, 1, replace(first, policy=policy, branch_step=3))
    (segment,) = read_segments(tmp_path)
    assert (segment.policy, segment.attempts) == ({"fork": "new", "rewind": "same"}[policy], [0, 1])


def test_the_environment_names_run_project_entity_and_group(tmp_path):
    environment = {"WANDB_RUN_ID": "job7", "WANDB_PROJECT": "q", "WANDB_ENTITY": "team", "WANDB_RUN_GROUP": "g"}
    first = attempt(tmp_path, 0, 0, [1], environment=environment, project=None)
    assert (first.run_id, first.project, first.entity, first.group) == ("job7", "q", "team", "g")
    # A new segment can't have the id of its parent, and --force_new_wandb_run ignores the id altogether.
    assert attempt(tmp_path, 1, 1, [2], environment=environment).run_id == "job7-1"
    forced = attempt(tmp_path, 2, 2, [3], environment=environment, force_new=True).run_id
    assert not forced.startswith("job7")


def test_an_id_of_another_run_is_followed(tmp_path):
    attempt(tmp_path, 0, 0, [1], "same", environment={"WANDB_RUN_ID": "job7"})
    assert attempt(tmp_path, 1, 1, [2], "same", environment={"WANDB_RUN_ID": "job7"}).run_id == "job7"
    other = attempt(tmp_path, 2, 2, [3], "same", environment={"WANDB_RUN_ID": "job8"})
    assert (other.run_id, other.policy, other.parent_id) == ("job8", "new", "job7")


def test_untracked_attempts_are_adopted_as_one_run(tmp_path):
    for number, resumed in ((0, 0), (1, 3)):
        with Journal(tmp_path, number) as journal:
            journal.event("resumed", resumed)
            for step in range(resumed + 1, resumed + 6):
                journal.metrics(step, "train", {"value": 100 * number + step})
    adopt_segments(tmp_path, "q", set())
    (segment,) = read_segments(tmp_path)
    assert (segment.project, segment.attempts) == ("q", [0, 1])
    assert [step for step, _ in sent(tmp_path, segment)] == list(range(1, 9))


def test_the_project_changes_only_before_the_first_upload(tmp_path):
    first = attempt(tmp_path, 0, 0, [1])
    adopt_segments(tmp_path, "elsewhere", {first.run_id})
    assert read_segments(tmp_path)[0].project == "p"
    adopt_segments(tmp_path, "elsewhere", set())
    assert read_segments(tmp_path)[0].project == "elsewhere"

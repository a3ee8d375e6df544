"""The state file and the backup: made from the journal, so that losing or breaking them loses nothing."""

import json

import pytest

from grpo_project.record.journal import Journal
from grpo_project.tracking.segments import plan_segment, read_segments, record_segment
from grpo_project.tracking.state import SyncState, read_state, sync_status, write_backup, write_state


@pytest.fixture
def tracked(tmp_path):
    """Two segments: steps 1 to 5, and 4 to 8 of an attempt that resumed from step 3."""
    for number, resume_step, steps in ((0, 0, range(1, 6)), (1, 3, range(4, 9))):
        with Journal(tmp_path, number) as journal:
            journal.event("resumed" if number else "started", resume_step)
            segment = plan_segment(
                tmp_path, number, resume_step, "new", project="p", name="n", config={}, environment={}
            )
            record_segment(tmp_path, number, segment)
            for step in steps:
                journal.metrics(step, "train", {"value": 100 * number + step})
    return tmp_path


def confirm(folder, index, row, step):
    """Note that the server has ``row`` rows of a segment, up to ``step``."""
    state = read_state(folder)
    segment = state.of(read_segments(folder)[index])
    segment.confirmed, segment.confirmed_step = row, step
    write_state(folder, state)


def backup(folder, **options):
    write_backup(folder, read_segments(folder), read_state(folder), **options)
    return {path.name: json.loads(path.read_text()) for path in sorted((folder / "wandb_backup").glob("*"))}


def test_pending_is_counted_from_the_journal(tracked):
    status = sync_status(tracked)
    assert [(segment["rows"], segment["pending"]) for segment in status["segments"]] == [(5, 5), (5, 5)]
    confirm(tracked, 0, 5, 5)
    confirm(tracked, 1, 2, 5)
    status = sync_status(tracked)
    assert (status["rows"], status["confirmed"], status["pending"]) == (10, 7, 3)


def test_the_backup_holds_each_pending_step_of_the_newest_segment(tracked):
    kept = backup(tracked)
    assert list(kept) == [f"step_{step:06d}.json" for step in range(1, 9)]
    assert kept["step_000003.json"]["data"] == {"value": 3}
    assert kept["step_000004.json"]["data"] == {"value": 104}
    assert kept["step_000004.json"]["run_id"] == read_segments(tracked)[1].run_id


def test_files_go_when_the_server_has_confirmed_their_steps(tracked):
    backup(tracked)
    confirm(tracked, 0, 5, 5)
    confirm(tracked, 1, 4, 7)
    assert list(backup(tracked)) == ["step_000008.json"]
    confirm(tracked, 1, 5, 8)
    assert backup(tracked) == {}
    assert not (tracked / "wandb_backup").exists()


def test_a_foreign_file_in_the_backup_folder_is_left_alone(tracked):
    backup(tracked)
    (tracked / "wandb_backup" / "notes.txt").write_text('"mine"')
    confirm(tracked, 0, 5, 5)
    confirm(tracked, 1, 5, 8)
    assert list(backup(tracked)) == ["notes.txt"]


def test_the_backup_is_bounded(tracked):
    assert len(backup(tracked, limit=3)) == 3


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"segments": 3}', b'{"segments": {"a": {}}}', b"\xff"]
)
def test_a_damaged_state_file_is_as_good_as_none(tmp_path, content):
    (tmp_path / "wandb_sync_state.json").write_bytes(content)
    assert read_state(tmp_path) == SyncState()


def test_a_state_of_another_version_keeps_what_is_known(tmp_path):
    told = {"mode": "online", "later": 1, "segments": {"a": {"run_id": "a", "confirmed": 4, "later": 1}}}
    (tmp_path / "wandb_sync_state.json").write_text(json.dumps(told))
    state = read_state(tmp_path)
    assert (state.mode, state.segments["a"].confirmed) == ("online", 4)

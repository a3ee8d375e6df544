"""A journal with damaged lines: readers pass over them, and neither a start nor the delivery stops for one."""

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_project.record.journal import Journal, next_attempt
from grpo_project.record.run_directory import Run
from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log
from grpo_project.tracking.segments import read_segments, segment_rows
from grpo_project.tracking.state import read_state, sync_status, write_backup

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["step", "a"]), inner, max_size=2),
    max_leaves=3,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two tracked attempts: steps 1 to 5, and 4 to 8 of one that resumed from step 3."""
    root = tmp_path_factory.mktemp("whole")
    for resume_step, steps in ((None, range(1, 6)), (3, range(4, 9))):
        manager = initialize_wandb_sync_manager(root, "p", "n", mode="offline", resume_step=resume_step)
        for step in steps:
            safe_wandb_log({"value": step, "step": 7}, step)
        manager.finish()
    return root


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_line_of_a_journal_stops_a_reader_a_start_or_the_delivery(tmp_path_factory, whole, data):
    root = tmp_path_factory.mktemp("damaged")
    shutil.copytree(whole, root, dirs_exist_ok=True)
    path = root / "journal" / data.draw(st.sampled_from(["metrics.jsonl", "events.jsonl"]))
    lines = path.read_bytes().splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    how = data.draw(st.sampled_from(["field", "field", "gone", "flip", "cut", "garbage", "twice"]))
    if how == "field":
        row = json.loads(lines[at])
        row[data.draw(st.sampled_from([*row, "_values"]))] = data.draw(JSON)
        lines[at] = json.dumps(row, separators=(",", ":")).encode() + b"\n"
    elif how == "gone":
        row = json.loads(lines[at])
        del row[data.draw(st.sampled_from(sorted(row)))]
        lines[at] = json.dumps(row, separators=(",", ":")).encode() + b"\n"
    elif how == "flip":
        place = data.draw(st.integers(0, len(lines[at]) - 1))
        lines[at] = lines[at][:place] + bytes([data.draw(st.integers(0, 255))]) + lines[at][place + 1 :]
    elif how == "cut":
        lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
    else:
        lines[at:at] = [lines[at]] if how == "twice" else [data.draw(st.binary(max_size=40)) + b"\n"]
    path.write_bytes(b"".join(lines))

    run = Run.open(root)
    rows = run.metrics()
    if how in ("cut", "garbage", "flip") and path.name == "metrics.jsonl":
        assert len(rows) >= 8 - 2  # the line itself, and the one that it may be glued to
    assert [len(run.events()), run.attempts, run.last_step, run.damage]
    assert next_attempt(root) >= 0
    for segment in read_segments(root):
        reader = segment_rows(root, segment)
        steps = [row.step for row in [*reader.poll(100), *reader.close()]]
        assert steps == sorted(set(steps))
    status = sync_status(root)
    assert status["state"] == "offline"
    write_backup(root, read_segments(root), read_state(root))
    manager = initialize_wandb_sync_manager(root, "p", "n", mode="offline", resume_step=8)
    assert safe_wandb_log({"value": 9}, 9) is False
    manager.finish()
    assert Run.open(root).metrics()[-1]["step"] >= 9
    Journal(root, next_attempt(root)).close()

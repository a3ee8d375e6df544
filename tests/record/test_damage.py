"""Whatever lies in samples/, evaluations/ or run.json: a start is never blocked by what is kept for people."""

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_project.errors import CheckpointError
from grpo_project.record.evaluations import CompletionRecord, EvaluationStore, read_evaluations
from grpo_project.record.journal import Journal
from grpo_project.record.run_directory import Run
from grpo_project.record.run_record import RunRecord
from grpo_project.record.samples import SampleStore, read_samples
from grpo_project.verifier.verdict import Status, Verdict


def fill(root):
    """A sealed shard (steps 1 to 3), an open tail of two lines (4, 5), two evaluations; the journal of it all."""
    verdict = Verdict("", "p", Status.PASSED, 1, 1)
    with Journal(root, 0) as journal:
        journal.event("started", step=0)
        store = SampleStore(root, 0, keep=80)  # shards of 10 rows
        for step in range(1, 6):
            store.append(step, [{"problem_id": str(i), "completion": "text", "tests": []} for i in range(4)])
        for step in (3, 5):
            record = CompletionRecord("p", "e", "s", 0, "Write.", "x", 1, False, verdict)
            EvaluationStore(root, 0).write(step, [record])
        RunRecord.create(root, {"grpo": {"max_steps": 5}}, {"train": {}}).begin_attempt(0, None, 0)
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("whole"))


def damaged(path, how, place, data):
    """``how`` at the share ``place`` (0 to 1) of the file."""
    content = path.read_bytes()
    at = int(place * len(content))
    path.write_bytes(
        {
            "truncated": content[:at],
            "flipped": content[:at] + bytes([(content[at % len(content)] ^ 0x20)]) + content[at + 1 :],
            "garbage": data,
            "inserted": content[:at] + data + content[at:],
            "line": content + data + b"\n",
        }[how]
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["step", "tests", "x"]), inner),
    max_leaves=4,
)
PIECES = st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 5000)


@settings(deadline=None, max_examples=60)
@given(
    which=st.integers(0, 3),
    how=st.sampled_from(["truncated", "flipped", "garbage", "inserted", "line"]),
    place=st.floats(0, 0.999),
    data=PIECES,
)
def test_no_damage_keeps_a_run_from_going_on(tmp_path_factory, whole, which, how, place, data):
    root = tmp_path_factory.mktemp("damaged")
    shutil.copytree(whole, root, dirs_exist_ok=True)
    files = sorted([*(root / "samples").glob("*.*"), *(root / "evaluations").glob("*.*")])
    assert len(files) == 4
    victim = files[which]
    damaged(victim, how, place, data)
    kept = {"s": len(read_samples(root)), "e": len(read_evaluations(root))}
    with Journal(root, 1) as journal, SampleStore(root, 1, keep=80) as store:
        journal.event("resumed", step=5)
        store.append(7, [{"problem_id": "new"}])
        EvaluationStore(root, 1).write(7, [])
    rows = read_samples(root)
    assert rows["step"].to_pylist()[-1] == 7
    others = {".jsonl": 12, ".parquet": 8}[victim.suffix] if victim.parent.name == "samples" else 20
    assert len(rows) >= others + 1
    assert len(rows) <= kept["s"] + 1
    assert len(read_evaluations(root)) >= (1 if victim.parent.name == "evaluations" else 2)
    names = [event["file"] for event in Run.open(root).events("record_set_aside")]
    assert names == ([f"samples/{victim.name}"] if (root / "samples/damaged").exists() else [])
    assert [path.name for path in (root / "samples").glob("damaged/*")] == [victim.name] * len(names)


def test_a_truncated_shard_and_a_line_that_is_none_are_set_aside_by_name(tmp_path, caplog):
    fill(tmp_path)
    shard, tail = tmp_path / "samples/a000_000000.parquet", tmp_path / "samples/a000_000001.jsonl"
    shard.write_bytes(shard.read_bytes()[:100])
    tail.write_bytes(b"not json\n" + tail.read_bytes())
    SampleStore(tmp_path, 1).close()
    assert f"{shard} can't be read" in caplog.text
    assert f"set aside as {tmp_path / 'samples/damaged' / tail.name}" in caplog.text
    assert sorted(set(read_samples(tmp_path)["step"].to_pylist())) == [4, 5]
    assert [event["file"] for event in Run.open(tmp_path).events("record_set_aside")] == [
        "samples/a000_000000.parquet",
        "samples/a000_000001.jsonl",
    ]
    reasons = [event["reason"] for event in Run.open(tmp_path).events("record_set_aside")]
    assert reasons[1].startswith("line 1: JSONDecodeError")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_run_json_of_any_shape_is_one_line_or_can_be_read(tmp_path_factory, whole, data):
    content = json.loads((whole / "run.json").read_text())
    replaced = data.draw(JSON) if data.draw(st.booleans()) else None
    if replaced is None:
        place = content
        while True:  # somewhere in the record, another value, or none
            key = data.draw(st.sampled_from(sorted(place)))
            if isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
                place = place[key]
                continue
            if data.draw(st.booleans()):
                del place[key]
            else:
                place[key] = data.draw(JSON)
            break
        replaced = content
    root = tmp_path_factory.mktemp("run")
    (root / "run.json").write_text(json.dumps(replaced))
    try:
        record = RunRecord.read(root)
        assert isinstance(record.content["config"], dict)
        record.begin_attempt(1, 3, 5)
        record.end_attempt("finished", 6)
        assert record.training_data["fingerprint"]
    except CheckpointError as error:
        assert "\n" not in str(error)
        assert str(root / "run.json") in str(error)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '"run"', "\x00", '{"run_id": 3}', "[" * 100_000])
def test_what_is_no_record_is_named_with_the_reason(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"run\.json can't be read \(.*\)\. Restore it, or start anew in another"):
        RunRecord.read(tmp_path)

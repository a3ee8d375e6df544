import json
import os
import random
import signal
import subprocess
import sys
import time

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from grpo_project.record.journal import Journal
from grpo_project.record.samples import SampleStore, read_samples


def row(problem_id="p", completion="def f(): pass", **columns):
    test = {"status": "failed", "message": "differs", "input": "f(1)", "expected": "2", "got": "None", "cpu_s": 0.01}
    return {
        "problem_id": problem_id,
        "level": "foundation",
        "prompt": "Write f.",
        "completion": completion,
        "code": completion,
        "status": "failed",
        "passed": 0,
        "total": 1,
        "tests": [test],
        "message": "",
        "weak": False,
        "cpu_s": 0.01,
        "reward": 0.0,
        "rewards": {"pass_rate": 0.0, "mine": None},
        "advantage": -0.5,
        **columns,
    }


def keys(table):
    return list(
        zip(table["attempt"].to_pylist(), table["step"].to_pylist(), table["problem_id"].to_pylist(), strict=True)
    )


def test_rows_come_back_as_they_were_before_and_after_sealing(tmp_path):
    with SampleStore(tmp_path, 0) as store:
        store.append(1, [row("a"), row("b", code=None, tests=[])])
        unsealed = read_samples(tmp_path).to_pylist(maps_as_pydicts="strict")
    sealed = read_samples(tmp_path).to_pylist(maps_as_pydicts="strict")
    assert (
        unsealed
        == sealed
        == [{"attempt": 0, "step": 1, **row("a")}, {"attempt": 0, "step": 1, **row("b", code=None, tests=[])}]
    )
    assert [path.suffix for path in (tmp_path / "samples").iterdir()] == [".parquet"]


def test_an_unknown_column_is_refused(tmp_path):
    with SampleStore(tmp_path, 0) as store, pytest.raises(ValueError, match=r"unknown columns.*colour"):
        store.append(1, [row(colour="red")])


def test_text_without_utf8_form_is_kept_as_an_escape(tmp_path):
    with SampleStore(tmp_path, 0) as store:
        store.append(1, [row(completion="x = '\ud800'")])
    assert read_samples(tmp_path)["completion"].to_pylist() == ["x = '\\ud800'"]


def test_a_full_tail_becomes_a_shard_that_is_never_written_again(tmp_path):
    with SampleStore(tmp_path, 0, keep=80) as store:  # shards of 10 rows
        store.append(1, [row(str(i)) for i in range(10)])
        (shard,) = (tmp_path / "samples").glob("*.parquet")
        before = shard.read_bytes()
        for step in range(2, 6):
            store.append(step, [row(str(i)) for i in range(7)])
    assert shard.read_bytes() == before
    assert len(read_samples(tmp_path)) == 10 + 4 * 7


def test_old_rows_go_and_as_many_as_asked_for_stay(tmp_path):
    with SampleStore(tmp_path, 0, keep=40) as store:
        for step in range(1, 101):
            store.append(step, [row(str(i)) for i in range(4)])
            steps = read_samples(tmp_path)["step"].to_pylist()
            assert min(4 * step, 40) <= len(steps) <= 40 + 2 * 8
            assert max(steps) == step
    assert steps == sorted(steps)


def test_nothing_goes_without_a_limit(tmp_path):
    with SampleStore(tmp_path, 0, keep=0) as store:
        for step in range(1, 40):
            store.append(step, [row(str(i)) for i in range(300)])
    assert len(read_samples(tmp_path)) == 39 * 300


def write_tail(folder, *, then_seal):
    """Two steps; returns the tail's path and content as they were while the store was open."""
    with SampleStore(folder, 0) as store:
        store.append(1, [row("a")])
        store.append(2, [row("b")])
        (tail,) = (folder / "samples").glob("*.jsonl")
        content = tail.read_bytes()
    if not then_seal:
        tail.with_suffix(".parquet").unlink()
    return tail, content


def test_a_torn_last_line_is_passed_over_and_the_tail_is_sealed_by_the_next_attempt(tmp_path):
    tail, content = write_tail(tmp_path, then_seal=False)
    tail.write_bytes(content[:-20])
    assert keys(read_samples(tmp_path)) == [(0, 1, "a")]
    SampleStore(tmp_path, 1).close()
    assert [path.suffix for path in (tmp_path / "samples").iterdir()] == [".parquet"]
    assert keys(read_samples(tmp_path)) == [(0, 1, "a")]


def test_a_tail_left_beside_its_shard_does_not_count_twice(tmp_path):
    tail, content = write_tail(tmp_path, then_seal=True)
    tail.write_bytes(content)  # killed after the shard was written and before the tail was removed
    assert keys(read_samples(tmp_path)) == [(0, 1, "a"), (0, 2, "b")]
    SampleStore(tmp_path, 1).close()
    assert not tail.exists()
    assert keys(read_samples(tmp_path)) == [(0, 1, "a"), (0, 2, "b")]


def test_rows_beyond_the_resumed_step_are_superseded_as_the_journal_says(tmp_path):
    for attempt, (resumed, steps) in enumerate([(0, [1, 2, 3, 4]), (2, [3, 4, 5]), (4, [])]):
        with Journal(tmp_path, attempt) as journal, SampleStore(tmp_path, attempt) as store:
            journal.event("resumed" if attempt else "started", step=resumed)
            for step in steps:
                store.append(step, [row("a"), row("b")])
    assert keys(read_samples(tmp_path)) == [(a, s, p) for a, s in [(0, 1), (0, 2), (1, 3), (1, 4)] for p in "ab"]
    assert len(read_samples(tmp_path, only_canonical=False)) == 14


def test_without_a_journal_the_first_step_of_an_attempt_tells_what_it_supersedes(tmp_path):
    for attempt, steps in enumerate([[1, 2, 3], [2]]):
        with SampleStore(tmp_path, attempt) as store:
            for step in steps:
                store.append(step, [row()])
    assert keys(read_samples(tmp_path)) == [(0, 1, "p"), (1, 2, "p")]


def test_a_filter_does_not_bring_superseded_rows_back(tmp_path):
    for attempt, status in enumerate(["passed", "failed"]):
        with SampleStore(tmp_path, attempt) as store:
            store.append(1, [row(status=status)])
    assert len(read_samples(tmp_path, where=pc.field("status") == "passed")) == 0
    assert len(read_samples(tmp_path, where=pc.field("status") == "failed")) == 1


def test_shards_are_ordinary_parquet(tmp_path):
    with SampleStore(tmp_path, 0) as store:
        store.append(1, [row()])
    (shard,) = (tmp_path / "samples").glob("*.parquet")
    assert pq.read_table(shard)["tests"].to_pylist()[0][0]["expected"] == "2"


WRITER = """
import json, sys
from grpo_project.record.samples import SampleStore
folder, attempt, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(sys.argv[4]) as file:
    rows = json.load(file)
store = SampleStore(folder, attempt, keep=400)
for step in range(first, first + 2000):
    store.append(step, rows)
    print(step, flush=True)
"""


def test_sigkill_at_random_moments_loses_at_most_the_running_step(tmp_path):
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([row(str(i), completion="x" * 2000) for i in range(5)]))
    chance, first = random.Random(5), 1
    for attempt in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(attempt), str(first), str(rows)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        confirmed = [int(writer.stdout.readline()) for _ in range(chance.randint(5, 60))]
        time.sleep(chance.uniform(0, 0.01))
        os.kill(writer.pid, signal.SIGKILL)
        confirmed += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        writer.stdout.close()
        steps = read_samples(tmp_path)["step"].to_pylist()
        counts = {step: steps.count(step) for step in set(steps)}
        assert set(counts.values()) == {5}
        newest = [step for step in confirmed if step > confirmed[-1] - 60]
        assert set(newest) <= counts.keys()
        assert max(counts) - confirmed[-1] in (0, 1)
        first = max(counts) + 1

"""The journal and its reader: real files, a real SIGKILL, a real full disk."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from grpo_project.errors import ConfigError, JournalError
from grpo_project.record.journal import Journal, next_attempt
from grpo_project.record.json_line import Histogram, Table
from grpo_project.record.run_directory import Run, put_aside_run


def steps(rows):
    return [row["step"] for row in rows]


def write_attempt(folder, attempt, resume_step, rows, kind="train"):
    with Journal(folder, attempt) as journal:
        journal.event("resumed" if attempt else "started", resume_step)
        for step, value in rows:
            journal.metrics(step, kind, {"value": value})


def test_a_row_comes_back_as_it_was_written(tmp_path):
    with Journal(tmp_path, 0) as journal:
        journal.metrics(3, "train", {"loss": 0.5, "tokens": 7, "note": "ok", "flag": True, "nothing": None})
    (row,) = Run.open(tmp_path).metrics()
    assert (row["attempt"], row["step"], row["kind"]) == (0, 3, "train")
    assert (row["loss"], row["tokens"], row["note"], row["flag"], row["nothing"]) == (0.5, 7, "ok", True, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(2**40), 2**40),
        (np.bool_(True), True),
        (np.array([1, 2]), [1, 2]),
        (torch.tensor(0.25), 0.25),
        (torch.tensor(0.25, dtype=torch.bfloat16), 0.25),
        (torch.tensor([1.0, 2.0]), [1.0, 2.0]),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
        (np.float32("-inf"), -math.inf),
        ({"a": [math.inf, 1]}, {"a": [math.inf, 1]}),
        ("\ud800 lone surrogate, 中文", "\ud800 lone surrogate, 中文"),
        (Table(["a", "b"], [[1, "x"]]), {"_type": "table", "columns": ["a", "b"], "rows": [[1, "x"]]}),
        (Histogram([1, 2], [0, 1, 2]), {"_type": "histogram", "counts": [1, 2], "edges": [0, 1, 2]}),
    ],
)
def test_every_kind_of_value_is_kept(tmp_path, value, expected):
    with Journal(tmp_path, 0) as journal:
        journal.metrics(1, "train", {"value": value})
    (row,) = Run.open(tmp_path).metrics()
    assert row["value"] == expected
    assert type(row["value"]) is type(expected)


def test_nan_is_kept_and_the_line_is_strict_json(tmp_path):
    with Journal(tmp_path, 0) as journal:
        journal.metrics(1, "train", {"value": torch.tensor(math.nan)})

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads((tmp_path / "journal/metrics.jsonl").read_text(), parse_constant=refuse)
    assert math.isnan(Run.open(tmp_path).metrics()[0]["value"])


def test_a_metric_named_like_a_field_of_the_row_is_kept_apart(tmp_path):
    with Journal(tmp_path, 0) as journal:
        journal.metrics(5, "train", {"step": 99, "time": 1.5, "loss": 2.0})
    (row,) = Run.open(tmp_path).metrics()
    assert row["step"] == 5
    assert row["_values"] == {"step": 99, "time": 1.5}


def test_a_value_that_cannot_be_recorded_is_named_and_nothing_is_written(tmp_path):
    with Journal(tmp_path, 0) as journal:
        with pytest.raises(TypeError, match=r"builtins\.complex"):
            journal.metrics(1, "train", {"loss": 1.0, "bad": 1j})
        with pytest.raises(ValueError, match="0 or more"):
            journal.metrics(-1, "train", {"loss": 1.0})
    assert Run.open(tmp_path).metrics() == []


def test_the_newest_attempt_counts_for_each_step(tmp_path):
    write_attempt(tmp_path, 0, 0, [(step, 100 + step) for step in range(1, 13)])
    write_attempt(tmp_path, 1, 10, [(11, 211)])
    run = Run.open(tmp_path)
    assert [(row["step"], row["value"]) for row in run.metrics()][-3:] == [(9, 109), (10, 110), (11, 211)]
    assert run.last_step == 11
    assert [row["attempt"] for row in run.all_rows()] == [0] * 12 + [1]


def test_rows_are_superseded_before_the_new_attempt_reaches_them(tmp_path):
    write_attempt(tmp_path, 0, 0, [(step, step) for step in range(1, 13)])
    write_attempt(tmp_path, 1, 10, [])
    run = Run.open(tmp_path)
    assert steps(run.metrics()) == list(range(1, 11))
    assert run.last_step == 10


def test_a_third_attempt_that_goes_back_further_cuts_both_before_it(tmp_path):
    write_attempt(tmp_path, 0, 0, [(step, 0) for step in range(1, 13)])
    write_attempt(tmp_path, 1, 10, [(step, 1) for step in range(11, 21)])
    write_attempt(tmp_path, 2, 5, [(6, 2)])
    assert [(row["step"], row["value"]) for row in Run.open(tmp_path).metrics()] == [
        *((step, 0) for step in range(1, 6)),
        (6, 2),
    ]


def test_a_start_anew_supersedes_everything(tmp_path):
    write_attempt(tmp_path, 0, 0, [(step, 0) for step in range(1, 5)])
    write_attempt(tmp_path, 1, 0, [(1, 1)])
    assert [(row["step"], row["value"]) for row in Run.open(tmp_path).metrics()] == [(1, 1)]


def test_the_resume_step_is_inferred_where_no_event_tells_it(tmp_path):
    write_attempt(tmp_path, 0, None, [(step, 0) for step in range(1, 8)])
    write_attempt(tmp_path, 1, None, [(5, 1)])
    assert [(row["step"], row["value"]) for row in Run.open(tmp_path).metrics()][3:] == [(4, 0), (5, 1)]
    assert [attempt.resume_step for attempt in Run.open(tmp_path).attempts] == [0, 4]


def test_kinds_of_one_step_are_rows_of_their_own_and_one_kind_is_merged(tmp_path):
    with Journal(tmp_path, 0) as journal:
        journal.metrics(1, "train", {"loss": 1.0})
        journal.metrics(1, "eval", {"pass": 0.5})
        journal.metrics(1, "train", {"runtime": 9.0})
    run = Run.open(tmp_path)
    (train,) = run.metrics("train")
    assert (train["loss"], train["runtime"]) == (1.0, 9.0)
    assert [row["kind"] for row in run.metrics()] == ["train", "eval"]


def test_a_torn_line_costs_itself_only(tmp_path):
    write_attempt(tmp_path, 0, 0, [(1, 1), (2, 2)])
    path = tmp_path / "journal/metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    write_attempt(tmp_path, 1, 1, [(2, 20), (3, 30)])
    run = Run.open(tmp_path)
    assert [row["value"] for row in run.metrics()] == [1, 20, 30]
    (damage,) = run.damage
    assert damage.line == 2
    assert damage.reason.startswith("not a record")


def test_foreign_garbage_is_reported_and_passed_over(tmp_path):
    write_attempt(tmp_path, 0, 0, [(1, 1)])
    with (tmp_path / "journal/metrics.jsonl").open("ab") as file:
        file.write(b'hello\n\0\0\0\0\n[1, 2]\n{"step": 3}\n{"attempt": "0", "step": 1}\n\xff\xfe\n{"torn')
    write_attempt(tmp_path, 1, 1, [(2, 2)])
    run = Run.open(tmp_path)
    assert [row["value"] for row in run.metrics()] == [1, 2]
    assert [damage.line for damage in run.damage] == [2, 3, 4, 5, 6, 7, 8]


def test_attempts_are_counted_from_rows_and_events(tmp_path):
    assert next_attempt(tmp_path) == 0
    write_attempt(tmp_path, 0, 0, [(1, 1)])
    assert next_attempt(tmp_path) == 1
    write_attempt(tmp_path, 1, 1, [])
    assert next_attempt(tmp_path) == 2
    (tmp_path / "journal/events.jsonl").unlink()
    assert next_attempt(tmp_path) == 1


def test_events_keep_their_fields(tmp_path):
    with Journal(tmp_path, 2) as journal:
        journal.event("stage", step=25, decision="hold", reason="0.41 is below 0.70")
        journal.event("outage")
    run = Run.open(tmp_path)
    (stage,) = run.events("stage")
    assert (stage["attempt"], stage["step"], stage["reason"]) == (2, 25, "0.41 is below 0.70")
    assert [event["event"] for event in run.events()] == ["stage", "outage"]


def test_a_folder_without_a_journal_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="not a run directory"):
        Run.open(tmp_path)


WRITER = """
    import sys
    from grpo_project.record.journal import Journal
    journal = Journal(sys.argv[1], 0)
    print("ready", flush=True)
    for step in range(1, 10**9):
        journal.metrics(step, "train", {"value": step * 0.5})
        sys.stdout.write(f"{step}\\n")
        sys.stdout.flush()
"""


def test_every_row_before_a_sigkill_is_there(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "ready\n"
        with pytest.raises(ConfigError, match="another process"):
            Journal(tmp_path, 1)
        for _ in range(500):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        acknowledged = [line for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        writer.wait()
    rows = Run.open(tmp_path).metrics()
    assert steps(rows) == list(range(1, len(rows) + 1))
    assert len(rows) >= 500 + len(acknowledged)
    assert all(row["value"] == row["step"] * 0.5 for row in rows)
    Journal(tmp_path, 1).close()  # the lock died with its holder


def test_a_full_disk_is_loud_and_the_next_row_is_whole(tmp_path):
    with Journal(tmp_path, 0) as journal:
        journal.metrics(1, "train", {"value": 1})
        size = os.path.getsize(tmp_path / "journal/metrics.jsonl")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
        try:
            with pytest.raises(JournalError, match="disk full"):
                journal.metrics(2, "train", {"value": 2})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        journal.metrics(2, "train", {"value": 2})
    run = Run.open(tmp_path)
    assert [row["value"] for row in run.metrics()] == [1, 2]
    assert len(run.damage) == 1


def test_neither_torch_nor_wandb_is_imported(tmp_path):
    code = "import sys, grpo_project.record.journal; print({'torch', 'wandb', 'numpy', 'pyarrow'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "set()\n"


def test_putting_a_run_aside_leaves_foreign_files_alone(tmp_path):
    write_attempt(tmp_path, 0, 0, [(1, 1)])
    (tmp_path / "checkpoint-5").mkdir()
    for name in ("notes.txt", "model.safetensors", "model-of-mine.safetensors"):
        (tmp_path / name).write_text("mine")
    folder = put_aside_run(tmp_path, ["model.safetensors"])
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-5", "journal", "model.safetensors"]
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "notes.txt", "model-of-mine.safetensors"}


def test_the_objects_of_the_wandb_library_are_understood(tmp_path):
    code = """
        import sys, wandb
        from grpo_project.record.journal import Journal
        values = {"table": wandb.Table(columns=["a"], data=[[1], [2]]),
                  "histogram": wandb.Histogram(np_histogram=([1, 2], [0, 1, 2]))}
        Journal(sys.argv[1], 0).metrics(1, "user", values)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True)
    (row,) = Run.open(tmp_path).metrics()
    assert row["table"] == {"_type": "table", "columns": ["a"], "rows": [[1], [2]]}
    assert row["histogram"] == {"_type": "histogram", "counts": [1, 2], "edges": [0, 1, 2]}

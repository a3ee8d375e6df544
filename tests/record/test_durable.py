"""A full disk (a real one, small), a disk that stutters (errors of the operating system's own calls), a kill."""

import errno
import os

import pytest
from full_disk import run_on_small_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_project.errors import JournalError
from grpo_project.record import durable
from grpo_project.record.durable import AppendFile, write_atomically
from grpo_project.record.evaluations import CompletionRecord, EvaluationStore, read_evaluations
from grpo_project.record.journal import Journal
from grpo_project.record.run_directory import Run
from grpo_project.record.run_record import RunRecord
from grpo_project.record.samples import SampleStore, read_samples
from grpo_project.verifier.verdict import Status, Verdict


def test_on_a_full_disk_the_record_goes_on_from_its_reserve_and_then_says_what_is_needed(tmp_path):
    printed = run_on_small_disk(
        tmp_path,
        12,
        """
        import sys
        from grpo_project.errors import DiskFullError
        from grpo_project.record.journal import Journal
        from grpo_project.record.run_directory import Run
        from grpo_project.record.run_record import RunRecord
        from grpo_project.record.samples import SampleStore, read_samples

        root = sys.argv[1]
        rows = [{"problem_id": "p", "completion": "x" * 10_000} for _ in range(20)]
        with Journal(root, 0) as journal, SampleStore(root, 0) as samples:
            record = RunRecord.create(journal.paths.root, {"grpo": {}}, {})
            record.begin_attempt(0, None, 0)
            fill(root)
            step = 0
            try:
                while True:
                    step += 1
                    journal.metrics(step, "train", {"loss": 1 / step})
                    samples.append(step, rows)
            except DiskFullError as error:
                message = str(error)
            journal.event("failed", step=step, reason=message)
            record.end_attempt("failed", step)
            whole = len(read_samples(root)) // 20
        assert RunRecord.read(journal.paths.root).content["status"] == "failed"
        print(whole >= 10, whole, step)
        print(message)
        free(root)
        with Journal(root, 1) as journal, SampleStore(root, 1) as samples:
            journal.event("resumed", step=whole)
            for step in range(whole + 1, whole + 4):
                journal.metrics(step, "train", {"loss": 1.0})
                samples.append(step, rows)
        run = Run.open(root)
        print([row["step"] for row in run.metrics()] == list(range(1, whole + 4)))
        print(run.events("failed")[0]["reason"] == message)
        print(sorted(set(read_samples(root)["step"].to_pylist())) == list(range(1, whole + 4)))
        """,
    )
    first, message, *rest = printed.splitlines()
    assert first.startswith("True ")
    assert message.startswith("disk full: ")
    assert "needs" in message
    assert "the same command then goes on" in message
    assert rest == ["True"] * 3


def test_an_evaluation_and_run_json_take_from_the_reserve_too(tmp_path):
    printed = run_on_small_disk(
        tmp_path,
        8,
        """
        import sys
        from pathlib import Path
        from grpo_project.record.evaluations import CompletionRecord, EvaluationStore, read_evaluations
        from grpo_project.record.journal import Journal
        from grpo_project.record.run_record import RunRecord
        from grpo_project.verifier.verdict import Status, Verdict

        root = Path(sys.argv[1])
        verdict = Verdict("", "p", Status.PASSED, 1, 1)
        with Journal(root, 0) as journal:
            fill(root)
            EvaluationStore(root, 0).write(25, [CompletionRecord("p", "e", "s", 0, "Write.", "x", 1, False, verdict)])
            RunRecord.create(root, {"grpo": {}}, {}).write()
            print(len(read_evaluations(root)), RunRecord.read(root).content["status"])
            free(root)
            journal.flush()
            print((root / "journal/reserve").stat().st_size)
        print((root / "journal/reserve").exists(), [path.name for path in root.rglob("*.tmp")])
        """,
    )
    assert printed == "1 new\n4194304\nFalse []\n"


class Stutter:
    """Stands before a call of the operating system and lets it fail as a sick disk does."""

    def __init__(self, call, number, times):
        self.call, self.number, self.left = call, number, times

    def __call__(self, *arguments, **options):
        if self.left > 0:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))
        return self.call(*arguments, **options)


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(durable, "RETRY_WAITS_S", (0, 0, 0, 0))


VERDICT = Verdict("", "p", Status.PASSED, 1, 1)
WRITERS = {
    "journal": lambda root: Journal(root, 0).metrics(1, "train", {"loss": 1.0}),
    "samples": lambda root: SampleStore(root, 0).append(1, [{"problem_id": "p"}]),
    "evaluation": lambda root: EvaluationStore(root, 0).write(
        1, [CompletionRecord("p", "e", "s", 0, "Write.", "x", 1, False, VERDICT)]
    ),
    "run.json": lambda root: RunRecord.create(root, {"grpo": {}}, {}).write(),
}
READERS = {
    "journal": lambda root: len(Run.open(root).metrics()),
    "samples": lambda root: len(read_samples(root)),
    "evaluation": lambda root: len(read_evaluations(root)),
    "run.json": lambda root: int(RunRecord.read(root).content["status"] == "new"),
}


@pytest.mark.parametrize("what", WRITERS)
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_transient_error_costs_nothing(tmp_path, monkeypatch, no_waiting, what, number):
    call = "fsync" if what in ("evaluation", "run.json") else "write"
    monkeypatch.setattr(os, call, Stutter(getattr(os, call), number, 3))
    WRITERS[what](tmp_path)
    assert READERS[what](tmp_path) == 1
    assert [path.name for path in tmp_path.rglob("*.tmp")] == []


@pytest.mark.parametrize("what", WRITERS)
def test_an_error_that_lasts_is_one_of_the_record_and_leaves_no_half_file(tmp_path, monkeypatch, no_waiting, what):
    call = "fsync" if what in ("evaluation", "run.json") else "write"
    monkeypatch.setattr(os, call, Stutter(getattr(os, call), errno.EIO, 99))
    with pytest.raises(JournalError, match="Input/output error"):
        WRITERS[what](tmp_path)
    assert [path.name for path in tmp_path.rglob("*.tmp")] == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.one_of(st.integers(0, 12), st.just(-1)), max_size=4), min_size=1, max_size=6))
def test_every_acknowledged_line_is_there_once_whatever_the_disk_takes_at_a_time(tmp_path_factory, faults):
    """Each list: what the next writes do before one goes through (bytes taken, or -1: EIO after a part was taken)."""
    path = tmp_path_factory.mktemp("lines") / "file"
    plan: list[int] = []

    def write(file, content, real=os.write):
        if not plan:
            return real(file, content)
        taken = plan.pop(0)
        if taken < 0:
            real(file, bytes(content[:3]))
            raise OSError(errno.EIO, "sick")
        return real(file, bytes(content[: max(taken, 1)]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "RETRY_WAITS_S", (0,) * 10)
        patch.setattr(os, "write", write)
        file = AppendFile(path)
        for number, fault in enumerate(faults):
            plan[:] = fault
            file.append(b"line %d\n" % number)
        file.close()
    lines = path.read_bytes().split(b"\n")
    assert [line for line in lines if line in {b"line %d" % n for n in range(len(faults))}] == [
        b"line %d" % number for number in range(len(faults))
    ]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", Stutter(os.fsync, errno.EROFS, 1))
    with pytest.raises(OSError, match="Read-only"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]

"""The guide's functions in a foreign script: no W&B server needed. Online behaviour is in test_wandb_online.py."""

import inspect
import math
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch
from full_disk import run_on_small_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grpo_project.errors import TrackingError
from grpo_project.record.journal import Journal
from grpo_project.record.run_directory import Run
from grpo_project.tracking import manager as wandb_sync_manager
from grpo_project.tracking.manager import (
    get_wandb_sync_manager,
    initialize_wandb_sync_manager,
    safe_wandb_log,
)


@pytest.fixture
def manager(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    manager = initialize_wandb_sync_manager(tmp_path / "run", "p")
    yield manager
    manager.finish()
    wandb_sync_manager._manager = None


def script(folder, code, **variables):
    """Run a foreign script in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(folder), **variables}
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder / "run")]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_rows_before_the_start_wait_for_it(tmp_path, caplog):
    wandb_sync_manager._manager = None
    assert get_wandb_sync_manager() is None
    with pytest.raises(TrackingError, match="before initialize_wandb_sync_manager"):
        safe_wandb_log({"loss": 1.0}, 1, strict=True)
    row = {"loss": 0.5}
    assert safe_wandb_log(row, 1) is False
    row["loss"] = 0.25
    assert safe_wandb_log(row, 2) is False
    assert caplog.text.count("before initialize_wandb_sync_manager") == 1
    manager = initialize_wandb_sync_manager(tmp_path, "p", mode="offline")
    assert [(row["step"], row["loss"]) for row in Run.open(tmp_path).metrics()] == [(1, 0.5), (2, 0.25)]
    manager.finish()


def test_offline_keeps_every_row_and_says_how_to_upload(manager, tmp_path, caplog):
    assert get_wandb_sync_manager() is manager
    assert safe_wandb_log({"loss": 0.5}, 1) is False
    assert safe_wandb_log({"eval": np.float32(0.25)}, 1) is False
    status = manager.get_sync_status()
    assert (status["state"], status["mode"], status["rows"], status["pending"]) == ("offline", "offline", 1, 1)
    assert not (tmp_path / "run" / "wandb").exists()  # nothing that a plain `wandb sync` could double


def test_the_offline_line_names_reason_and_command(tmp_path):
    done = script(
        tmp_path,
        """
        import sys
        from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log
        initialize_wandb_sync_manager(sys.argv[1], "p")
        safe_wandb_log({"loss": 1.0}, 1)
        assert not {"wandb", "torch"} & set(sys.modules)
        """,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"W&B: offline (no API key was found). Upload later with: grpo sync {tmp_path / 'run'}\n"


def test_scalars_of_every_library_and_non_finite_values_are_kept(manager, tmp_path):
    safe_wandb_log(
        {"a": np.float64(1.5), "b": torch.tensor(2), "c": math.nan, "d": -math.inf, "e": "text"}, np.int64(3)
    )
    (row,) = Run.open(tmp_path / "run").metrics()
    assert (row["step"], row["a"], row["b"], row["d"], row["e"]) == (3, 1.5, 2, -math.inf, "text")
    assert math.isnan(row["c"])


def test_a_step_that_goes_back_warns_once_and_its_row_is_kept(manager, tmp_path, caplog):
    safe_wandb_log({"loss": 1.0}, 10)
    for step in (9, 8):
        assert safe_wandb_log({"loss": 2.0}, step) is False
    assert caplog.text.count("comes after step 10") == 1
    with pytest.raises(TrackingError, match="step 9 comes after step 10"):
        safe_wandb_log({"loss": 2.0}, 9, strict=True)
    safe_wandb_log({"loss": 3.0}, 11)
    run = Run.open(tmp_path / "run")
    assert [row["step"] for row in run.metrics()] == [10, 11]
    assert [(event["step"], event["data"]) for event in run.events("rejected")] == [
        (9, {"loss": 2.0}),
        (8, {"loss": 2.0}),
        (9, {"loss": 2.0}),
    ]
    assert manager.get_sync_status()["rejected"] == 3


@pytest.mark.parametrize("step", [math.nan, math.inf, 1.5, -1, "3", None, torch.tensor([1, 2]), 2**63])
def test_a_step_that_is_none_warns_and_its_row_is_kept(manager, tmp_path, step, caplog):
    assert safe_wandb_log({"loss": 2.0}, step) is False
    assert "a step is a whole number from 0 on" in caplog.text
    (rejected,) = Run.open(tmp_path / "run").events("rejected")
    assert rejected["data"] == {"loss": 2.0}


@pytest.mark.parametrize("step", [4, 4.0, np.int32(4), torch.tensor(4), torch.tensor(4.0)])
def test_whole_steps_of_every_library_are_steps(manager, tmp_path, step):
    safe_wandb_log({"loss": 2.0}, step)
    assert Run.open(tmp_path / "run").last_step == 4


def test_a_value_that_cannot_be_recorded_costs_no_other(manager, tmp_path):
    with pytest.raises(TrackingError, match=r"'bad': a value of type builtins\.object"):
        safe_wandb_log({"loss": 2.0, "bad": object()}, 5, strict=True)
    run = Run.open(tmp_path / "run")
    (row,) = run.metrics()
    assert row["loss"] == 2.0
    assert run.events("rejected")[0]["data"]["bad"].startswith("<object object")


def test_something_else_than_a_dictionary_is_kept_as_text(manager, tmp_path):
    with pytest.raises(TrackingError, match="takes a dictionary of metrics, not float"):
        safe_wandb_log(0.5, 5, strict=True)
    assert Run.open(tmp_path / "run").events("rejected")[0]["data"] == {"data": "0.5"}


class Hostile:
    """An object that helps nobody."""

    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __repr__

    @property
    def tolist(self):
        raise RuntimeError("no")


def deep(levels):
    value = 1
    for _ in range(levels):
        value = {"d": value}
    return value


def circular():
    value = {}
    value["self"] = value
    return value


KEYS = (
    st.text(max_size=5) | st.integers() | st.none() | st.tuples(st.text(max_size=2), st.integers()) | st.builds(Hostile)
)
VALUES = (
    st.one_of(st.floats(), st.integers(), st.booleans(), st.text(), st.none(), st.binary(), st.complex_numbers())
    | st.sampled_from([10**5000, -(2**64), {1, 2}, print, Ellipsis, np.arange(6).reshape(2, 3), np.float16(2), 1j])
    | st.builds(Hostile)
    | st.integers(1, 2000).map(deep)
    | st.builds(circular)
    | st.dictionaries(KEYS, st.floats() | st.builds(Hostile), max_size=3)
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.dictionaries(KEYS, VALUES, max_size=4) | VALUES, step=st.integers(-3, 40) | VALUES)
def test_whatever_is_passed_ends_no_training_and_is_kept(manager, tmp_path, data, step):
    run = Run.open(tmp_path / "run")
    metrics, events = (path.stat().st_size for path in (run.paths.metrics, run.paths.events))
    assert safe_wandb_log(data, step) is False  # offline
    grown = run.paths.metrics.stat().st_size - metrics + run.paths.events.stat().st_size - events
    assert grown > 0
    assert run.damage == []


def test_a_step_behind_the_trainers_own_row_is_late(tmp_path):
    with Journal(tmp_path, 0) as journal:
        manager = initialize_wandb_sync_manager(tmp_path, "p", mode="disabled", journal=journal)
        journal.metrics(8, "train", {"loss": 1.0})
        with pytest.raises(TrackingError, match="step 7 comes after step 8"):
            safe_wandb_log({"mine": 1.0}, 7, strict=True)
        manager.finish()
        journal.metrics(9, "train", {"loss": 1.0})  # the journal stays its owner's


def test_disabled_writes_the_journal_only(tmp_path):
    manager = initialize_wandb_sync_manager(tmp_path, "p", mode="disabled")
    assert safe_wandb_log({"loss": 1.0}, 1) is False
    assert manager.finish()["state"] == "disabled"
    assert len(Run.open(tmp_path).metrics()) == 1


def test_other_ranks_send_nothing_and_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    manager = initialize_wandb_sync_manager(tmp_path, "p", mode="disabled")
    assert safe_wandb_log({"loss": np.float32(1.5)}, 1) is False
    assert manager.finish() == {}
    assert '"loss":1.5' in (tmp_path / "journal/rank-3.jsonl").read_text()
    assert not (tmp_path / "journal/metrics.jsonl").exists()


def test_after_its_end_rows_are_kept_as_events(manager, tmp_path, caplog):
    manager.finish()
    assert manager.finish()["state"] == "offline"
    assert [safe_wandb_log({"loss": 1.0}, step) for step in (1, 2)] == [False, False]
    assert caplog.text.count("after finish") == 1
    with pytest.raises(TrackingError, match="after finish"):
        safe_wandb_log({"loss": 1.0}, 3, strict=True)
    assert [event["step"] for event in Run.open(tmp_path / "run").events("rejected")] == [1, 2, 3]


def test_a_full_disk_ends_no_training_of_a_foreign_script(tmp_path):
    printed = run_on_small_disk(
        tmp_path,
        8,
        """
        import sys
        from grpo_project.errors import JournalError
        from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log
        initialize_wandb_sync_manager(sys.argv[1], "p", mode="offline")
        fill(sys.argv[1])
        for step in range(1, 50):
            assert safe_wandb_log({"text": "x" * 100_000}, step) is False
        try:
            safe_wandb_log({"text": "x" * 100_000}, step + 1, strict=True)
        except JournalError as error:
            print(type(error).__name__)
        free(sys.argv[1])
        """,
    )
    assert printed == "DiskFullError\n"


def test_threads_that_log_at_once_lose_no_row(manager, tmp_path):
    """A step that another thread has passed is rejected, never written behind it and dropped later."""
    counter, lock = iter(range(1, 4001)), threading.Lock()

    def log():
        while True:
            with lock:
                step = next(counter, None)
            if step is None:
                return
            safe_wandb_log({"value": step}, step)

    threads = [threading.Thread(target=log) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run = Run.open(tmp_path / "run")
    written = [row["step"] for row in run.all_rows()]
    assert written == sorted(written)
    assert sorted([*written, *(event["step"] for event in run.events("rejected"))]) == list(range(1, 4001))
    assert manager.get_sync_status()["late"] == 0


def test_ranks_of_a_process_group_write_one_journal(tmp_path):
    code = """
        import sys, torch
        from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log
        rank = int(sys.argv[2])
        torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[3], rank=rank, world_size=2)
        manager = initialize_wandb_sync_manager(sys.argv[1], "p", mode="offline")
        safe_wandb_log({"rank": rank}, 1)
        torch.distributed.barrier()
        manager.finish()
        torch.distributed.destroy_process_group()
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), str(tmp_path / "run")]
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path / "store")], env=environment) for rank in (0, 1)]
    assert [process.wait(120) for process in ranks] == [0, 0]
    assert [row["rank"] for row in Run.open(tmp_path / "run").metrics()] == [0]
    assert '"rank":1' in (tmp_path / "run/journal/rank-1.jsonl").read_text()


def test_a_forked_child_logs_to_the_same_journal_and_ends_nothing(tmp_path):
    done = script(
        tmp_path,
        """
        import os, sys
        from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log
        manager = initialize_wandb_sync_manager(sys.argv[1], "p", mode="disabled")
        safe_wandb_log({"parent": 1}, 1)
        child = os.fork()
        if child == 0:
            safe_wandb_log({"child": 1}, 2)
            sys.exit(0)
        os.waitpid(child, 0)
        safe_wandb_log({"parent": 2}, 3)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in Run.open(tmp_path / "run").metrics()] == [1, 2, 3]


def test_a_second_live_trainer_in_the_same_directory_is_refused(manager, tmp_path):
    done = script(
        tmp_path,
        """
        import sys
        from grpo_project.tracking.manager import initialize_wandb_sync_manager
        initialize_wandb_sync_manager(sys.argv[1], "p")
        """,
    )
    assert done.returncode == 1
    assert "is being written by another process that is still alive" in done.stderr


def test_a_second_start_is_an_attempt_of_its_own(tmp_path):
    for resume_step, steps in ((None, range(1, 8)), (5, range(6, 10))):
        manager = initialize_wandb_sync_manager(tmp_path, "p", "n", mode="offline", resume_step=resume_step)
        for step in steps:
            safe_wandb_log({"value": step}, step)
        manager.finish()
    run = Run.open(tmp_path)
    assert [(row["attempt"], row["step"]) for row in run.metrics()][4:] == [(0, 5), (1, 6), (1, 7), (1, 8), (1, 9)]
    segments = manager.get_sync_status()["segments"]
    assert [(segment["name"], segment["rows"]) for segment in segments] == [("n", 7), ("n-attempt1", 4)]


def test_a_config_of_any_values_is_recorded_without_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret" * 7)
    config = {"lr": 1e-3, "dtype": torch.float32, "token": "secret" * 7, "nan": math.nan}
    initialize_wandb_sync_manager(tmp_path, "p", mode="offline", config=config).finish()
    (event,) = Run.open(tmp_path).events("wandb_run")
    assert event["config"]["dtype"] == "torch.float32"
    assert "secretsecret" not in (tmp_path / "journal/events.jsonl").read_text()


def test_online_without_a_key_fails_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(TrackingError, match="no API key"):
        initialize_wandb_sync_manager(tmp_path / "run", "p", mode="online")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["a/b", "a:b", " ", "x" * 129])
def test_names_that_wandb_refuses_end_the_start_before_anything_is_written(tmp_path, monkeypatch, name):
    with pytest.raises(TrackingError, match="the W&B project is"):
        initialize_wandb_sync_manager(tmp_path / "run", name)
    monkeypatch.setenv("WANDB_RUN_ID", name)
    with pytest.raises(TrackingError, match="WANDB_RUN_ID is"):
        initialize_wandb_sync_manager(tmp_path / "run", "p")
    assert not (tmp_path / "run").exists()


def test_the_guides_signatures():
    parameters = inspect.signature(initialize_wandb_sync_manager).parameters
    assert list(parameters)[:3] == ["output_dir", "project_name", "run_name"]
    assert list(inspect.signature(safe_wandb_log).parameters) == ["data", "step", "strict"]

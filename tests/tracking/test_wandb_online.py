"""The projection online: the real client against the loopback server, both policies, outages, tables, the command."""

import base64
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from full_disk import run_on_small_disk
from loopback import API_KEY, LoopbackServer

from grpo_project.record.journal import Journal
from grpo_project.record.json_line import Histogram, Table
from grpo_project.record.run_directory import Run
from grpo_project.tracking import manager as wandb_sync_manager
from grpo_project.tracking.client_rows import log_row
from grpo_project.tracking.segments import Row
from grpo_project.tracking.settings import Pace
from grpo_project.tracking.state import sync_status

# Quick for tests; the defaults are for a real server.
PACE = Pace(confirm_s=0.3, stall_s=3, silence_s=20, backoff_s=0.3, backoff_max_s=1, backup_s=1, init_s=10, finish_s=5)


@pytest.fixture
def server(monkeypatch):
    with LoopbackServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def start(folder, **options):
    return wandb_sync_manager.initialize_wandb_sync_manager(folder, "p", "n", pace=PACE, **options)


def track(folder, steps, timeout_s=60, exit_code=0, **options):
    """One attempt in this process; returns the status at its end."""
    manager = start(folder, **options)
    for step in steps:
        assert wandb_sync_manager.safe_wandb_log({"value": step / 8}, step) is True
    return manager.finish(timeout_s=timeout_s, exit_code=exit_code)


def values(run):
    return {row["_step"]: row["value"] for row in run.history}


def eighths(steps):
    return {step: step / 8 for step in steps}


def grpo(*arguments, **variables):
    command = [sys.executable, "-m", "grpo_project.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)


def test_the_same_run_goes_on_where_the_server_stands(server, tmp_path):
    first = track(tmp_path, range(1, 31), resume="same", exit_code=1)
    assert (first["state"], first["pending"]) == ("incomplete", 1)  # after a failure the last step may lack something
    second = track(tmp_path, range(21, 41), resume="same", resume_step=20)
    (segment,) = second["segments"]
    assert (segment["read_back"], segment["rows"], segment["confirmed"], segment["pending"]) == ("exact", 40, 40, 0)
    run = server.run(segment["run_id"])
    assert run.steps == list(range(1, 41))
    assert values(run) == eighths(range(1, 41))
    assert run.overwritten == []
    assert {row["_trainer_step"] == row["_step"] for row in run.history} == {True}


def test_tables_histograms_and_non_finite_values_arrive_on_the_axis(server, tmp_path):
    manager = start(tmp_path)
    table = Table(["prompt", "reward"], [["Clip x.", 0.5], ["Sum.", "none"]])
    wandb_sync_manager.safe_wandb_log({"loss": math.nan, "bound": math.inf}, 1)
    wandb_sync_manager.safe_wandb_log({"completions": table, "spread": Histogram([1, 2], [0, 1, 2])}, 1)
    wandb_sync_manager.safe_wandb_log({"loss": 0.25, "much": Histogram([1] * 2000, list(range(2001)))}, 2)
    status = manager.finish(exit_code=0)
    assert (status["state"], status["segments"][0]["read_back"]) == ("complete", "exact"), status
    first, second = server.run(status["segments"][0]["run_id"]).history
    assert (first["_step"], second["_step"]) == (1, 2)
    assert math.isnan(first["loss"])
    assert first["bound"] == math.inf
    assert (first["completions"]["_type"], first["completions"]["nrows"]) == ("table-file", 2)
    assert first["spread"] == {"_type": "histogram", "values": [1, 2], "bins": [0, 1, 2]}
    assert second["much"].startswith('{"_type": "histogram"')  # more bins than the client takes: kept as text


def test_the_x_axis_is_the_trainers_step(server, tmp_path):
    status = track(tmp_path, [5, 10, 15], config={"lr": 0.5})
    config = server.run(status["segments"][0]["run_id"]).config
    defined = config["_wandb"]["value"]["m"]
    assert config["lr"] == {"value": 0.5}
    axis = next(index for index, metric in enumerate(defined, start=1) if metric.get("1") == "_trainer_step")
    assert next(metric["5"] for metric in defined if metric.get("2") == "*") == axis


def test_unreachable_at_start_and_at_the_end_leaves_the_rest_for_later(server, tmp_path):
    server.refuse()
    status = track(tmp_path, range(1, 11), timeout_s=6)
    assert (status["state"], status["pending"], status["backup_files"]) == ("incomplete", 10, 10)
    assert status["last_error"]
    assert status["error_since"] > 0
    kept = json.loads((tmp_path / "wandb_backup/step_000003.json").read_text())
    assert (kept["step"], kept["data"]) == (3, {"value": 0.375})
    server.listen()
    for _ in range(2):  # the second time changes nothing
        done = grpo("sync", tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "exact" in done.stdout
        status = sync_status(tmp_path)
        run = server.run(status["segments"][0]["run_id"])
        assert (status["state"], values(run), run.overwritten) == ("complete", eighths(range(1, 11)), [])
        assert not (tmp_path / "wandb_backup").exists()


def test_the_next_start_delivers_what_an_earlier_segment_still_lacks(server, tmp_path):
    server.refuse()
    track(tmp_path, range(1, 11), timeout_s=0.5)
    server.listen()
    status = track(tmp_path, range(6, 16), resume_step=5)
    assert status["state"] == "complete", status
    first, second = (server.run(segment["run_id"]) for segment in status["segments"])
    assert (first.steps, second.steps) == (list(range(1, 11)), list(range(6, 16)))


@pytest.mark.parametrize(
    "status", ["404", *(pytest.param(status, marks=pytest.mark.slow) for status in ("401", "403", "409", "413"))]
)
def test_a_fatal_status_stops_the_client_for_good_and_not_the_delivery(server, tmp_path, status):
    server.fault(status, scope="file_stream")
    found = track(tmp_path, range(1, 11))
    assert found["state"] == "complete", found
    assert server.hits[status] == 1
    assert server.run(found["segments"][0]["run_id"]).steps == list(range(1, 11))


def test_an_offline_run_of_several_attempts_is_uploaded_exactly(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for policy, resume_step, last in (("new", 0, 20), ("same", 12, 30), ("new", 25, 28)):
        manager = start(tmp_path, resume=policy, resume_step=resume_step)
        for step in range(resume_step + 1, last + 1):
            assert wandb_sync_manager.safe_wandb_log({"value": step / 8}, step) is False
        assert manager.finish()["state"] == "offline"
    assert server.runs == {}
    done = grpo("sync", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (server.run(segment["run_id"]) for segment in sync_status(tmp_path)["segments"])
    assert values(first) == eighths(range(1, 31))
    assert values(second) == eighths(range(26, 29))
    assert grpo("sync", tmp_path, "--rebuild").returncode == 0
    again = [server.run(segment["run_id"]) for segment in sync_status(tmp_path)["segments"]]
    assert len(server.runs) == 4
    assert [values(run) for run in again] == [values(first), values(second)]
    assert again[1].config["parent_run_id"]["value"] == again[0].name


def test_without_its_state_file_a_complete_run_stays_as_it_is(server, tmp_path):
    status = track(tmp_path, range(1, 11))
    (tmp_path / "wandb_sync_state.json").unlink()
    done = grpo("sync", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = server.run(status["segments"][0]["run_id"])
    assert (values(run), run.overwritten) == (eighths(range(1, 11)), [])
    assert sync_status(tmp_path)["state"] == "complete"


def test_a_server_that_shows_its_rows_late_gets_none_twice(server, tmp_path):
    server.lag = 4
    track(tmp_path, range(1, 11), resume="same", timeout_s=4)
    server.lag = 0
    status = track(tmp_path, range(11, 21), resume="same", resume_step=10)
    run = server.run(status["segments"][0]["run_id"])
    assert (run.steps, run.overwritten) == (list(range(1, 21)), [])


def test_sync_without_a_key_or_a_run_is_one_line(tmp_path):
    no_run = grpo("sync", tmp_path)
    assert (no_run.returncode, no_run.stderr.count("\n")) == (2, 1)
    assert "is not a run directory" in no_run.stderr
    start(tmp_path, mode="offline").finish()
    no_key = grpo("sync", tmp_path, HOME=str(tmp_path), WANDB_API_KEY="")
    assert (no_key.returncode, no_key.stderr.count("\n")) == (2, 1)
    assert "run `wandb login` or set WANDB_API_KEY" in no_key.stderr


def test_the_key_is_nowhere_in_the_run_directory(server, tmp_path):
    server.fault("401", count=2, scope="graphql")
    status = track(tmp_path, range(1, 4), config={"environment": dict(os.environ)})
    assert status["state"] == "complete"
    files = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert len(files) > 5
    encoded = base64.b64encode(f"api:{API_KEY}".encode())
    assert f"Basic {encoded.decode()}" in server.authorizations
    assert [path for path in files if API_KEY.encode() in path.read_bytes() or encoded in path.read_bytes()] == []


def test_a_row_that_the_client_refuses_is_set_aside_and_the_others_go_on(server, tmp_path):
    rows = {
        2: {"k\ud800ey": 1.0, "text \udfff": "x\ud800y", "value": 0.25},
        3: {"t" * 116: Table(["a"], [[1]]), "value": 0.375},
        4: {"huge": "x" * 20_000_000, "value": 0.5},
        5: {"": 1.0, "value": 0.625, "a.b": 2.5, "a/b.c": 1, "big": 2**70, "deep": {"a": {"b": [1, {"c": 2}]}}},
        6: {f"{i}" * 1000: "y" * 1_500_000 for i in range(9)} | {"value": 0.75},
    }
    with Journal(tmp_path, 0) as journal:
        journal.event("started", step=0)
        manager = start(tmp_path, journal=journal)
        journal.metrics(1, "train", {"value": 0.125})
        for step, values_of_step in rows.items():
            journal.metrics(step, "train", values_of_step)
        journal.metrics(7, "train", {"value": 0.875})
        with pytest.raises(ValueError, match="at most 9223372036854775807"):
            journal.metrics(2**63, "train", {"value": 1.0})
        status = manager.finish(timeout_s=60, exit_code=0)
    run = server.run(status["segments"][0]["run_id"])
    assert values(run) == eighths(range(1, 8))
    assert (status["state"], status["pending"], status["rows"], status["confirmed"]) == ("complete", 0, 7, 7), status
    (segment,) = status["segments"]
    assert segment["read_back"] == "exact"
    assert set(segment["set_aside"]) == {"4", "6"}
    assert "20,000,012 bytes are more than a W&B row holds" in segment["set_aside"]["4"]
    by_step = {row["_step"]: row for row in run.history}
    assert by_step[2]["k\\ud800ey"] == 1.0
    assert by_step[4]["huge"] == "[20,000,012 bytes, kept in the journal]"
    assert by_step[5]["(no name)"] == 1.0
    assert [event["step"] for event in Run.open(tmp_path).events("wandb_row_set_aside")] == [4, 6]


class Refusing:
    """A client that refuses what protobuf, JSON or an artifact might refuse one day."""

    def __init__(self, bad):
        self.id, self.bad, self.rows = "abcdefgh", bad, []

    def log(self, values, step, commit):
        if self.bad(values):
            raise ValueError("not this")
        self.rows.append((step, values))


@pytest.mark.parametrize(
    ("bad", "taken", "rows"),
    [
        (lambda values: "text" in values, True, 1),
        (lambda values: True, False, 0),
        (lambda values: False, True, 1),
    ],
)
def test_of_a_row_that_is_refused_the_plain_numbers_arrive(bad, taken, rows):
    run = Refusing(bad)
    found, reason = log_row(None, run, Row(3, 1.0, {"text": "x", "loss": 0.5}))
    assert (found, len(run.rows)) == (taken, rows)
    assert (reason is None) == (not bad({"text": "x"}))


def test_rows_that_come_too_late_for_their_step_are_counted_over_restarts(server, tmp_path):
    with Journal(tmp_path, 0) as journal:
        journal.event("started", step=0)
        manager = start(tmp_path, journal=journal)
        for step in (1, 3, 2, 4, 1, 5):  # as several threads and a forked child may write them
            journal.metrics(step, "train", {"value": step / 8})
        status = manager.finish(timeout_s=60, exit_code=0)
        assert (status["rows"], status["confirmed"], status["late"]) == (4, 4, 2)
    assert sync_status(tmp_path)["late"] == 2
    status = track(tmp_path, [6], resume="same", resume_step=5)
    assert (status["rows"], status["late"], status["segments"][0]["read_back"]) == (5, 2, "exact")


def test_what_the_server_lost_or_changed_is_found_when_it_is_read_back(server, tmp_path):
    server.corrupt = lambda row: {**row, "value": 7} if row["_step"] == 5 else None if row["_step"] == 3 else row
    status = track(tmp_path, range(1, 11))
    (segment,) = status["segments"]
    assert segment["read_back"] == "missing: 1 (3); with other values: 1 (5)"
    assert (status["state"], status["rows"], status["confirmed"], status["missing"]) == ("incomplete", 10, 9, 1)
    server.corrupt = None
    done = grpo("sync", tmp_path, "--rebuild")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sync_status(tmp_path)["state"] == "complete"


def test_a_full_disk_stops_no_delivery(server, tmp_path):
    printed = run_on_small_disk(
        tmp_path,
        16,
        """
        import sys
        from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log
        from grpo_project.tracking.settings import Pace
        manager = initialize_wandb_sync_manager(sys.argv[1], "p", pace=Pace(confirm_s=0.3, stall_s=5, backoff_s=0.3))
        for step in range(1, 21):
            safe_wandb_log({"value": step / 8}, step)
            if step == 5:
                fill(sys.argv[1])
        manager.finish(exit_code=0)
        free(sys.argv[1])
        """,
    )
    assert printed == ""
    (run,) = server.runs.values()
    assert values(run) == eighths(range(1, 21))

"""The journal at TensorBoard, MLflow and Trackio: each step once, whatever was killed; real libraries, if installed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracked_loop import EVAL_EVERY, expected_row

from grpo_project.errors import TrackingError
from grpo_project.record.run_directory import Run
from grpo_project.tracking.manager import initialize_wandb_sync_manager
from grpo_project.tracking.processes import command_line
from grpo_project.tracking.sinks import SINKS, metric_name

LOOP = Path(__file__).parents[1] / "support" / "tracked_loop.py"
STEPS = 60


def read_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "run/tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def read_mlflow(folder):
    from mlflow import MlflowClient

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("torture")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    names = [name for name in run.data.metrics if name != "_trainer_step"]
    return {name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in names}


def read_trackio(folder):
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = SQLiteStorage.get_runs("torture")
    found = {}
    for row in SQLiteStorage.get_logs("torture", name):
        for key in ("loss", "reward", "eval_avg_test_pass_rate"):
            if key in row:
                found.setdefault(key, []).append((row["step"], row[key]))
    return found


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "trackio": read_trackio}


@pytest.fixture
def sink(request, tmp_path, monkeypatch):
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    return request.param


def loop(folder, sink, act):
    """Run the loop; ``act(process, step)`` after each of its steps. Returns its exit code."""
    command = [sys.executable, LOOP, folder / "run", str(STEPS), "--report-to", sink, "--step-s", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip().isdigit():
                act(process, int(line))
        return process.wait()


def exporters(folder):
    commands = {int(path.name): command_line(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    return [pid for pid, command in commands.items() if "tracking.exporter" in command and str(folder) in command]


@pytest.mark.parametrize("sink", SINKS, indirect=True)
def test_every_step_is_there_once_whatever_was_killed(tmp_path, sink):
    killed = []

    def first(process, step):
        if step == 25:
            killed.extend(exporters(tmp_path))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        if step == 47:
            process.kill()

    assert loop(tmp_path, sink, first) == -signal.SIGKILL
    assert len(killed) == 1
    assert loop(tmp_path, sink, lambda process, step: None) == 0
    found = READERS[sink](tmp_path)
    for name in ("loss", "reward", "eval_avg_test_pass_rate"):
        steps = [step for step in range(1, STEPS + 1) if name in expected_row(step)]
        assert [step for step, _ in sorted(found[name])] == steps
        assert all(abs(value - expected_row(step)[name]) < 1e-6 for step, value in found[name])
    assert len(steps) == STEPS // EVAL_EVERY
    deadline = time.monotonic() + 20
    while exporters(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert exporters(tmp_path) == []
    assert [event["target"] for event in Run.open(tmp_path / "run").events("projection_restarted")] == [sink]


def test_a_sink_that_fails_is_opened_again_and_training_does_not_notice(tmp_path, monkeypatch):
    """TensorBoard's folder can't be made: a file lies in its place, until it is gone."""
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/tensorboard").write_text("in the way")

    def act(process, step):
        if step == 40:
            (tmp_path / "run/tensorboard").unlink()

    assert loop(tmp_path, "tensorboard", act) == 0
    assert [step for step, _ in read_tensorboard(tmp_path)["loss"]] == list(range(1, STEPS + 1))
    (event,) = Run.open(tmp_path / "run").events("export_failed")
    assert "Error" in event["reason"]


def test_what_is_not_installed_or_unknown_is_one_line_before_anything_is_written(tmp_path):
    with pytest.raises(
        TrackingError, match="--report_to comet_ml: metrics can go to wandb, tensorboard, mlflow, trackio"
    ):
        initialize_wandb_sync_manager(tmp_path / "run", report_to=["comet_ml"])
    missing = next((name for name in SINKS if name != "mlflow" and importlib.util.find_spec(name) is None), None)
    if missing is not None:
        with pytest.raises(TrackingError, match=f"it is not installed here; run `pip install {missing}`"):
            initialize_wandb_sync_manager(tmp_path / "run", report_to=[missing])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "taken"),
    [("eval/pass@1", "eval/pass_1"), ("loss", "loss"), ("", "_"), ("日本", "__"), ("a" * 300, "a" * 250)],
)
def test_names_that_mlflow_takes(name, taken):
    assert metric_name(name) == taken


def test_the_identity_of_a_run_is_without_secrets(tmp_path):
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    config = {"model_init_kwargs": {"token": "q7RtzL0pWx"}}
    manager = initialize_wandb_sync_manager(tmp_path, "p", mode="disabled", config=config, report_to=["tensorboard"])
    manager.finish()
    assert json.loads((tmp_path / "journal/export-tensorboard.json").read_text())["project"] == "p"
    assert not any(b"q7RtzL0pWx" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_training_run_reports_to_tensorboard_beside_the_journal(tmp_path):
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    flags = ["--per_device_train_batch_size", "8", "--num_generations", "4", "--max_completion_length", "16"]
    flags += [
        "--max_eval_samples",
        "5",
        "--verifier_workers",
        "1",
        "--use_cpu",
        "--max_steps",
        "2",
        "--output_dir",
        "run",
    ]
    command = [sys.executable, "-m", "grpo_project.cli", "train", *flags]
    names = ["--report_to", "tensorboard", "--project", "q", "--run_name", "mine"]
    done = subprocess.run([*command, *names], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    shown = read_tensorboard(tmp_path)
    run = Run.open(tmp_path / "run")
    assert [step for step, _ in shown["loss"]] == [1, 2]
    assert [value for _, value in shown["reward"]] == pytest.approx([row["reward"] for row in run.metrics("train")])
    assert [step for step, _ in shown["eval_avg_test_pass_rate"]] == [row["step"] for row in run.metrics("eval")]
    identity = json.loads((tmp_path / "run/journal/export-tensorboard.json").read_text())
    assert (identity["project"], identity["name"]) == ("q", "mine")

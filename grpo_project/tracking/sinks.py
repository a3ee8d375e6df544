"""Where the journal is projected to beside W&B: TensorBoard, MLflow, Trackio. Numbers only, over the trainer's step.

Each takes rows in rising order of step and says how far it has come (``last_step``), so that a process that was killed
goes on without losing or doubling one. A library is imported when its sink is opened, in the exporter's own process.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from grpo_project.errors import TrackingError
from grpo_project.tracking.segments import STEP_METRIC, Row


@dataclass(frozen=True, slots=True)
class Target:
    """What is projected: the run directory, and what the run is called there.

    ``known``: the run's id at the sink, from an earlier start of it; None: it is to be made, and ``remember`` told.
    """

    output_dir: Path
    project: str
    name: str
    known: str | None = None
    remember: Callable[[str], None] = lambda _: None
    config: Mapping[str, Any] = field(default_factory=dict)


class Sink(Protocol):
    """A place that shows metrics."""

    last_step: int
    """The newest step that it holds already; -1: none. Rows up to it are not written again."""

    def write(self, row: Row) -> None:
        """Take a row. May raise what the library raises: the sink is then opened again."""

    def flush(self) -> None:
        """Everything that was written can be seen now."""

    def close(self, exit_code: int) -> None:
        """The run has ended."""


def numbers(row: Row) -> dict[str, float]:
    """The row's numbers by name; texts, tables and histograms stay in the journal."""
    return {name: float(value) for name, value in row.values.items() if isinstance(value, int | float)}


class TensorBoard:
    """One event file below ``tensorboard/``, written anew from the journal by each start of the exporter.

    So it holds each step once whatever was killed: TensorBoard reads every event file of a folder, and the client's own
    ``purge_step`` hides what was superseded only from readers that were not looking at the time.
    """

    def __init__(self, target: Target) -> None:
        # Not torch.utils.tensorboard, which is the same writer behind an import of torch.
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = target.output_dir / "tensorboard"
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self.last_step = -1
        self._writer = EventFileWriter(str(folder))

    def write(self, row: Row) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=as_float32(value)) for name, value in numbers(row).items()]
        self._writer.add_event(Event(wall_time=row.time, step=row.step, summary=Summary(value=values)))

    def flush(self) -> None:
        self._writer.flush()

    def close(self, exit_code: int) -> None:
        self._writer.close()


def as_float32(value: float) -> float:
    """``value`` within the range of the format's 32 bits; protobuf refuses a float beyond it."""
    limit = 3.4e38
    return value if not math.isfinite(value) else max(-limit, min(limit, value))


class MLflow:
    """One run at the tracking server that ``MLFLOW_TRACKING_URI`` names (else the client's default)."""

    BATCH = 900  # the service takes 1,000 metrics at once
    PARAMS, PARAM_LENGTH = 100, 500

    def __init__(self, target: Target) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        if target.known is None:
            found = self._client.get_experiment_by_name(target.project)
            experiment = found.experiment_id if found else self._client.create_experiment(target.project)
            self._run = self._client.create_run(experiment, run_name=target.name).info.run_id
            target.remember(self._run)
            self._log_config(target.config)
        else:
            self._run = target.known
            self._client.update_run(self._run, status="RUNNING")
        self.last_step = max((m.step for m in self._client.get_metric_history(self._run, STEP_METRIC)), default=-1)

    def write(self, row: Row) -> None:
        from mlflow.entities import Metric

        values = {metric_name(name): value for name, value in numbers(row).items()}
        # The step's own metric comes with the last batch: where it is, the row is there in full.
        ordered = [*values.items(), (STEP_METRIC, float(row.step))]
        metrics = [Metric(name, value, int(row.time * 1000), row.step) for name, value in ordered]
        for start in range(0, len(metrics), self.BATCH):
            self._client.log_batch(self._run, metrics=metrics[start : start + self.BATCH])

    def flush(self) -> None:
        """Each batch was acknowledged."""

    def close(self, exit_code: int) -> None:
        self._client.set_terminated(self._run, "FAILED" if exit_code else "FINISHED")

    def _log_config(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = [
            Param(metric_name(name), str(value)[: self.PARAM_LENGTH])
            for name, value in flattened(config)
            if value not in (None, "")
        ]
        for start in range(0, len(flat), self.PARAMS):
            self._client.log_batch(self._run, params=flat[start : start + self.PARAMS])


def metric_name(name: str) -> str:
    """What MLflow takes for a name: ``eval/pass@1`` becomes ``eval/pass_1``."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:250].strip("/") or "_"


def flattened(config: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
    """Nested names joined by dots."""
    found: list[tuple[str, Any]] = []
    for name, value in config.items():
        found += flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found


class Trackio:
    """One run of a local Trackio project (``TRACKIO_DIR``, else its cache)."""

    def __init__(self, target: Target) -> None:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        name = target.known or target.name
        if target.known is None:
            taken = set(SQLiteStorage.get_runs(target.project))
            number = 1
            while name in taken:
                number += 1
                name = f"{target.name}-{number}"
            target.remember(name)
        newest = SQLiteStorage.get_max_step_for_run(target.project, name)
        self.last_step = -1 if newest is None else newest
        self._run = trackio.init(
            project=target.project, name=name, config=dict(target.config), resume="allow", embed=False
        )

    def write(self, row: Row) -> None:
        self._run.log({**numbers(row), STEP_METRIC: row.step}, step=row.step)

    def flush(self) -> None:
        """A thread of the client's own writes within a second."""

    def close(self, exit_code: int) -> None:
        self._run.finish()


SINKS: dict[str, Callable[[Target], Sink]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "trackio": Trackio}


def check_installed(names: Sequence[str]) -> None:
    """
    Raises:
        TrackingError: a sink that does not exist, or whose library is not installed.
    """
    for name in names:
        if name not in SINKS:
            raise TrackingError(f"--report_to {name}: metrics can go to wandb, {', '.join(SINKS)}")
        if importlib.util.find_spec(name) is None:
            raise TrackingError(f"--report_to {name}: it is not installed here; run `pip install {name}`")

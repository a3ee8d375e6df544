"""``grpo_project.Run``: a run directory as tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_project.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from grpo_project.reports.run_reader import RunReader


class Run:
    """Reads a run, finished or not. Each call reads the files as they are now.

    Tables are Arrow's: ``run.samples().to_pandas()`` with pandas, ``polars.from_arrow(run.samples())`` with polars.
    Rows that a resume superseded are left out.

    Raises:
        ConfigError: ``output_dir`` is not a run directory.
    """

    def __init__(self, output_dir: str | os.PathLike[str]) -> None:
        self.output_dir = Path(output_dir)
        if not (self.output_dir / "journal").is_dir():
            raise ConfigError(f"{self.output_dir} is not a run directory: it has no journal/ folder")

    def metrics(self, kind: str = "train") -> pa.Table:
        """One row for each optimizer step ("train") or evaluation ("eval"); a metric that a row lacks is null."""
        import pyarrow as pa

        from grpo_project.record.run_directory import Run as RunDirectory

        rows = RunDirectory(self.output_dir).metrics(kind)
        names = dict.fromkeys(name for row in rows for name in row if not name.startswith("_values"))
        return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})

    def events(self) -> list[dict[str, Any]]:
        """Starts, stage decisions with reasons, alarms, faults, in the order of writing."""
        from grpo_project.record.run_directory import Run as RunDirectory

        return RunDirectory(self.output_dir).events()

    def samples(self) -> pa.Table:
        """Every training completion with verdict, per-test results, rewards and advantage."""
        from grpo_project.record.samples import read_samples

        return read_samples(self.output_dir)

    def evaluations(self) -> pa.Table:
        """Every evaluated completion, the same way."""
        from grpo_project.record.evaluations import read_evaluations

        return read_evaluations(self.output_dir)

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``interrupted``, ``failed``, ``killed``; ``unknown`` without a run.json."""
        return self._reader().status

    @property
    def config(self) -> dict[str, Any]:
        """The flags of the run: ``run``, ``grpo`` and ``model``."""
        return self._reader().config

    @property
    def last_step(self) -> int:
        return self._reader().last_step

    def _reader(self) -> RunReader:
        from grpo_project.reports.run_reader import RunReader

        return RunReader.open(self.output_dir)

    def __repr__(self) -> str:
        return f"Run({str(self.output_dir)!r})"

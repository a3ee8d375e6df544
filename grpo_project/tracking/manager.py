"""W&B for a training script, with every step exactly once: the three functions and the manager behind them.

    from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log

    manager = initialize_wandb_sync_manager("runs/a", "my-project")
    safe_wandb_log({"loss": 0.5}, step=1)

A row goes into the run's journal, which is the record; a process of its own takes it from there to W&B. Nothing here
imports wandb, waits for it, or sees its exceptions. Works around any Hugging Face ``Trainer`` and without one.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import operator
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo_project.errors import TrackingError
from grpo_project.record.journal import Journal, next_attempt
from grpo_project.record.json_line import plain
from grpo_project.record.secrets import redact
from grpo_project.tracking.processes import UploaderProcess
from grpo_project.tracking.segments import check_name, choose_policy, plan_segment, record_segment
from grpo_project.tracking.settings import DEFAULT_PROJECT, Mode, Pace, find_mode
from grpo_project.tracking.state import read_state, sync_status, write_state

logger = logging.getLogger(__name__)

FINISH_TIMEOUT_S = 60.0
_manager: WandBSyncManager | None = None


class WandBSyncManager:
    """Takes metrics for the journal and keeps the uploader alive. One a process; use the functions below.

    ``rank`` other than 0 sends nothing: its rows are kept in ``journal/rank-N.jsonl``.
    """

    def __init__(
        self,
        output_dir: Path,
        journal: Journal | None,
        *,
        mode: str,
        rank: int = 0,
        pace: Pace | None = None,
        owns_journal: bool = False,
    ) -> None:
        self.output_dir, self.journal, self.mode, self.rank = output_dir, journal, mode, rank
        self._owns_journal = owns_journal
        self._owner = os.getpid()
        self._finished = False
        self._uploader: UploaderProcess | None = None
        if mode == "online" and rank == 0:
            assert journal is not None
            self._uploader = UploaderProcess(output_dir, journal, pace or Pace())
            journal.after_row = self._uploader.keep_alive

    def log(self, data: Mapping[str, Any], step: int) -> bool:
        """See ``safe_wandb_log``."""
        if self._finished and self._owns_journal:
            raise TrackingError("safe_wandb_log was called after finish(); initialise a manager for the next run first")
        checked, unusable = self._check(data, step)
        if self.rank != 0:
            self._keep_rank_row(checked, data)
            return False
        assert self.journal is not None
        if checked is None or checked < self.journal.last_step or unusable:
            self._keep_rejected(checked, data, unusable)
        if checked is None:
            raise TrackingError(f"a step is a whole number from 0 on, not {step!r}; the row is kept in the events")
        if checked < self.journal.last_step:
            raise TrackingError(
                f"step {checked} comes after step {self.journal.last_step}: W&B takes steps in rising order only; "
                "the row is kept in the events. Log all of a step before the next one begins"
            )
        self.journal.metrics(checked, "user", {key: value for key, value in data.items() if key not in unusable})
        if unusable:
            raise TrackingError(f"{'; '.join(unusable.values())}. The rest of the row is logged, the text is kept")
        return self.mode == "online" and not self._finished

    def get_sync_status(self) -> dict[str, Any]:
        """Rows in the journal, delivered, confirmed and pending, by W&B run; last error and since when."""
        return sync_status(self.output_dir)

    def finish(self, timeout_s: float = FINISH_TIMEOUT_S, exit_code: int | None = None) -> dict[str, Any]:
        """Deliver what is left, for at most ``timeout_s`` seconds; the rest stays for the next start or ``grpo sync``.

        Args:
            exit_code: what W&B shows of the run; None: 1 while an exception is being handled, else 0.

        Returns the status. Calling it twice, or in a forked child, does nothing more.
        """
        if os.getpid() != self._owner or self._finished or self.rank != 0:
            return {} if self.rank else self.get_sync_status()
        self._finished = True
        assert self.journal is not None
        self.journal.after_row = None
        if self._uploader is not None:
            # At the interpreter's exit the exception that ended the script is found in last_value.
            failing = sys.exc_info()[0] is not None or getattr(sys, "last_value", None) is not None
            self._uploader.drain(int(failing) if exit_code is None else exit_code, timeout_s)
        status = self.get_sync_status()
        if self._owns_journal:
            self.journal.close()
        if self.mode == "online" and status["pending"]:
            logger.warning(
                "W&B: %d of %d rows are not confirmed; upload them with: grpo sync %s",
                *(status["pending"], status["rows"], self.output_dir),
            )
        return status

    def _check(self, data: Mapping[str, Any], step: Any) -> tuple[int | None, dict[str, str]]:
        """The step as a whole number (None: it is none), and for each value that can't be recorded, why."""
        if not isinstance(data, Mapping):
            raise TrackingError(f"safe_wandb_log takes a dictionary of metrics, not {type(data).__name__}")
        unusable = {}
        for key, value in data.items():
            if type(value) in (float, int, str, bool):
                continue
            try:
                plain(value)
            except (TypeError, ValueError, RecursionError) as error:
                unusable[key] = f"{key!r}: {error}"
        return whole_step(step), unusable

    def _keep_rejected(self, step: int | None, data: Mapping[str, Any], unusable: Mapping[str, str]) -> None:
        """Keep what can't be logged as an event, the unrecordable values as text."""
        assert self.journal is not None
        kept = {str(key): repr(value) if key in unusable else plain(value) for key, value in data.items()}
        self.journal.event("rejected", step=step, data=kept, reasons=list(unusable.values()))

    def _keep_rank_row(self, step: int | None, data: Mapping[str, Any]) -> None:
        path = self.output_dir / "journal" / f"rank-{self.rank}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = {"step": step, "time": round(time.time(), 3), **json_values(data)}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def initialize_wandb_sync_manager(
    output_dir: str | os.PathLike[str],
    project_name: str | None = None,
    run_name: str | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    resume: str | None = None,
    force_new: bool = False,
    attempt: int | None = None,
    resume_step: int | None = None,
    mode: str | None = None,
    journal: Journal | None = None,
    pace: Pace | None = None,
) -> WandBSyncManager:
    """Start tracking a run directory. An earlier manager of this process is finished first.

    Args:
        output_dir: the run directory; made if absent.
        project_name: W&B project. None: WANDB_PROJECT, else "grpo-project".
        run_name: W&B run name. None: WANDB_NAME, else the folder's name. Later segments add ``-attemptN``.
        config: hyperparameters for W&B's config.
        resume: how a second start in ``output_dir`` goes on: "new" segment of the same group, or the "same" run.
            None: WANDB_RESUME, else "same" with a WANDB_RUN_ID, else "new".
        force_new: a new W&B run whatever ``resume``, WANDB_RESUME and WANDB_RUN_ID say.
        attempt: number of this process start; None: the journal's, or the next one.
        resume_step: the last step that this start takes over from a checkpoint; None: 0, or not known (then what the
            first row's step implies).
        mode: "online", "offline" or "disabled". None: WANDB_MODE, else whether there is an API key.
        journal: the trainer's own; None: one is made, and ``started`` or ``resumed`` recorded in it.

    Raises:
        TrackingError: a setting that can't be meant, or "online" without an API key.
        ConfigError: another live process writes ``output_dir``.
    """
    global _manager
    if _manager is not None:
        _manager.finish()
    root = Path(output_dir).absolute()  # the script may change its working directory
    found, policy = check_wandb_settings(project_name, resume=resume, force_new=force_new, mode=mode)
    rank = distributed_rank()
    if rank != 0:
        _manager = WandBSyncManager(root, None, mode=found.name, rank=rank, pace=pace)
        return _manager
    root.mkdir(parents=True, exist_ok=True)
    owns_journal = journal is None
    if journal is None:
        journal = Journal(root, next_attempt(root) if attempt is None else attempt)
        again = journal.attempt > 0
        journal.event("resumed" if again else "started", step=resume_step if again else resume_step or 0)
    if found.name != "disabled":
        segment = plan_segment(
            *(root, journal.attempt, resume_step, policy),
            project=project_name,
            name=run_name,
            config=json_values(config or {}),
            force_new=force_new,
        )
        record_segment(root, journal.attempt, segment)
    state = read_state(root)
    state.mode, state.reason = found.name, found.reason
    write_state(root, state)
    if found.name == "offline":
        logger.warning("W&B: offline (%s). Upload later with: grpo sync %s", found.reason, root)
    _manager = WandBSyncManager(root, journal, mode=found.name, pace=pace, owns_journal=owns_journal)
    atexit.register(_manager.finish)
    return _manager


def check_wandb_settings(
    project_name: str | None = None, *, resume: str | None = None, force_new: bool = False, mode: str | None = None
) -> tuple[Mode, str]:
    """The mode and the resume policy that ``initialize_wandb_sync_manager`` would use. Writes nothing.

    Raises:
        TrackingError: a setting that can't be meant, or "online" without an API key.
    """
    found, policy = find_mode(mode), choose_policy(resume, force_new)
    check_name("the W&B project", project_name or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT)
    check_name("WANDB_RUN_ID", os.environ.get("WANDB_RUN_ID") or "none")
    return found, policy


def get_wandb_sync_manager() -> WandBSyncManager | None:
    """The manager of this process, or None before ``initialize_wandb_sync_manager``."""
    return _manager


def safe_wandb_log(data: Mapping[str, Any], step: int) -> bool:
    """Log the metrics of a step. True: accepted for delivery. False: kept locally only (offline, disabled, other rank).

    Values: numbers, strings, numpy and torch scalars and arrays, NaN and infinities, ``Table``, ``Histogram`` and the
    wandb objects of these names. All calls with the same step become one W&B row. W&B's failures never reach the
    caller.

    Raises:
        TrackingError: called before ``initialize_wandb_sync_manager``, or what was passed can't be meant: a step that
            goes back or is no whole number, a value that can't be recorded. What was passed is kept nevertheless.
        JournalError: the disk refused the row.
    """
    if _manager is None:
        raise TrackingError("safe_wandb_log was called before initialize_wandb_sync_manager(output_dir, project_name)")
    return _manager.log(data, step)


def whole_step(step: Any) -> int | None:
    """``step`` as a whole number from 0 on (numpy and torch scalars too), or None."""
    if isinstance(step, str | bytes):
        return None
    try:
        whole = operator.index(step)
    except TypeError:
        try:
            number = float(step)
        except (TypeError, ValueError):
            return None
        if not math.isfinite(number) or number != int(number):
            return None
        whole = int(number)
    return whole if whole >= 0 else None


def distributed_rank() -> int:
    """This process's rank: torch.distributed where it is in use, else what the launcher says; 0 alone."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank())
    return int(os.environ.get("RANK", "0"))


def json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` in JSON's types, the rest as text, and without secrets."""
    return redact({str(key): plain_or_text(value) for key, value in values.items()})


def plain_or_text(value: Any) -> Any:
    try:
        return plain(value)
    except TypeError:
        return repr(value)

"""W&B for a training script, with every step exactly once: the three functions and the manager behind them.

    from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log

    manager = initialize_wandb_sync_manager("runs/a", "my-project")
    safe_wandb_log({"loss": 0.5}, step=1)

A row goes into the run's journal, which is the record; a process of its own takes it from there to W&B. Nothing here
imports wandb, waits for it, or sees its exceptions. Works around any Hugging Face ``Trainer`` and without one.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from grpo_project.errors import JournalError, TrackingError
from grpo_project.record.journal import Journal, append_event, next_attempt
from grpo_project.record.json_line import encode
from grpo_project.tracking.processes import ProjectionProcess, exporter, uploader
from grpo_project.tracking.segments import check_name, choose_policy, plan_segment, record_segment
from grpo_project.tracking.settings import DEFAULT_PROJECT, Mode, Pace, find_mode
from grpo_project.tracking.sinks import check_installed
from grpo_project.tracking.state import LocalState, read_state, sync_status, write_state
from grpo_project.tracking.values import Checked, as_text, check, json_values, whole_step

logger = logging.getLogger(__name__)

FINISH_TIMEOUT_S = 60.0
EARLY_ROWS = 10_000
"""So many rows are kept in memory before there is a manager."""
_manager: WandBSyncManager | None = None
_early: list[tuple[Any, Any]] = []


class Misuse(TrackingError):
    """A call that can't be meant. ``kind``: which of the possible mistakes, so that each is said once."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


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
        report_to: Sequence[str] = (),
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir, self.journal, self.mode, self.rank = output_dir, journal, mode, rank
        self._owns_journal = owns_journal
        self._owner = os.getpid()
        self.finished = False
        self._warned: set[str] = set()
        self._lock = threading.RLock()  # a signal handler may log amid a call
        self._projections: list[ProjectionProcess] = []
        self._local: LocalState | None = None
        if mode == "online" and rank == 0:
            assert journal is not None
            self._projections.append(uploader(output_dir, journal, pace or Pace()))
        elif journal is not None:
            self._local = LocalState(output_dir, journal)
        if journal is not None:
            self._projections += [exporter(output_dir, journal, sink, identity or {}) for sink in report_to]
            journal.after_row = self._after_row

    def log(self, data: Mapping[str, Any], step: int, *, strict: bool = False, kind: str = "user") -> bool:
        """See ``safe_wandb_log``. ``kind``: who measured it ("train", "eval"); readers select by it."""
        try:
            return self._log(data, step, kind)
        except (TrackingError, JournalError) as error:
            if strict:
                raise
            self.warn_once(error)
            return False

    def warn_once(self, error: Exception) -> None:
        """One line for each kind of mistake, however often a loop repeats it."""
        kind = error.kind if isinstance(error, Misuse) else type(error).__name__
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning("safe_wandb_log: %s (said once)", error)

    def _log(self, data: Mapping[str, Any], step: Any, kind: str) -> bool:
        """
        Raises:
            Misuse: something could not be logged as it was passed; what can be kept is kept.
            JournalError: the disk refused the row.
        """
        if not isinstance(data, Mapping):
            self._keep_rejected(whole_step(step), Checked(texts={"data": as_text(data)}), ["not a dictionary"])
            raise Misuse("data", f"it takes a dictionary of metrics, not {type(data).__name__}")
        whole, checked = whole_step(step), check(data)
        if self.rank != 0:
            self._keep_rank_row(whole, checked)
            return False
        with self._one_at_a_time():
            late = self._order_mistake(whole, step)
            if late is not None:
                self._keep_rejected(whole, checked, [str(late), *checked.unusable.values()])
                raise late
            assert self.journal is not None and whole is not None
            if checked.values or not checked.unusable:
                self.journal.metrics(whole, kind, checked.values)
        if checked.unusable:
            reasons = list(checked.unusable.values())
            self._keep_rejected(whole, Checked(texts=checked.texts), reasons)
            raise Misuse("value", f"{'; '.join(reasons)}. The rest of the row is logged, the text is kept")
        return self.mode == "online" and not self.finished

    def _order_mistake(self, whole: int | None, step: Any) -> Misuse | None:
        """Why no row can be written for this step now; None: it can."""
        if self.finished and self._owns_journal:
            return Misuse("finished", "it was called after finish(); the row is kept in the events")
        if whole is None:
            kept = "the row is kept in the events"
            return Misuse("step", f"a step is a whole number from 0 on, not {as_text(step)}; {kept}")
        assert self.journal is not None
        if whole < self.journal.last_step:
            return Misuse(
                "order",
                f"step {whole} comes after step {self.journal.last_step}: W&B takes steps in rising order only; "
                "the row is kept in the events. Log all of a step before the next one begins",
            )
        return None

    def _one_at_a_time(self) -> AbstractContextManager[Any]:
        """Steps are compared and written by one thread at a time. A forked child has no other threads, and the lock
        that it inherited may be held by one of its parent's."""
        return self._lock if os.getpid() == self._owner else contextlib.nullcontext()

    def get_sync_status(self) -> dict[str, Any]:
        """Rows in the journal, delivered, confirmed and pending, by W&B run; last error and since when."""
        return sync_status(self.output_dir)

    def finish(self, timeout_s: float = FINISH_TIMEOUT_S, exit_code: int | None = None) -> dict[str, Any]:
        """Deliver what is left, for at most ``timeout_s`` seconds; the rest stays for the next start or ``grpo sync``.

        Args:
            exit_code: what W&B shows of the run; None: 1 while an exception is being handled, else 0.

        Returns the status. Calling it twice, or in a forked child, does nothing more.
        """
        if os.getpid() != self._owner or self.finished or self.rank != 0:
            return {} if self.rank else self.get_sync_status()
        self.finished = True
        assert self.journal is not None
        self.journal.after_row = None
        # At the interpreter's exit the exception that ended the script is found in last_value.
        failing = sys.exc_info()[0] is not None or getattr(sys, "last_value", None) is not None
        deadline = time.monotonic() + timeout_s
        for projection in self._projections:
            projection.drain(int(failing) if exit_code is None else exit_code, max(1.0, deadline - time.monotonic()))
        if self._local is not None:
            self._local.write()
        status = self.get_sync_status()
        if self._owns_journal:
            self.journal.close()
        if self.mode == "online" and status["pending"]:
            logger.warning(
                "W&B: %d of %d rows are not confirmed; upload them with: grpo sync %s",
                *(status["pending"], status["rows"], self.output_dir),
            )
        return status

    def _after_row(self) -> None:
        """Called by the journal after each row."""
        for projection in self._projections:
            projection.keep_alive()
        if self._local is not None:
            self._local.after_row()

    def _keep_rejected(self, step: int | None, checked: Checked, reasons: list[str]) -> None:
        """Keep what can't be logged as an event, the unrecordable values as text."""
        if self.journal is None:
            self._keep_rank_row(step, checked)
            return
        fields = {"data": checked.values | checked.texts, "reasons": reasons}
        if self.finished and self._owns_journal:
            append_event(self.output_dir, self.journal.attempt, "rejected", step=step, **fields)
        else:
            self.journal.event("rejected", step=step, **fields)

    def _keep_rank_row(self, step: int | None, checked: Checked) -> None:
        path = self.output_dir / "journal" / f"rank-{self.rank}.jsonl"
        row = {"step": step, "time": round(time.time(), 3), **checked.values, **checked.texts}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                file.write(encode(row))
        except OSError as error:
            raise JournalError(f"can't write {path}: {error}") from error


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
    report_to: Sequence[str] = (),
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
        report_to: where the journal is projected to beside W&B: "tensorboard", "mlflow", "trackio".
        journal: the trainer's own; None: one is made, and ``started`` or ``resumed`` recorded in it.

    Raises:
        TrackingError: a setting that can't be meant, "online" without an API key, or a library that is not installed.
        ConfigError: another live process writes ``output_dir``.
    """
    global _manager
    if _manager is not None:
        _manager.finish()
    root = Path(output_dir).absolute()  # the script may change its working directory
    found, policy = check_wandb_settings(project_name, resume=resume, force_new=force_new, mode=mode)
    check_installed(report_to)
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
    identity = {
        "project": project_name or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT,
        "name": run_name or os.environ.get("WANDB_NAME") or root.name,
        "config": json_values(config or {}),
    }
    _manager = WandBSyncManager(
        *(root, journal),
        mode=found.name,
        pace=pace,
        owns_journal=owns_journal,
        report_to=report_to,
        identity=identity,
    )
    atexit.register(_manager.finish)
    for data, step in _early:
        _manager.log(data, step)
    _early.clear()
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


def safe_wandb_log(data: Mapping[str, Any], step: int, *, strict: bool = False) -> bool:
    """Log the metrics of a step. True: accepted for delivery. False: kept locally only.

    Values: numbers, strings, numpy and torch scalars and arrays, NaN and infinities, ``Table``, ``Histogram`` and the
    wandb objects of these names. All calls with the same step become one W&B row.

    It stands where ``wandb.log`` stood and ends no training: W&B's failures never reach the caller, and a mistake (a
    step that goes back or is no whole number, a value that can't be recorded, a call before the start or after the end,
    a full disk) warns once a kind and returns False. What was passed is kept: rows and values that can't be rows as
    ``rejected`` events of the journal, rows before the start until ``initialize_wandb_sync_manager`` takes them.

    Args:
        strict: raise instead of warning.

    Raises:
        TrackingError: ``strict``, and what was passed can't be meant. It is kept nevertheless.
        JournalError: ``strict``, and the disk refused the row.
    """
    if _manager is not None:
        return _manager.log(data, step, strict=strict)
    message = "safe_wandb_log was called before initialize_wandb_sync_manager(output_dir, project_name)"
    if strict:
        raise TrackingError(message)
    if not _early:
        logger.warning("%s: its rows are logged when that is called, and lost if it never is (said once)", message)
    if len(_early) < EARLY_ROWS:
        checked = check(data) if isinstance(data, Mapping) else None  # a copy: the script may use its dictionary again
        _early.append((data if checked is None else checked.values | checked.texts, step))
    return False


def distributed_rank() -> int:
    """This process's rank: torch.distributed where it is in use, else what the launcher says; 0 alone."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank())
    return int(os.environ.get("RANK", "0"))

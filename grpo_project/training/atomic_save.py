"""Saving a checkpoint so that a kill at any moment leaves either the whole of it or none of it."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from grpo_project.record.durable import flush
from grpo_project.training import checkpoints

logger = logging.getLogger("grpo_project")


class AtomicSave(Trainer):
    """Stage beside, describe and flush, rename, then rotate. Works on every rank.

    A save that fails (a full disk, a folder that became read-only) is reported and training goes on: the checkpoint
    before it stays, and the next save tries again.
    """

    _staging = False
    save_failures = 0

    def _get_output_dir(self, trial: Any = None) -> str:
        run_dir = super()._get_output_dir(trial)
        return os.path.join(run_dir, checkpoints.STAGING) if self._staging else run_dir

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        started = time.perf_counter()
        error = self._stage(model, trial)
        failures = [failure for failure in gather_object([error]) if failure]
        if failures:
            if self.args.should_save:  # a full disk needs the room at once
                shutil.rmtree(Path(self.args.output_dir, checkpoints.STAGING), ignore_errors=True)
            self.save_failures += 1
            self.on_save_failed(failures[0])
        elif self.args.should_save:
            self._publish(started)
        self.accelerator.wait_for_everyone()

    def on_save_failed(self, reason: str) -> None:
        """A checkpoint could not be written. The run goes on."""
        step = self.state.global_step
        logger.error("checkpoint of step %d NOT saved (%s); training goes on, the next save tries again", step, reason)

    def on_saved(self, checkpoint: Path, deleted: list[Path], seconds: float) -> None:
        """A checkpoint is whole and in its place, which took ``seconds`` (main process only)."""

    def _stage(self, model: Any, trial: Any) -> str | None:
        """Write this rank's part below ``.staging``; return the reason if that failed."""
        staging = Path(self.args.output_dir, checkpoints.STAGING)
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = True
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, SafetensorError, RuntimeError) as error:
            # The boundary of saving: torch.save reports a full disk as RuntimeError, safetensors as SafetensorError.
            return f"{type(error).__name__}: {error}"
        finally:
            self._staging = False
        return None

    def _publish(self, started: float) -> None:
        """Give the staged checkpoint its name (main process)."""
        run_dir = Path(self.args.output_dir)
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staged, final = run_dir / checkpoints.STAGING / name, run_dir / name
        try:
            self._correct_best_checkpoint(staged, run_dir)
            checkpoints.write_manifest(staged)
            if final.exists():  # of an earlier attempt that got further than its last save
                checkpoints.set_aside(run_dir, final)
            staged.rename(final)
            flush(run_dir)
            best = self.state.best_model_checkpoint
            deleted = checkpoints.rotate(run_dir, self.args.save_total_limit, best)
            shutil.rmtree(staged.parent)
        except OSError as error:
            shutil.rmtree(run_dir / checkpoints.STAGING, ignore_errors=True)
            self.save_failures += 1
            self.on_save_failed(str(error))
        else:
            self.on_saved(final, deleted, time.perf_counter() - started)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """With ``--save_total_limit 1`` transformers (trainer.py:2016) deletes the last checkpoint at the end where
        another is the best; a continued run would train again what lies between. ``rotate`` keeps both."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            checkpoints.require_whole(Path(self.state.best_model_checkpoint), "the best checkpoint")
        super()._load_best_model()

    def _correct_best_checkpoint(self, staged: Path, run_dir: Path) -> None:
        """The state was written while the best checkpoint's path led to the staging folder."""
        state = self.state
        if state.best_model_checkpoint and checkpoints.STAGING in Path(state.best_model_checkpoint).parts:
            state.best_model_checkpoint = str(run_dir / Path(state.best_model_checkpoint).name)
            state.save_to_json(str(staged / "trainer_state.json"))

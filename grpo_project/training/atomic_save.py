"""Saving a checkpoint so that a kill at any moment leaves either the whole of it or none of it."""

from __future__ import annotations

import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from safetensors import SafetensorError
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.trainer_pt_utils import reissue_pt_warnings
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput
from transformers.utils import is_torch_xla_available

from grpo_project.training import checkpoints
from grpo_project.training.checkpoints import Written
from grpo_project.training.exact_state import ExactState
from grpo_project.training.hashed_file import FileHashes

logger = logging.getLogger("grpo_project")


class AtomicSave(ExactState):
    """Stage beside, hash on the way, describe, rename; then, beside the next steps, flush, and rotate. On every rank.

    Whoever is killed leaves what was written, since the pages are the kernel's: from the renaming on the checkpoint is
    whole. A loss of power may take pages that were not flushed. The manifest shows it then, and the checkpoint before
    is used: none is deleted before a later one is on the disk. Rows of the journal are flushed before the checkpoint
    that goes on from them has its name. ``settle`` waits for all of it: the next save and the end of training call it.

    A save that fails (a full disk, a folder that became read-only) is reported and training goes on: the checkpoint
    before it stays, and the next save tries again.
    """

    flush_record: Callable[[], None] = staticmethod(lambda: None)
    """Returns once what was recorded of the steps until now is on the disk itself."""
    save_failures = 0
    _staging = False
    _hashes: FileHashes | None = None
    _flusher: ThreadPoolExecutor | None = None
    _flushing: tuple[Path, Future[None]] | None = None

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        try:
            return super().train(*args, **kwargs)
        finally:
            self.settle()
            if self._flusher is not None:
                self._flusher.shutdown()
                self._flusher = None

    def settle(self) -> None:
        """Return once the newest checkpoint is on the disk itself, or that failed and was reported."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            try:
                flushing[1].result()
            except OSError as error:
                self.on_flush_failed(flushing[0], str(error))

    def _get_output_dir(self, trial: Any = None) -> str:
        run_dir = super()._get_output_dir(trial)
        return os.path.join(run_dir, checkpoints.STAGING) if self._staging else run_dir

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        started = time.perf_counter()
        self.settle()
        if self.args.should_save:
            self.flush_record()
        found = gather_object([self._stage(model, trial)])  # of every rank
        failures = [failure for failure, _ in found if failure]
        if failures:
            if self.args.should_save:  # a full disk needs the room at once
                shutil.rmtree(Path(self.args.output_dir, checkpoints.STAGING), ignore_errors=True)
            self.save_failures += 1
            self.on_save_failed(failures[0])
        elif self.args.should_save:
            self._publish({name: written for _, known in found for name, written in known.items()}, started)
        self.accelerator.wait_for_everyone()

    def on_save_failed(self, reason: str) -> None:
        """A checkpoint could not be written. The run goes on."""
        step = self.state.global_step
        logger.error("checkpoint of step %d NOT saved (%s); training goes on, the next save tries again", step, reason)

    def on_flush_failed(self, checkpoint: Path, reason: str) -> None:
        """A checkpoint is whole, but the disk may not have it (main process only). The run goes on."""
        logger.error("%s may not outlive this machine (%s); no older checkpoint was deleted", checkpoint.name, reason)

    def on_saved(self, checkpoint: Path, seconds: float) -> None:
        """A checkpoint is whole and in its place, for which training waited ``seconds`` (main process only)."""

    def _stage(self, model: Any, trial: Any) -> tuple[str | None, dict[str, Written]]:
        """Write this rank's part below ``.staging``; return why that failed, or ``None``, and what was hashed."""
        staging = Path(self.args.output_dir, checkpoints.STAGING)
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = True
        try:
            with FileHashes() as self._hashes:
                super()._save_checkpoint(model, trial)
                return None, self._hashes.known(staging / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        except (OSError, SafetensorError, RuntimeError) as error:
            # The boundary of saving: torch.save reports a full disk as RuntimeError, safetensors as SafetensorError.
            return f"{type(error).__name__}: {error}", {}
        finally:
            self._staging, self._hashes = False, None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled  # other ranks may be writing theirs still
        if self._hashes is not None and self.args.should_save and output_dir is not None and not sharded:
            self._hashes.begin(Path(output_dir).glob("*.safetensors"))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if self._hashes is None or sharded or not self.args.should_save or is_torch_xla_available():
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # transformers/trainer.py:3562 and 3576, but for the hashing. A scheduler's state may warn, as it does there.
        self._hashes.save(self.optimizer.state_dict(), Path(output_dir, OPTIMIZER_NAME))
        with warnings.catch_warnings(record=True) as caught:
            self._hashes.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))
        reissue_pt_warnings(caught)

    def write_state(self, state: dict[str, Any], file: Path) -> None:
        if self._hashes is None:
            super().write_state(state, file)
        else:
            self._hashes.save(state, file)

    def _publish(self, known: dict[str, Written], started: float) -> None:
        """Give the staged checkpoint its name (main process); flushing it goes on beside training."""
        run_dir = Path(self.args.output_dir)
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staged, final = run_dir / checkpoints.STAGING / name, run_dir / name
        try:
            self._correct_best_checkpoint(staged, run_dir)
            checkpoints.write_manifest(staged, known)
            if final.exists():  # of an earlier attempt that got further than its last save
                checkpoints.set_aside(run_dir, final)
            staged.rename(final)
            shutil.rmtree(staged.parent)
        except OSError as error:
            shutil.rmtree(run_dir / checkpoints.STAGING, ignore_errors=True)
            self.save_failures += 1
            self.on_save_failed(str(error))
        else:
            self._flusher = self._flusher or ThreadPoolExecutor(1, thread_name_prefix="flush")
            limit, best = self.args.save_total_limit, self.state.best_model_checkpoint
            self._flushing = final, self._flusher.submit(_flush_and_rotate, final, limit, best)
            self.on_saved(final, time.perf_counter() - started)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """With ``--save_total_limit 1`` transformers (trainer.py:2016) deletes the last checkpoint at the end where
        another is the best; a continued run would train again what lies between. ``rotate`` keeps both."""
        self.settle()
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


def _flush_and_rotate(checkpoint: Path, keep: int | None, best: str | None) -> None:
    """In a thread of its own; nobody else changes checkpoints until it is through (``AtomicSave.settle``)."""
    checkpoints.flush_all(checkpoint)
    if checkpoints.rotate(checkpoint.parent, keep, best):
        shutil.rmtree(checkpoint.parent / checkpoints.STAGING, ignore_errors=True)

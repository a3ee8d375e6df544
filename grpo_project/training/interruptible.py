"""Stopping in the middle of a step, or before its end is written down, without losing exactness.

Until ``optimizer.step()`` a step changes no weights, so the state at its beginning can still be saved: the random
states and everything in ``exact_state`` are kept from there. A stop request is noticed before each forward pass (each
token, when the model generates) and after each verdict.

After ``optimizer.step()`` comes the step's end: its evaluation, then its row, the learning rate's and the best model's
reaction to the evaluation, its checkpoint; after the last step of an epoch, the same once more for the epoch. A stop
amid the evaluation puts this end off. What upstream needs to make it is saved, and the next start makes it before
anything else. So it does with an epoch's end that came after the checkpoint of the epoch's last step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from grpo_project.errors import InfrastructureError
from grpo_project.generation.random_state import random_states, set_random_states
from grpo_project.training.exact_state import ExactState, epoch_end_due
from grpo_project.training.stop_request import StopRequest


class StopNow(BaseException):
    """Leaves the training loop in mid-step. A ``BaseException``, so that no broad ``except`` upstream keeps it."""


class Interruptible(ExactState):
    """Stops within a step.

    Several ranks leave together, where all of them come by: before and after judging, and before each micro-batch.
    Sampling and waiting for verdicts end earlier on a rank that wants to stop.
    """

    stop_request: StopRequest | None = None
    step_end_incomplete: Callable[[], bool] = staticmethod(lambda: False)
    """Whether an evaluation that belongs to the step or epoch which just ended was abandoned."""
    control: Any
    interrupted = False
    """Whether ``train`` left before the end that its arguments ask for, in a state that goes on exactly."""
    _before_step: _Beginning | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(_EpochEnds(self))

    @property
    def stop_wanted(self) -> bool:
        """Whether a stop is asked of this rank, and the step's beginning can still be gone back to."""
        return self._before_step is not None and self.stop_request is not None and self.stop_request.pending

    def check_stop(self) -> None:
        """Raise ``StopNow`` if a stop is wanted of this rank and this moment allows it. Called as work is done."""
        self.on_progress()
        if self.stop_wanted:
            raise StopNow

    def on_progress(self) -> None:
        """A forward pass begins, or a verdict is there."""

    def leave_hang(self) -> None:
        """Called by a signal while training stands still: raise ``StopNow`` where the step can be gone back to.

        Not amid a save, which might be interrupted half-way, and not of one rank among several.
        """
        if self.args.world_size == 1 and self.stop_request is not None and not self.stop_request.is_saving:
            self.check_stop()

    def agree_on_stop(self) -> None:
        """Raise ``StopNow`` on every rank if any of them wants to stop. All of them have to call it."""
        if self.args.world_size == 1:
            self.check_stop()
        elif self.stop_request is not None:
            wanted = torch.tensor([float(self.stop_wanted)], device=self.accelerator.device)
            if self.accelerator.reduce(wanted).item() > 0:
                raise StopNow

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        # Each token is a forward pass. Several ranks can't leave alone from the midst of one.
        alone = self.args.world_size == 1
        hook = self.model.register_forward_pre_hook(lambda *_: self.check_stop() if alone else self.on_progress())
        self.interrupted = False
        try:
            output = super().train(*args, **kwargs)
            self.interrupted = self.state.global_step < self.state.max_steps
            return output
        except StopNow:
            self.interrupted = True
            return self._save_and_leave()
        except InfrastructureError:  # what was trained until then is kept, if it can be
            if alone and self._before_step is not None:
                self._save_and_leave()
            raise
        finally:
            hook.remove()

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.stop_request is not None and self._before_step is None:
            self._before_step = _Beginning(
                random_states(),
                self.own_state(),
                {n: _snapshot(p) for n, p in self.components.items()},
                self._counters(),
            )
        self.agree_on_stop()
        loss = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:  # the optimizer comes next: from here on the step is finished first
            self._before_step = None
        return loss

    def _counters(self) -> dict[str, Any]:
        """What a step counts in the trainer's state before the optimizer has its turn."""
        return {"num_input_tokens_seen": self.state.num_input_tokens_seen, "total_flos": self.state.total_flos}

    def _maybe_log_save_evaluate(
        self,
        tr_loss: torch.Tensor,
        grad_norm: torch.Tensor | float | None,
        model: Any,
        trial: Any,
        epoch: float,
        ignore_keys_for_eval: list[str] | None,
        start_time: float,
        learning_rate: float | None = None,
    ) -> None:
        if self.step_end_incomplete():
            norm = grad_norm.item() if isinstance(grad_norm, torch.Tensor) else grad_norm
            self.end_put_off = {"grad_norm": norm, "epoch": epoch, "learning_rate": learning_rate}
            raise StopNow
        super()._maybe_log_save_evaluate(
            tr_loss, grad_norm, model, trial, epoch, ignore_keys_for_eval, start_time, learning_rate
        )

    def _run_epoch(self, model: Any, epoch: int, *args: Any, **kwargs: Any) -> None:
        if self.resumed_from is not None and not self._restored:
            self._make_up_ends(model, kwargs["start_time"])
            if self.state.global_step >= self.state.max_steps:
                self.control.should_training_stop = True
            if self.control.should_training_stop:
                return
        super()._run_epoch(model, epoch, *args, **kwargs)

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> TrainOutput:
        if self.resumed_from is not None and not self._restored:  # no epoch is left to be run
            self._make_up_ends(self.model_wrapped, start_time)
        return super()._finalize_training(trial, num_train_samples, start_time)

    def _make_up_ends(self, model: Any, start_time: float) -> None:
        """Make the ends that an earlier start did not get to: that of the newest step, that of its epoch."""
        if self.end_put_off is None and not epoch_end_due(self.args, self.state, self.ended):
            return
        self._load_rng_state(self.resumed_from)  # upstream would do so within the epoch, which is too late
        model.train()  # as `training_step` left it: TRL's `log` (grpo_trainer.py:3302) asks for the mode
        put_off, self.end_put_off = self.end_put_off, None
        if put_off is not None and self.ended == "step":
            self.control = self.callback_handler.on_step_end(self.args, self.state, self.control)
            self._end(model, start_time, put_off)
        if (put_off is not None and self.ended == "epoch") or epoch_end_due(self.args, self.state, self.ended):
            self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
            self._end(model, start_time, put_off or {"epoch": int(self.state.epoch or 1) - 1})

    def _end(self, model: Any, start_time: float, left: dict[str, Any]) -> None:
        norm, rate = left.get("grad_norm"), left.get("learning_rate")
        self._maybe_log_save_evaluate(self._tr_loss, norm, model, None, left["epoch"], None, start_time, rate)

    def _save_and_leave(self) -> TrainOutput:
        if self._before_step is not None:
            self._back_to_where_the_step_began()
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        saved_already = Path(self.args.output_dir, name).is_dir()  # this very state, at the end of the last step
        if self.state.global_step > 0 and not saved_already:  # before the first step there is nothing to save
            self._save_checkpoint(self.model, trial=None)
            self.callback_handler.on_save(self.args, self.state, self.control)
        self.callback_handler.on_train_end(self.args, self.state, self.control)
        return TrainOutput(self.state.global_step, float("nan"), {})

    def _back_to_where_the_step_began(self) -> None:
        assert self._before_step is not None
        beginning, self._before_step = self._before_step, None
        self.model.zero_grad()
        set_random_states(beginning.random_states)
        for name, snapshot in beginning.components.items():
            part = self.components[name]
            (part.restore if hasattr(part, "restore") else part.load_state_dict)(snapshot)
        self.load_exact_state(beginning.own_state)
        self._entropy_window_stats = None  # TRL's, gathered within a step
        for name, value in beginning.counters.items():
            setattr(self.state, name, value)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """A step's beginning, to go back to as long as the optimizer has not stepped."""

    random_states: dict[str, Any]
    own_state: dict[str, Any]
    components: dict[str, Any]
    counters: dict[str, Any]


def _snapshot(part: Any) -> Any:
    """A part's own snapshot, which costs what a step changes, where it has one; else a copy of its whole state."""
    return part.snapshot() if hasattr(part, "snapshot") else part.state_dict()


class _EpochEnds(TrainerCallback):
    """Notes which end was made last."""

    def __init__(self, trainer: ExactState) -> None:
        self._trainer = trainer

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._trainer.ended = "step"

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self._trainer.ended = "epoch"

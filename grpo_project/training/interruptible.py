"""Stopping in the middle of a step without losing exactness.

Until ``optimizer.step()`` a step changes no weights, so the state at its beginning can still be saved: the random
states and everything in ``exact_state`` are kept from there. A stop request is noticed before each forward pass (each
token, when the model generates) and after each verdict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from grpo_project.generation.random_state import random_states, set_random_states
from grpo_project.training.exact_state import ExactState
from grpo_project.training.stop_request import StopRequest


class StopNow(BaseException):
    """Leaves the training loop in mid-step. A ``BaseException``, so that no broad ``except`` upstream keeps it."""


class Interruptible(ExactState):
    """Stops within a step in a single process; several ranks stop together at the end of a step."""

    stop_request: StopRequest | None = None
    stopped_in_step = False
    _before_step: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None = None

    def check_stop(self) -> None:
        """Raise ``StopNow`` if a stop is wanted and this moment allows it."""
        if self._before_step is not None and self.stop_request is not None and self.stop_request.pending:
            raise StopNow

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        hook = self.model.register_forward_pre_hook(lambda *_: self.check_stop())
        try:
            return super().train(*args, **kwargs)
        except StopNow:
            return self._save_where_the_step_began()
        finally:
            hook.remove()

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.stop_request is not None and self.args.world_size == 1 and self._before_step is None:
            self._before_step = (random_states(), self.exact_state(), self._counters())
        loss = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:  # the optimizer comes next: from here on the step is finished first
            self._before_step = None
        return loss

    def _counters(self) -> dict[str, Any]:
        """What a step counts in the trainer's state before the optimizer has its turn."""
        return {"num_input_tokens_seen": self.state.num_input_tokens_seen, "total_flos": self.state.total_flos}

    def _save_where_the_step_began(self) -> TrainOutput:
        assert self._before_step is not None
        states, exact, counters = self._before_step
        self._before_step = None
        self.stopped_in_step = True
        self.model.zero_grad()
        set_random_states(states)
        self.load_components(exact)
        self.load_exact_state(exact)
        self._entropy_window_stats = None  # TRL's, gathered within a step
        for name, value in counters.items():
            setattr(self.state, name, value)
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        saved_already = Path(self.args.output_dir, name).is_dir()  # this very state, at the end of the last step
        if self.state.global_step > 0 and not saved_already:  # before the first step there is nothing to save
            self._save_checkpoint(self.model, trial=None)
            self.callback_handler.on_save(self.args, self.state, self.control)
        self.callback_handler.on_train_end(self.args, self.state, self.control)
        return TrainOutput(self.state.global_step, float("nan"), {})

"""The state that TRL and transformers keep in memory only, saved with every checkpoint and put back on resume.

Without it a resumed run differs from the uninterrupted one (TRL 1.16, transformers 5.23): ``_step`` and
``_buffered_inputs`` (the place in the generation buffer), accumulated losses and metrics, the completions log, and a
synced reference model. Prompts need no loader state: they are drawn from ``ProblemSource``, which is saved here too.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from transformers import TrainingArguments
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput
from trl import GRPOTrainer

from grpo_project.errors import CheckpointError
from grpo_project.training.elastic import Layout, redistributed
from grpo_project.training.upstream import AwaitedCalls, check_hooks

STATE_FILE = "grpo_state_{rank}.pt"


def epoch_end_due(args: TrainingArguments, state: TrainerState, ended: str) -> bool:
    """Whether the newest step was the last of an epoch whose own end, which does something, was not made."""
    at_the_end = state.epoch is not None and state.global_step > 0 and float(state.epoch).is_integer()
    return ended == "step" and at_the_end and "epoch" in (args.eval_strategy, args.save_strategy, args.logging_strategy)


class ExactState(GRPOTrainer):
    """Hangs on ``_save_rng_state`` and ``_load_rng_state``: both run on every rank, the first before
    ``trainer_state.json`` is written, the second just before the first new step."""

    components: dict[str, Any]
    """Parts of our own with ``state_dict`` and ``load_state_dict``, by name."""
    resumed_from: str | None = None
    """The checkpoint that ``train`` goes on from."""
    ended: str = "step"
    """Which end came last, a ``step``'s or an ``epoch``'s, see ``interruptible``."""
    end_put_off: dict[str, Any] | None = None
    """What that end still needs, if a stop kept it from being made."""
    _restored = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_hooks(self)
        self._awaited = AwaitedCalls()

    def train(self, resume_from_checkpoint: str | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        if resume_from_checkpoint is not None:
            if output := self._already_finished(resume_from_checkpoint):
                return output
            self._awaited.expect()
        self.resumed_from, self._restored = resume_from_checkpoint, False
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._awaited.require_all()
        return super().training_step(*args, **kwargs)

    def _already_finished(self, checkpoint: str) -> TrainOutput | None:
        """A finished run stays finished: transformers would train one more step each time it is resumed."""
        state = TrainerState.load_from_json(os.path.join(checkpoint, "trainer_state.json"))
        # Not `state.max_steps`: the flags may ask for more epochs than the run had.
        *_, max_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())
        saved = self._read_exact_state(checkpoint)
        ends_left = saved.get("end_put_off") is not None or epoch_end_due(self.args, state, saved.get("ended", "epoch"))
        if state.global_step < max_steps or ends_left:
            return None
        self._load_from_checkpoint(checkpoint)
        self.state = state
        self._find_best_checkpoint()
        if self.args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._load_best_model()
        return TrainOutput(state.global_step, float("nan"), {})

    def _find_best_checkpoint(self) -> None:
        """Where the best checkpoint lies now: the state holds a path of the time when it was saved."""
        if self.state.best_global_step:
            folder = os.path.join(self.args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}")
            self.state.best_model_checkpoint = folder if os.path.isdir(folder) else None

    def exact_state(self) -> dict[str, Any]:
        """What this rank needs to go on exactly here."""
        return {**self.own_state(), "components": {name: part.state_dict() for name, part in self.components.items()}}

    def own_state(self) -> dict[str, Any]:
        """The trainer's own memory, without that of the parts. Costs no more than a generation batch is large."""
        generate_every = self.args.steps_per_generation * self.num_iterations
        at_boundary = self._step % generate_every == 0
        state: dict[str, Any] = {
            "step": self._step,
            "layout": dataclasses.asdict(Layout.of(self.args)),
            "buffered_inputs": None if at_boundary else self._buffered_inputs,
            "metrics": {m: {k: list(v) for k, v in d.items()} for m, d in self._metrics.items()},
            "loss": self._tr_loss.detach().cpu().clone(),
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "train_tokens": self._total_train_tokens,
            "ended": self.ended,
            "end_put_off": self.end_put_off,
            "logs": {
                name: {k: list(v) for k, v in log.items()} if isinstance(log, dict) else list(log)
                for name, log in self._logs.items()
                if name != "images"
            },
        }
        if self.args.sync_ref_model and self.ref_model is not None and self.args.process_index == 0:  # alike on all
            state["ref_model"] = self.accelerator.unwrap_model(self.ref_model).state_dict()
        return state

    def load_components(self, state: dict[str, Any]) -> None:
        """Put our own parts back where ``state`` has them. ``divergence`` is newer than the oldest checkpoints."""
        for name, part in self.components.items():
            if name in state["components"] or name != "divergence":
                part.load_state_dict(state["components"][name])

    def load_exact_state(self, state: dict[str, Any]) -> None:
        """Put the trainer's own memory back where ``state`` has it."""
        self._step = state["step"]
        self._buffered_inputs = send_to_device(state["buffered_inputs"], self.accelerator.device)
        for mode, metrics in state["metrics"].items():
            self._metrics[mode].clear()
            for name, values in metrics.items():
                self._metrics[mode][name].extend(values)
        self._tr_loss.copy_(state["loss"])
        self._total_loss_scalar = state["total_loss"]
        self._globalstep_last_logged = state["last_logged"]
        self._total_train_tokens = state["train_tokens"]
        for name, log in state["logs"].items():
            self._logs[name].clear()
            if isinstance(log, dict):
                for key, values in log.items():
                    self._logs[name][key].extend(values)
            else:
                self._logs[name].extend(log)
        if "ref_model" in state:
            self.accelerator.unwrap_model(self.ref_model).load_state_dict(state["ref_model"])

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.write_state(self.exact_state(), Path(self._exact_state_file(output_dir, self.args.process_index)))

    def write_state(self, state: dict[str, Any], file: Path) -> None:
        """Write one of a checkpoint's files."""
        torch.save(state, file)

    def _init_training_state(
        self, max_steps: int, steps_per_epoch: int, epochs: float, resume_from_checkpoint: str | None, trial: Any
    ) -> tuple[int, int]:
        place = super()._init_training_state(max_steps, steps_per_epoch, epochs, resume_from_checkpoint, trial)
        self._awaited.seen("_init_training_state")
        self._find_best_checkpoint()
        if resume_from_checkpoint is not None:  # before `on_train_begin`, where callbacks may use the components
            state = self._read_exact_state(resume_from_checkpoint)
            self.load_components(state)
            self.ended = state.get("ended", "epoch")  # version 0.1.0 knew neither
            self.end_put_off = state.get("end_put_off")
        return place

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        self._awaited.seen("_load_rng_state")
        if checkpoint is not None and not self._restored:  # a second call comes after a step's end was made up for
            self.load_exact_state(self._read_exact_state(checkpoint))
            self._restored = True

    def _read_exact_state(self, checkpoint: str) -> dict[str, Any]:
        """This rank's state; that of another number of ranks is shared out anew."""
        saved_by = len(glob.glob(os.path.join(glob.escape(checkpoint), STATE_FILE.format(rank="*"))))
        rank, world = self.args.process_index, self.args.world_size
        if saved_by == 0:
            raise CheckpointError(f"{checkpoint} has no {STATE_FILE.format(rank=0)}: nothing can go on exactly from it")
        if saved_by != world:
            states = [_load(self._exact_state_file(checkpoint, rank=other)) for other in range(saved_by)]
            return redistributed(states, Layout.of(self.args), rank, self._tokenizer.pad_token_id)
        state = _load(self._exact_state_file(checkpoint, rank))
        if rank > 0 and self.args.sync_ref_model and self.ref_model is not None:
            state["ref_model"] = _load(self._exact_state_file(checkpoint, rank=0))["ref_model"]
        return state

    def _exact_state_file(self, folder: str, rank: int) -> str:
        return os.path.join(folder, STATE_FILE.format(rank=rank))


def _load(file: str) -> dict[str, Any]:
    # Onto the CPU: under torchrun without a GPU the device is "cpu:0", which torch.load refuses.
    return torch.load(file, map_location="cpu", weights_only=True)

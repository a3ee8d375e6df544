"""Every private hook of TRL, transformers and accelerate that training relies on, where it stands and what for.

An override that upstream stops calling, or calls with other arguments, would fail silently: a run that starts with
fresh state looks like any other. So ``check_hooks`` compares each with what we know before the first step, and
``AwaitedCalls`` sees to it that a resume really went through those that restore something.

Line numbers are those of TRL 1.16.0, transformers 5.23.0 and accelerate 1.15.0; search the names after an upgrade.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grpo_project.errors import CheckpointError, ConfigError

TRAINER = "transformers.trainer:Trainer"
GRPO = "trl.trainer.grpo_trainer:GRPOTrainer"


@dataclass(frozen=True, slots=True)
class Hook:
    """A method that we override or call, of the class ``module:Class``, or a function of ``module``."""

    owner: str
    name: str
    parameters: tuple[str, ...]
    """All that it takes, in order, without ``self``."""
    where: str
    purpose: str


HOOKS = (
    # What a run loses without us (training/exact_state.py).
    Hook(
        TRAINER,
        "_init_training_state",
        ("max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial"),
        "transformers/trainer.py:1678",
        "restores our own parts before on_train_begin, where callbacks may use them",
    ),
    Hook(TRAINER, "_save_rng_state", ("output_dir",), "transformers/trainer.py:3462", "saves our state, on every rank"),
    Hook(TRAINER, "_load_rng_state", ("checkpoint",), "transformers/trainer.py:3841", "restores it, before a new step"),
    Hook(
        TRAINER,
        "_load_from_checkpoint",
        ("resume_from_checkpoint", "model"),
        "transformers/trainer.py:3602",
        "loads the weights of a finished run, which trains no further step",
    ),
    Hook(
        TRAINER, "_load_best_model", (), "transformers/trainer.py:3735", "publishes the best weights of a finished run"
    ),
    # Stopping within a step, and before its end is written down (training/interruptible.py).
    Hook(
        TRAINER,
        "training_step",
        ("model", "inputs", "num_items_in_batch"),
        "transformers/trainer.py:2043",
        "keeps the state at a step's beginning",
    ),
    Hook(
        TRAINER,
        "_maybe_log_save_evaluate",
        ("tr_loss", "grad_norm", "model", "trial", "epoch", "ignore_keys_for_eval", "start_time", "learning_rate"),
        "transformers/trainer.py:2230",
        "a step's end: its row, evaluation, best model, save",
    ),
    Hook(
        TRAINER,
        "_finalize_training",
        ("trial", "num_train_samples", "start_time"),
        "transformers/trainer.py:1994",
        "the same, where no step follows",
    ),
    Hook(
        TRAINER,
        "_run_epoch",
        (
            *("model", "epoch", "train_dataloader", "steps_in_epoch", "num_update_steps_per_epoch", "trial"),
            *("ignore_keys_for_eval", "start_time", "resume_from_checkpoint", "epochs_trained"),
            "steps_trained_in_current_epoch",
        ),
        "transformers/trainer.py:1819",
        "a step's end that was put off is made up for before the next step",
    ),
    # Checkpoints that are whole or not there (training/atomic_save.py).
    Hook(TRAINER, "_get_output_dir", ("trial",), "transformers/trainer.py:3336", "a save goes into the staging folder"),
    Hook(
        TRAINER,
        "_save_checkpoint",
        ("model", "trial"),
        "transformers/trainer.py:3355",
        "stage, describe, rename, rotate",
    ),
    Hook(
        TRAINER,
        "_save_optimizer_and_scheduler",
        ("output_dir",),
        "transformers/trainer.py:3513",
        "hashes both as they are written",
    ),
    # Prompts that are drawn when they are needed, and completions that are judged as they end (training/trainer.py).
    Hook(
        GRPO,
        "_generate_and_score_completions",
        ("inputs",),
        "trl/trainer/grpo_trainer.py:2324",
        "draws problems in place of the loader's rows, redraws groups without variance",
    ),
    Hook(
        GRPO,
        "_prepare_inputs",
        ("generation_batch",),
        "trl/trainer/grpo_trainer.py:1522",
        "shares the rows of a generation out to its steps, alike for any number of ranks",
    ),
    Hook(
        GRPO,
        "_compute_loss",
        ("model", "inputs"),
        "trl/trainer/grpo_trainer.py:3020",
        "leaves rows without advantage out",
    ),
    Hook(
        GRPO,
        "_calculate_rewards",
        ("inputs", "prompts", "completions", "completion_ids_list"),
        "trl/trainer/grpo_trainer.py:1579",
        "completions are judged before the reward functions see them",
    ),
    Hook(GRPO, "log", ("logs", "start_time"), "trl/trainer/grpo_trainer.py:3302", "adds the curriculum's metrics"),
    # Generation and loss without padding (generation/padding_free.py).
    Hook(
        GRPO,
        "_generate_single_turn",
        ("prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"),
        "trl/trainer/grpo_trainer.py:1763",
        "samples by our own code where the model allows",
    ),
    Hook(
        GRPO,
        "_get_per_token_logps_and_entropies",
        (
            *("model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy"),
            *("compute_aux_loss", "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask"),
            *("spatial_shapes", "num_tiles", "image_sizes", "token_type_ids", "mm_token_type_ids"),
            "image_position_ids",
        ),
        "trl/trainer/grpo_trainer.py:1419",
        "log-probabilities with each prompt computed once",
    ),
    Hook(
        "trl.trainer.utils",
        "_use_triton",
        ("device",),
        "trl/trainer/utils.py:1642",
        "labelled positions alone go through the vocabulary (generation/log_probabilities.py)",
    ),
    Hook(
        "transformers.generation.configuration_utils:GenerationConfig",
        "_get_default_generation_params",
        (),
        "transformers/generation/utils.py:2107",
        "what generate puts where nothing is set (generation/sampling.py)",
    ),
    # The model ready to generate, and put back as it was (generation/generator.py).
    Hook(
        "trl.models",
        "unwrap_model_for_generation",
        ("model", "accelerator", "gather_deepspeed3_params", "generation_kwargs", "gradient_checkpointing_kwargs"),
        "trl/models/utils.py",
        "gathers sharded weights, turns gradient checkpointing off and on",
    ),
    Hook(
        "trl.distributed:DistributedBackend",
        "summon_full_params",
        ("module", "kwargs"),
        "trl/distributed.py",
        "gathers FSDP 1's weights",
    ),
    # What TRL asks of vLLM (generation/merged_weights.py, generation/vllm_requests.py).
    Hook(
        "trl.generation.vllm_generation:VLLMGeneration",
        "_iter_named_params",
        (),
        "trl/generation/vllm_generation.py:435",
        "LoRA's weights are merged in copies",
    ),
    # Which process is gone (training/peers.py).
    Hook(
        "torch.distributed.distributed_c10d",
        "_get_default_store",
        (),
        "torch/distributed/distributed_c10d.py",
        "heartbeats of all processes, in the store that they met in",
    ),
    Hook(
        "accelerate.utils.memory",
        "should_reduce_batch_size",
        ("exception",),
        "accelerate/utils/memory.py:100",
        "tells an out-of-memory error by its text",
    ),
)

ATTRIBUTES = {
    "_step": "trl/trainer/grpo_trainer.py: counts micro-batches; with it goes the place in the generation buffer",
    "_buffered_inputs": "trl/trainer/grpo_trainer.py: the generation buffer, in memory only",
    "_metrics": "trl/trainer/grpo_trainer.py: what the next row will hold",
    "_logs": "trl/trainer/grpo_trainer.py: the completions table",
    "_entropy_window_stats": "trl/trainer/grpo_trainer.py: gathered within a step",
    "_entropy_bonus_enabled": "trl/trainer/grpo_trainer.py: a term of the loss that every row has a part in",
    "aux_loss_enabled": "trl/trainer/grpo_trainer.py: another",
    "top_entropy_quantile": "trl/trainer/grpo_trainer.py: another",
    "_tokenizer": "trl/trainer/grpo_trainer.py: the tokenizer, also where the processing class is a processor",
    "eos_token_ids": "trl/trainer/grpo_trainer.py: the tokens that end a completion",
    "pad_to_multiple_of": "trl/trainer/grpo_trainer.py: asks for padding",
    "_total_train_tokens": "trl/trainer/grpo_trainer.py: counted for the whole run",
}
"""Attributes of the trainer that we read, save or restore."""

RESTORING = ("_init_training_state", "_load_rng_state")
"""Overrides through which a resume puts state back. Upstream must call each before the first new step."""


def check_hooks(trainer: Any, hooks: Sequence[Hook] = HOOKS, attributes: Mapping[str, str] = ATTRIBUTES) -> None:
    """Compare every hook and attribute with what we know of it.

    Raises:
        ConfigError: one is gone or takes other arguments; the message names it and the tested versions.
    """
    for hook in hooks:
        found = _parameters(hook)
        if found != hook.parameters:
            now = "is gone" if found is None else f"takes ({', '.join(found)}), not ({', '.join(hook.parameters)})"
            owner = hook.owner.rpartition(":")[2]
            raise ConfigError(f"{owner}.{hook.name} {now} ({hook.purpose}). {_advice(hook.owner)}")
    for attribute, where in attributes.items():
        if not hasattr(trainer, attribute):
            raise ConfigError(f"the trainer has no {attribute} any more ({where}). {_advice('trl')}")


def _parameters(hook: Hook) -> tuple[str, ...] | None:
    """What the installed hook takes, without ``self``; ``None`` where there is none."""
    module, _, name = hook.owner.partition(":")
    owner: Any = importlib.import_module(module)
    for part in filter(None, (name, hook.name)):
        owner = getattr(owner, part, None)
    if owner is None:
        return None
    taken = tuple(inspect.signature(owner).parameters)
    return taken[1:] if name else taken


def _advice(module: str) -> str:
    package = module.partition(".")[0]
    installed = importlib.metadata.version(package)
    return (
        f"{package} {installed} is not a version that this release knows; "
        "install the tested ones: pip install -c constraints.txt grpo-project"
    )


class AwaitedCalls:
    """The restoring hooks that a resume has not gone through yet."""

    def __init__(self) -> None:
        self._missing: set[str] = set()

    def expect(self) -> None:
        """A resume begins."""
        self._missing = set(RESTORING)

    def seen(self, hook: str) -> None:
        self._missing.discard(hook)

    def require_all(self) -> None:
        """Raises ``CheckpointError`` if a step is about to be made with state that was not restored."""
        if self._missing:
            listed = ", ".join(sorted(self._missing))
            raise CheckpointError(
                f"the resume did not go through {listed}: this version of transformers restores in another way, and "
                f"the run would go on with fresh state. {_advice('transformers')}"
            )

"""The list of upstream's hooks: complete, compared with what is installed, and awaited on a resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_trainer import build
from transformers import Trainer
from trl import GRPOTrainer

from grpo_project.errors import CheckpointError, ConfigError
from grpo_project.training.exact_state import ExactState
from grpo_project.training.trainer import CodeTrainer
from grpo_project.training.upstream import ATTRIBUTES, GRPO, HOOKS, RESTORING, TRAINER, check_hooks

PUBLIC = {"__init__", "train", "evaluate", "get_train_dataloader", "create_model_card", "save_model"}
"""Overridden as well, but documented upstream."""


def test_every_override_of_a_private_method_is_on_the_list() -> None:
    ours = [kind for kind in CodeTrainer.__mro__ if kind.__module__.startswith("grpo_project.")]
    overridden = {
        name
        for kind in ours
        for name, value in vars(kind).items()
        if callable(value) and (hasattr(GRPOTrainer, name) or hasattr(Trainer, name)) and not name.startswith("__")
    }
    methods = {hook.name for hook in HOOKS if hook.owner in (GRPO, TRAINER)}
    assert overridden - PUBLIC == methods - {"_load_from_checkpoint"}  # called, not overridden
    assert set(RESTORING) <= overridden


def test_the_installed_versions_have_every_hook(tiny_model: Path, tmp_path: Path) -> None:
    check_hooks(build(tiny_model, tmp_path, set()))


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_a_hook_that_was_renamed_or_changed_is_one_clear_line(hook: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{hook.name}_gone is gone \(.*install the tested ones"):
        check_hooks(object(), [replace(hook, name=f"{hook.name}_gone")], {})
    with pytest.raises(ConfigError, match=rf"{hook.name} takes \(.*\), not \(another\)"):
        check_hooks(object(), [replace(hook, parameters=("another",))], {})


def test_an_attribute_that_is_gone_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="has no _step any more"):
        check_hooks(object(), [], ATTRIBUTES)


def test_a_resume_that_does_not_go_through_a_restoring_hook_never_makes_a_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    """As if transformers restored the random state by another name."""
    saving = {"save_strategy": "steps", "save_steps": 1}
    build(tiny_model, tmp_path, set(), **saving).train()

    class Renamed(CodeTrainer):
        _load_rng_state = Trainer._load_rng_state

    trainer = build(tiny_model, tmp_path, set(), max_steps=2, **saving)
    trainer.__class__ = Renamed
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    with pytest.raises(CheckpointError, match="did not go through _load_rng_state"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert issubclass(Renamed, ExactState)
    assert trainer.state.global_step == 1
    assert before.keys() == trainer.model.state_dict().keys()

"""Which changed flags stop a resume, and what is said where it can't be exact."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from grpo_project.config import parse_configuration
from grpo_project.errors import ConfigError
from grpo_project.record.run_record import versions
from grpo_project.training.continuity import changed_flags, inexact_because, require_same_course


def flags(*argv: str) -> dict[str, Any]:
    return parse_configuration(["--model_name", "org/m", *argv]).to_dict()


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return flags()


@pytest.mark.parametrize(
    "argv",
    [
        ["--max_steps", "900"],
        ["--num_train_epochs", "9"],
        ["--save_steps", "3", "--save_total_limit", "9"],
        ["--wandb_project", "other", "--wandb_resume", "same"],
        ["--logging_steps", "5", "--verifier_workers", "7"],
        ["--output_dir", "elsewhere", "--max_runtime", "1h"],
    ],
)
def test_harmless_changes_go_through(recorded: dict[str, Any], argv: list[str]) -> None:
    assert changed_flags(recorded, flags(*argv)) == {}


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["--learning_rate", "1e-3"], "learning_rate"),
        (["--seed", "7"], "seed"),
        (["--reward", "all_or_nothing"], "reward"),
        (["--temperature", "0.5"], "temperature"),
        (["--lora_r", "3"], "lora_r"),
        (["--eval_every_n_steps", "7"], "eval_every_n_steps"),
        (["--enable_curriculum", "false"], "enable_curriculum"),
    ],
)
def test_changes_of_course_are_refused_by_name(recorded: dict[str, Any], argv: list[str], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--{name} was .*, is .*--allow_config_change"):
        require_same_course(recorded, flags(*argv), allow=False)
    assert name in require_same_course(recorded, flags(*argv), allow=True)[0]


def test_evaluation_flags_are_harmless_without_a_curriculum() -> None:
    before = flags("--enable_curriculum", "false")
    assert changed_flags(before, flags("--enable_curriculum", "false", "--max_eval_samples", "99")) == {}


def test_more_steps_under_a_schedule_with_an_end_are_said(recorded: dict[str, Any]) -> None:
    linear = ["--lr_scheduler_type", "linear"]
    assert "linear" in require_same_course(flags(*linear), flags(*linear, "--max_steps", "900"), allow=False)[0]
    constant = flags("--lr_scheduler_type", "constant")
    assert require_same_course(constant, {**constant, "grpo": {**constant["grpo"], "max_steps": 9}}, False) == []


def test_reasons_for_inexactness(recorded: dict[str, Any]) -> None:
    attempt = {"world_size": 2, "versions": versions()}
    assert inexact_because(attempt, recorded, world_size=2, cuda=False) == []
    assert inexact_because(attempt, recorded, world_size=1, cuda=False) == ["1 processes instead of 2"]
    other = copy.deepcopy(attempt)
    other["versions"]["torch"] = "1.0"
    assert "torch" in inexact_because(other, recorded, world_size=2, cuda=False)[0]
    assert "--full_determinism" in inexact_because(attempt, recorded, world_size=2, cuda=True)[0]
    vllm = {**recorded, "grpo": {**recorded["grpo"], "use_vllm": True}}
    assert "vLLM" in inexact_because(attempt, vllm, world_size=2, cuda=False)[0]

"""Flags: where values come from, and what is refused with one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from grpo_project.config import RunArguments, parse_configuration
from grpo_project.errors import ConfigError


def one_line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_no_arguments_take_the_embedded_recipe() -> None:
    configuration = parse_configuration([])
    assert configuration.embedded_model
    assert configuration.run.model_name is None
    assert configuration.grpo.logging_steps == 1
    assert configuration.grpo.beta == 0.0


def test_own_model_keeps_trl_defaults() -> None:
    configuration = parse_configuration(["--model_name", "org/model"])
    assert not configuration.embedded_model
    assert configuration.model.model_name_or_path == configuration.run.model_name == "org/model"
    assert configuration.grpo.learning_rate == 1e-6
    assert configuration.grpo.num_generations == 8


def test_file_beats_defaults_and_command_line_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("learning_rate: 3e-4\nmax_eval_samples: 11\nmodel_name_or_path: org/model\nuse_peft: true\n")
    configuration = parse_configuration([f"--config={file}", "--max_eval_samples", "12"])
    assert configuration.grpo.learning_rate == 3e-4
    assert configuration.run.max_eval_samples == 12
    assert configuration.run.model_name == "org/model"
    assert configuration.model.use_peft


@pytest.mark.parametrize("value", ["false", "False", "0", "no"])
def test_curriculum_can_be_turned_off(value: str) -> None:
    assert parse_configuration(["--enable_curriculum", value]).run.enable_curriculum is False
    assert parse_configuration(["--enable_curriculum"]).run.enable_curriculum is True


def test_every_trl_flag_is_accepted() -> None:
    argv = ["--loss_type", "dr_grpo", "--epsilon_high", "0.3", "--lora_r", "4", "--scale_rewards", "none"]
    configuration = parse_configuration(argv)
    assert configuration.grpo.loss_type == "dr_grpo"
    assert configuration.grpo.epsilon_high == 0.3
    assert configuration.model.lora_r == 4


BAD = {
    "unknown flag": (["--learning_rte", "1"], "did you mean --learning_rate?"),
    "abbreviated flag": (["--model", "x"], "unknown argument --model"),
    "value of the wrong type": (["--max_steps", "many"], "--max_steps"),
    "choice": (["--reward", "random"], "--reward"),
    "out of range": (["--max_eval_samples", "0"], "--max_eval_samples is 0; it must be at least 1"),
    "no file name": (["--config"], "--config needs"),
    "missing config file": (["--config", "missing.yaml"], "missing.yaml"),
    "group that does not divide the batch": (
        ["--model_name", "org/model", "--per_device_train_batch_size", "8", "--num_generations", "3"],
        "divide",
    ),
    "two model names": (["--model_name", "a/b", "--model_name_or_path", "c/d"], "differ"),
}


@pytest.mark.parametrize(("argv", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_flags_are_refused_with_one_line(argv: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_configuration(argv)
    assert expected in one_line(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b\n", "flag: value"),
        ("a: [1\n", "not valid YAML"),
        ("learning_rte: 1\n", "did you mean --learning_rate"),
    ],
)
def test_bad_config_files_are_refused_with_one_line(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        parse_configuration(["--config", str(file)])
    assert expected in one_line(error)


def test_resolved_flags_hold_no_secret() -> None:
    configuration = parse_configuration(["--hub_token", "hf_secret_value"])
    assert "hf_secret_value" not in str(configuration.to_dict())


def test_our_flags_have_help() -> None:
    for field in RunArguments.__dataclass_fields__.values():
        assert field.metadata["help"].endswith((".", ")"))


@pytest.mark.parametrize("recipe", sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_recipes_hold_flags_that_exist_and_fit_together(recipe: Path) -> None:
    assert parse_configuration(["--config", str(recipe)]).grpo.output_dir.startswith("runs/")

"""Flags: where values come from, and what is refused with one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from grpo_project.config import parse_configuration, read_flags, resolve
from grpo_project.errors import ConfigError
from grpo_project.flags import library_flags
from grpo_project.recipes import model_parameters
from grpo_project.run_arguments import RunArguments


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


def test_trl_defaults_are_one_flag_away() -> None:
    from trl import GRPOConfig

    configuration = parse_configuration(["--model_name", "org/model", "--recipe", "trl", "--use_peft"])
    assert not configuration.embedded_model and not configuration.chooses_steps
    assert configuration.model.model_name_or_path == configuration.run.model_name == "org/model"
    fields = GRPOConfig.__dataclass_fields__
    for name in ("learning_rate", "num_generations", "gradient_accumulation_steps", "max_completion_length"):
        assert getattr(configuration.grpo, name) == fields[name].default, name
    assert configuration.model.lora_target_modules is None


@pytest.mark.parametrize(
    ("name", "lora", "rate"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", False, 2e-5),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", True, 2e-4),
        ("deepseek-ai/deepseek-coder-1.3b-instruct", True, 5e-5),
        ("Qwen/Qwen2.5-Coder-7B", False, 1e-6),
        ("mistralai/Mixtral-8x7B-v0.1", True, 1e-5),
        ("org/model", True, 1e-5),
    ],
)
def test_a_named_model_has_a_recipe_of_its_size(name: str, lora: bool, rate: float) -> None:
    configuration = parse_configuration(["--model", name, *(["--use_peft"] if lora else [])])
    assert configuration.grpo.learning_rate == rate
    grpo = configuration.grpo
    assert grpo.per_device_train_batch_size * grpo.gradient_accumulation_steps == 32
    assert configuration.run.max_eval_samples == 64
    assert configuration.chooses_steps


def test_the_size_of_a_folder_is_told_by_its_weights(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    counted = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(tiny_model).parameters())
    assert model_parameters(str(tiny_model)) == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize(
    ("argv", "accumulation", "noted"),
    [
        (["--per_device_train_batch_size", "1"], 32, False),
        (["--per_device_train_batch_size", "4"], 8, False),
        (["--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "4"], 8, True),
        (["--per_device_train_batch_size", "1", "--recipe", "trl"], 8, True),
        (["--per_device_train_batch_size", "64"], 1, False),
        (["--num_generations", "16"], 4, False),
    ],
)
def test_accumulation_fits_the_groups(argv: list[str], accumulation: int, noted: bool) -> None:
    flags = read_flags(["--model_name", "org/model", *argv])
    assert resolve(flags).grpo.gradient_accumulation_steps == accumulation
    assert bool(flags.notes) is noted


def test_our_catalogue_is_what_the_parser_knows() -> None:
    """Names, defaults and kinds come from TRL's source as text; its parser is the judge."""
    from trl import GRPOConfig, ModelConfig, TrlParser

    parsed = {action.dest: action for action in TrlParser((GRPOConfig, ModelConfig))._actions if action.dest != "help"}
    known = library_flags()
    assert parsed.keys() == known.keys()
    for name, flag in known.items():
        kind = flag.kind if flag.kind in ("int", "float", "str") else None
        assert kind is None or parsed[name].type.__name__ == kind, name
        if name not in ("optim", "include_for_metrics", "debug"):  # computed defaults
            assert flag.default == getattr(parsed[name], "default", None) or flag.kind == "bool", name


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
    "abbreviated flag": (["--learning", "1"], "unknown argument --learning"),
    "another trainer's name": (["--lr", "1"], "unknown argument --lr; did you mean --learning_rate?"),
    "value of the wrong type": (["--max_steps", "many"], "--max_steps"),
    "choice": (["--weak_tests", "random"], "--weak_tests"),
    "out of range": (["--max_eval_samples", "0"], "--max_eval_samples is 0; it must be at least 1"),
    "no file name": (["--config"], "--config needs"),
    "missing config file": (["--config", "missing.yaml"], "missing.yaml"),
    "group that does not divide the batch": (
        ["--per_device_train_batch_size", "8", "--num_generations", "7"],
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

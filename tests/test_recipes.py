"""Each recipe can be read: its flags exist, TRL and accelerate accept how they are combined."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.utils import FullyShardedDataParallelPlugin

from grpo_project.config import parse_configuration

RECIPES = Path(__file__).parent.parent / "recipes"
RUNS = sorted(RECIPES.glob("*.yaml"))
LAUNCHERS = sorted((RECIPES / "accelerate").glob("*.yaml"))
WITHOUT_GPU = ["--bf16", "false"]


def test_there_is_one_for_each_way() -> None:
    assert {path.stem for path in RUNS} >= {
        *("own_model", "full_one_gpu", "qlora", "vllm_colocate", "vllm_server", "smollm2"),
    }
    assert {path.stem for path in LAUNCHERS} == {"two_gpus", "fsdp2", "zero2"}
    assert {path.stem for path in RECIPES.glob("*.sbatch")} == {"slurm", "slurm_torchrun"}


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_flags_of_a_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    content = yaml.safe_load(path.read_text())
    configuration = parse_configuration(["--config", str(path), *WITHOUT_GPU])
    assert configuration.model.model_name_or_path == content.get("model_name")
    for flag in ("num_generations", "max_completion_length", "use_vllm"):
        if flag in content:
            assert getattr(configuration.grpo, flag) == content[flag]


@pytest.mark.parametrize("name", ["own_model", "qlora", "vllm_colocate"])
def test_a_lora_recipe_makes_an_adapter(name: str) -> None:
    from grpo_project.training.run import lora_config

    config = lora_config(parse_configuration(["--config", str(RECIPES / f"{name}.yaml"), *WITHOUT_GPU]))
    assert config.r == 16
    assert config.target_modules == "all-linear"


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_a_launcher_is_accelerates_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config_from_file(str(path))  # refuses what accelerate has no name for
    assert isinstance(config, ClusterConfig)
    assert config.num_processes == 2
    if config.fsdp_config:
        assert FullyShardedDataParallelPlugin(fsdp_version=config.fsdp_config["fsdp_version"]).fsdp_version == 2


@pytest.mark.parametrize("path", [*RUNS, *LAUNCHERS, *RECIPES.glob("*.sbatch")], ids=lambda path: path.name)
def test_what_a_recipe_names_is_there(path: Path) -> None:
    for name in re.findall(r"recipes/[\w/]+\.(?:yaml|sbatch)", path.read_text()):
        assert (RECIPES.parent / name).is_file(), name

"""Defaults that learn for a model that the user names, by its size and by what of it is trained (docs/recipes.md).

TRL's own (a learning rate of 1e-6 for LoRA too, one problem a step) leave a first run where it began.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from grpo_project.errors import ConfigError

SMALL, MEDIUM = 0.3e9, 2e9
"""Parameters up to which a model is of the class."""
RATES = {"small": (2e-5, 2e-4), "medium": (5e-6, 5e-5), "large": (1e-6, 1e-5)}
"""Learning rates of full fine-tuning and of LoRA. Measured by ours: small, full (SmolLM2-135M). Large: TRL's own
reproduction on SmolLM3-3B; medium, LoRA: TRL's example for Qwen3-0.6B; the other two by LoRA's factor of ten."""
FEWEST_STEPS = 100
"""The least that a run makes where nobody said how long: a small file is gone through several times."""

RECIPE: dict[str, Any] = {
    "num_generations": 8,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,  # 4 problems x 8 completions in a step, as measured; LoRA bears no large batches
    "max_completion_length": 512,
    "lr_scheduler_type": "constant",  # as measured; a run that is made longer keeps its rate
    "max_eval_samples": 64,
}
COMPLETIONS_A_STEP = RECIPE["per_device_train_batch_size"] * RECIPE["gradient_accumulation_steps"]
LORA = {"lora_target_modules": ["all-linear"]}  # attention alone learns less, whatever the rank (Schulman et al. 2025)

_LARGEST_HEADER = 100 << 20
_SIZE_IN_NAME = re.compile(r"(?<![a-z\d])(?:(\d+)x)?(\d+(?:\.\d+)?)(b|m)(?![a-z\d])", re.IGNORECASE)


def own_model_recipe(parameters: float | None, lora: bool) -> dict[str, Any]:
    """Flags by name. ``parameters``: how many the model has; ``None``, unknown, is taken for large: the careful one."""
    rate = RATES[size_class(parameters)][lora]
    return {**RECIPE, "learning_rate": rate, **(LORA if lora else {})}


def size_class(parameters: float | None) -> str:
    if parameters is None or parameters > MEDIUM:
        return "large"
    return "small" if parameters <= SMALL else "medium"


def steps_of(problems: int, problems_a_step: float) -> int:
    """How many steps a run makes where nobody said it: once through the problems, and ``FEWEST_STEPS`` at least."""
    return max(FEWEST_STEPS, math.ceil(problems / problems_a_step))


def fitted_accumulation(flags: Mapping[str, Any], given: Collection[str], step: int | None) -> tuple[int | None, str]:
    """The ``gradient_accumulation_steps`` with which a step has whole groups, and what to say; ``None`` leaves it.

    ``--per_device_train_batch_size`` says how much fits in memory at once; the step keeps its size.

    Args:
        flags: the values of what is given or has a default of ours.
        given: names of what the user gave.
        step: completions a step has where the accumulation is not given; ``None``: as the accumulation has it.
    """
    name = "gradient_accumulation_steps"
    try:
        group = int(flags.get("num_generations") or RECIPE["num_generations"])  # TRL's own default, too
        micro = int(flags.get("per_device_train_batch_size", 8)) * int(os.environ.get("WORLD_SIZE", 1))
        before = int(flags.get(name, 1))
    except (TypeError, ValueError):
        return None, ""
    if min(group, micro, before) < 1:
        return None, ""
    if {"generation_batch_size", "steps_per_generation"} & set(given):
        rows = flags.get("generation_batch_size") or micro * int(flags.get("steps_per_generation") or 1)
        _require_groups(int(rows), group)
        return None, ""
    wanted = before if step is None or name in given else max(1, round(step / micro))
    whole = group // math.gcd(group, micro)
    accumulation = math.ceil(wanted / whole) * whole
    if micro >= group and accumulation > 2 * wanted:  # no small matter
        _require_groups(wanted * micro, group)
    if accumulation == before:
        return None, ""
    if step is not None and name not in given:
        return accumulation, ""  # the start line tells the step
    return accumulation, (
        f"--{name} is {accumulation} instead of {before}: a step of {accumulation * micro} completions has whole "
        f"groups of --num_generations {group}"
    )


def _require_groups(rows: int, group: int) -> None:
    if rows % group:
        raise ConfigError(
            f"a generation of {rows} completions has no whole groups of --num_generations {group}; choose one that "
            "divides --per_device_train_batch_size x processes x --steps_per_generation (--gradient_accumulation_steps "
            "unless set)"
        )


def model_parameters(name: str) -> float | None:
    """How many parameters a model has: of a folder by its weights' headers, of a hub id by its name (``1.3b``)."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        found = _SIZE_IN_NAME.search(name.rpartition("/")[2])
        if found is None:
            return None
        experts, number, unit = found.groups()
        return float(number) * int(experts or 1) * (1e9 if unit in "bB" else 1e6)
    if (adapter := folder / "adapter_config.json").is_file():
        base = _json(adapter).get("base_model_name_or_path")
        return model_parameters(base) if base and Path(base) != folder else None
    counts = [_tensor_elements(path) for path in folder.glob("*.safetensors")]
    return float(sum(counts)) if sum(counts) else None


def _tensor_elements(path: Path) -> int:
    """Of a safetensors file: 8 bytes with the length of a JSON header that tells each tensor's shape."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= _LARGEST_HEADER:
            return 0  # damaged: the model's own reader tells
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return 0
    return sum(math.prod(entry["shape"]) for entry in header.values() if isinstance(entry, dict) and "shape" in entry)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

"""The flags of a run: ours (``RunArguments``), TRL's (``GRPOConfig``) and the model's (``ModelConfig``), read together.

Where a value comes from, strongest first: the command line, ``--config FILE`` (YAML), what the run in ``--output_dir``
was started with, a recipe (of the embedded model, or by the size of the model that is named), ``DEFAULTS`` below, TRL's
own defaults.

TRL's knobs stay TRL's. What stands here is what TRL has no word for. ``read_flags`` finds mistakes without TRL and
torch, which take seconds to import; ``resolve`` makes TRL's objects.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_project.errors import ConfigError
from grpo_project.flags import (
    ALIASES,
    TRUE,
    Flag,
    Segment,
    is_optional,
    kind_of,
    library_flags,
    require_known,
    segments,
    typed_value,
)
from grpo_project.recipes import COMPLETIONS_A_STEP, fitted_accumulation, model_parameters, own_model_recipe
from grpo_project.run_arguments import DEFAULTS, RunArguments

if TYPE_CHECKING:
    from trl import GRPOConfig, ModelConfig


@dataclass(frozen=True)
class Recorded:
    """What the run that is to be continued was started with (``training.left_out`` reads it from run.json)."""

    words: tuple[str, ...] = ()
    """Flags of its command line that the present one leaves out."""
    file: Mapping[str, Any] = field(default_factory=dict)
    """Its ``--config`` file's content."""
    resolved: Mapping[str, Any] = field(default_factory=dict)
    """The value of every flag: where our own defaults have changed since, it keeps its own."""


@dataclass(frozen=True)
class Flags:
    """A command line and what stands behind it, read without TRL; ``resolve`` makes a ``Configuration`` of it."""

    argv: tuple[str, ...]
    """The whole command line: as it was given, with what the continued run adds."""
    words: tuple[str, ...]
    """What the parser reads, strongest last."""
    file: Mapping[str, Any]
    defaults: Mapping[str, Any]
    run: RunArguments
    embedded_model: bool
    chooses_steps: bool
    """Nobody said how long the run is: the plan chooses by the number of problems."""
    notes: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    """Of every flag that something else than its library decides."""

    @property
    def output_dir(self) -> str:
        return str(self.values["output_dir"])


@dataclass(frozen=True)
class Configuration:
    """One run's flags, resolved."""

    run: RunArguments
    grpo: GRPOConfig
    model: ModelConfig
    embedded_model: bool
    """No model was named: the embedded one is trained, with its recipe as defaults."""
    argv: tuple[str, ...] = ()
    """The whole command line."""
    config_file: Mapping[str, Any] = field(default_factory=dict)
    """What ``--config`` holds."""
    chooses_steps: bool = False
    """Nobody said how long the run is: the plan chooses by the number of problems."""
    plain_progress: bool = False
    """``--disable_tqdm true``: lines instead of a bar."""

    @property
    def command(self) -> list[str]:
        """The words of the command as one would type it again."""
        processes = self.grpo.world_size
        launcher = (
            ["grpo"] if processes == 1 else ["torchrun", f"--nproc_per_node={processes}", "-m", "grpo_project.cli"]
        )
        return [*launcher, "train", *self.argv]

    def to_dict(self) -> dict[str, Any]:
        """All flags as JSON values, without secrets: what ``run.json`` keeps."""
        trl = {k: v for k, v in self.grpo.to_dict().items() if not k.endswith("_token")}
        flags = {"run": dataclasses.asdict(self.run), "grpo": trl, "model": dataclasses.asdict(self.model)}
        return json.loads(json.dumps(flags, default=str))


def parse_configuration(argv: Sequence[str], recorded: Recorded | None = None) -> Configuration:
    """Read a command line and its ``--config`` file.

    Raises:
        ConfigError: an unknown flag, a bad value, a missing or malformed file, or flags that contradict each other.
    """
    return resolve(read_flags(argv, recorded))


def read_flags(argv: Sequence[str], recorded: Recorded | None = None) -> Flags:
    """The same as far as it goes without TRL: what is found here is found within a fraction of a second.

    Raises:
        ConfigError: as for ``parse_configuration``.
    """
    recorded = recorded or Recorded()
    known = known_flags()
    given = segments(argv, known)
    file = _config_file(given)
    if file is not None:
        file = {plain_name(name): value for name, value in file.items() if name != "env"}
    earlier = segments(recorded.words, known)
    if file:  # what a file says now is newer than what a command said then
        earlier = [segment for segment in earlier if segment.name not in file]
    from_file = dict(recorded.file if file is None else file)
    typed = [segment for segment in (*earlier, *given) if segment.name != "config"]
    values = from_file | {s.name: typed_value(known[s.name], s.values) for s in typed}
    embedded = values.get("model_name") is None
    defaults = _defaults(embedded, values, recorded.resolved)
    chooses = not embedded and values.get("recipe", "auto") == "auto" and not recorded.resolved
    chooses = chooses and not {"max_steps", "num_train_epochs"} & values.keys()
    step = _completions_a_step(embedded or values.get("recipe", "auto") != "auto", recorded.resolved)
    accumulation, note = fitted_accumulation(defaults | values, values.keys(), step)
    more: list[str] = []
    if accumulation is not None:
        defaults["gradient_accumulation_steps"] = accumulation
        if "gradient_accumulation_steps" in values:
            more = ["--gradient_accumulation_steps", str(accumulation)]
    everything = DEFAULTS | defaults | values
    _require_ranges(everything)
    run = _run_arguments(everything)
    words = [word for segment in typed for word in segment.words]
    shown = [word for segment in (*earlier, *given) for word in segment.words]
    notes = [note] if note else []
    if values.get("disable_tqdm") is False:
        notes.append("--disable_tqdm false: a progress line of our own stands where tqdm's bars would")
    return Flags(
        tuple(argv if not earlier else shown),
        (*words, *more),
        from_file,
        defaults,
        run,
        embedded,
        chooses,
        tuple(notes),
        everything,
    )


def resolve(flags: Flags) -> Configuration:
    """TRL's objects for what ``read_flags`` has read.

    Raises:
        ConfigError: TRL refuses it, or it would break what this program promises.
    """
    parser = _parser()
    defaults = dict(flags.defaults)
    if not _has_accelerator():
        defaults.setdefault("bf16", False)  # TRL's default; 4 to 5 times slower than float32 on a CPU
        defaults.setdefault("dataloader_pin_memory", False)
    parser.set_defaults_with_config(**{**defaults, **flags.file})
    try:
        run, grpo, model = parser.parse_args_into_dataclasses(args=list(flags.words))
    except (ValueError, TypeError, ImportError) as error:
        # GRPOConfig and TrainingArguments check themselves, in their own words.
        raise ConfigError(one_line(error) + _advice(str(error))) from error
    model.model_name_or_path = run.model_name
    _refuse_unfit(run, grpo)
    _check_resampling(run, grpo)
    return Configuration(
        run,
        grpo,
        model,
        flags.embedded_model,
        flags.argv,
        flags.file,
        flags.chooses_steps,
        flags.values.get("disable_tqdm") is True,
    )


def known_flags() -> dict[str, Flag]:
    """Every flag by name: ours and the libraries'."""
    ours = {
        item.name: Flag(
            item.name,
            kind_of(RunArguments.__annotations__[item.name]),
            item.default if item.default_factory is dataclasses.MISSING else item.default_factory(),
            item.metadata["help"],
            "ours",
            tuple(item.metadata.get("choices", ())),
            is_optional(RunArguments.__annotations__[item.name]),
        )
        for item in dataclasses.fields(RunArguments)
    }
    return {**library_flags(), **ours}


def plain_name(name: str) -> str:
    """A flag's own name for one of its names."""
    return ALIASES.get(name, name)


def read_config_file(path: str) -> dict[str, Any]:
    """A YAML file of flags. Raises ``ConfigError`` if it is missing, unreadable, or not a mapping."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}; give the path of a YAML file of flags") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} is not valid YAML: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path} must hold `flag: value` lines, not a {type(content).__name__}")
    return content


def quickstart_recipe() -> dict[str, Any]:
    """The flags that the embedded run uses, chosen by measurement (docs/experiments.md)."""
    import yaml

    text = resources.files("grpo_project").joinpath("assets/quickstart.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def embedded_model_path(name: str = "base_model") -> Path:
    """The folder of the shipped base model, for ``AutoModelForCausalLM`` and ``AutoTokenizer``."""
    return Path(__file__).resolve().parent / "assets" / name


RANGES: dict[str, tuple[float, float]] = {
    **{
        name: (0, math.inf)
        for name in ("learning_rate", "beta", "weight_decay", "warmup_steps", "seed", "max_grad_norm")
    },
    **{name: (1, math.inf) for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "lora_r")},
    **{name: (1, math.inf) for name in ("max_completion_length", "num_iterations", "save_total_limit")},
    **{"num_generations": (2, math.inf), "top_p": (0, 1), "lora_dropout": (0, 1)},
}
"""Flags of the libraries whose ranges these don't check, or only once the model is loaded."""
POSITIVE = ("temperature", "num_train_epochs", "save_steps", "logging_steps")


def _require_ranges(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        try:
            number = float(value) if name in RANGES or name in POSITIVE else None
        except (TypeError, ValueError):
            continue  # the parser tells
        low, high = RANGES.get(name, (0, math.inf))
        if number is None or (low <= number <= high and (number > 0 or name not in POSITIVE)):
            continue
        wanted = (
            "more than 0" if name in POSITIVE else f"at least {low}" if high == math.inf else f"from {low} to {high}"
        )
        raise ConfigError(f"--{name} is {value}; it must be {wanted}")


def _config_file(given: Sequence[Segment]) -> dict[str, Any] | None:
    """The content of the ``--config`` file, ``None`` without one; its ``env`` goes into the environment, as in TRL."""
    paths = [segment.values for segment in given if segment.name == "config"]
    if not paths:
        return None
    if len(paths[-1]) != 1 or not paths[-1][0]:
        raise ConfigError("--config needs the path of a YAML file")
    path = paths[-1][0]
    content = read_config_file(path)
    environment = content.get("env") or {}
    if not isinstance(environment, dict):
        raise ConfigError(f"--config {path}: env must hold `NAME: value` lines")
    require_known([name for name in content if name != "env"], known_flags(), f"--config {path}")
    os.environ.update({str(name): str(value) for name, value in environment.items()})
    return content


def _defaults(embedded: bool, values: Mapping[str, Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """What stands below the command line and its file, and above TRL's own defaults."""
    lora = str(values.get("use_peft", False)).lower() in TRUE
    if values.get("recipe", "auto") != "auto":
        recipe = {}
    elif embedded:
        recipe = quickstart_recipe()
    else:
        recipe = own_model_recipe(model_parameters(str(values["model_name"])), lora)
    defaults = DEFAULTS | recipe
    if resolved:
        ours = {*DEFAULTS, *quickstart_recipe(), *own_model_recipe(None, lora=True), "bf16", "dataloader_pin_memory"}
        defaults |= {name: resolved[name] for name in ours - {"output_dir"} if resolved.get(name) is not None}
        defaults = {name: value for name, value in defaults.items() if name not in resolved or resolved[name] == value}
    return defaults


def _completions_a_step(keeps_accumulation: bool, resolved: Mapping[str, Any]) -> int | None:
    """What a step has where only the size on a device is given; ``None``: the accumulation stays, as in TRL."""
    if resolved.get("generation_batch_size") and resolved.get("steps_per_generation"):
        return (
            resolved["generation_batch_size"]
            * resolved["gradient_accumulation_steps"]
            // resolved["steps_per_generation"]
        )
    return None if keeps_accumulation else COMPLETIONS_A_STEP


def _run_arguments(values: Mapping[str, Any]) -> RunArguments:
    """``RunArguments`` from the values of all flags."""
    known = known_flags()
    mine: dict[str, Any] = {}
    for item in dataclasses.fields(RunArguments):
        if item.name in values:
            value = values[item.name]
            mine[item.name] = typed_value(known[item.name], [value]) if isinstance(value, str) else value
    return RunArguments(**mine)


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


def _parser() -> Any:
    from trl import GRPOConfig, ModelConfig, TrlParser

    class OneLineParser(TrlParser):
        def error(self, message: str) -> Any:
            raise ConfigError(f"{one_line(message)} (`grpo train --help` lists all flags)")

    return OneLineParser((RunArguments, GRPOConfig, ModelConfig), prog="grpo train", allow_abbrev=False)


def _refuse_unfit(run: RunArguments, grpo: GRPOConfig) -> None:
    """Flags of TRL's and transformers' that would break what this program promises."""
    if (wanted := os.environ.get("WORLD_SIZE", "1")) != "1" and grpo.world_size == 1:
        # accelerate (state.py, _prepare_backend) makes no group of processes on a CPU unless it is told to use it.
        raise ConfigError(
            f"WORLD_SIZE is {wanted}, but this process would train alone, and so would the others into the same "
            "folder: without a GPU give --use_cpu true; to train in one process, unset WORLD_SIZE"
        )
    if grpo.save_only_model:
        raise ConfigError(
            "--save_only_model makes checkpoints that no run can go on from (no optimizer, no random states); leave it "
            "out. The final model is saved by itself anyway, beside the checkpoints"
        )
    if grpo.auto_find_batch_size:
        raise ConfigError(
            "--auto_find_batch_size changes the batch in mid-run, so that no resume is exact; leave it out and choose "
            "--per_device_train_batch_size"
        )
    if run.max_resample and grpo.multi_objective_aggregation == "normalize_then_sum":
        raise ConfigError(
            "--max_resample and --multi_objective_aggregation normalize_then_sum exclude each other: the latter "
            "normalises over one batch, the former puts several together"
        )


def _check_resampling(run: RunArguments, grpo: GRPOConfig) -> None:
    rows = grpo.per_device_train_batch_size * grpo.steps_per_generation
    if run.max_resample and rows % grpo.num_generations:
        raise ConfigError(
            f"--max_resample needs whole groups on every process: {rows} completions (per_device_train_batch_size x "
            f"steps_per_generation) are no multiple of --num_generations {grpo.num_generations}"
        )


def _advice(message: str) -> str:
    if "num_generations" in message and "divisible" in message:
        return (
            " Choose --num_generations so that it divides per_device_train_batch_size x processes x "
            "steps_per_generation (gradient_accumulation_steps unless set)."
        )
    return ""


def one_line(error: object) -> str:
    """An error's text without its line breaks."""
    return re.sub(r"\s+", " ", str(error)).strip()

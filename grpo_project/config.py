"""The flags of a run: ours (``RunArguments``), TRL's (``GRPOConfig``) and the model's (``ModelConfig``), read together.

Where a value comes from, strongest first: the command line, ``--config FILE`` (YAML), the embedded model's recipe
(only while no ``--model_name`` is given), ``DEFAULTS`` below, TRL's own defaults.

TRL's knobs stay TRL's. What stands here is what TRL has no word for. ``RunArguments`` itself is light; TRL is imported
only when a command line is read.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_project.durations import parse_duration
from grpo_project.errors import ConfigError

if TYPE_CHECKING:
    from trl import GRPOConfig, ModelConfig

# Where we differ from TRL for every run, each with its reason.
DEFAULTS: dict[str, Any] = {
    "output_dir": "runs/default",
    "logging_steps": 1,  # the journal holds a row for each optimizer step
    "save_steps": 50,  # TRL's 500 loses hours on a preempted node
    "save_total_limit": 3,
    "dataloader_num_workers": 0,  # prompts are drawn when they are needed; a loader has nothing to prefetch
}

REWARDS = ("pass_rate", "all_or_nothing", "mixed", "stepwise")
WEAK_TESTS = ("ignore", "allow")
ON_STALL = ("warn", "relax", "advance", "stop")


def _arg(default: Any, help: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class RunArguments:
    """What a run needs beside TRL's ``GRPOConfig`` and ``ModelConfig``.

    Raises:
        ConfigError: a value is out of its range; the message names the field, the value and the range.
    """

    model_name: str | None = _arg(
        None, "Model to train: hub id or local folder (the same as --model_name_or_path). Default: the embedded model."
    )
    dataset_path: str | None = _arg(
        None, "Training problems: a .json, .jsonl or .gz file (docs/problem-format.md). Default: the embedded problems."
    )
    dataset_base_path: str | None = _arg(
        None, "Where paths in the problem files start (benches, references). Default: the file's own folder."
    )
    eval_dataset_path: str | None = _arg(
        None, "Held-out problems for the evaluations. Default: a part of DATASET_PATH; without one, embedded problems."
    )
    eval_split: float = _arg(
        0.05,
        "Share of DATASET_PATH held out, 16 to 512 problems, where no EVAL_DATASET_PATH is given (0: none).",
    )
    system_prompt: str | None = _arg(
        None, "System message for chat models: how to answer. Default: one program in a fenced block, by the language."
    )
    reward: str = _arg(
        "pass_rate",
        "What a completion earns: its share of tests passed, 1 only if all pass, the mean of the two, or in steps from "
        "code that compiles to all tests (docs/verilog.md).",
        choices=list(REWARDS),
    )
    weak_tests: str = _arg(
        "ignore",
        "Tests that only the program's own objects can judge: no part of the reward, or counted like the others.",
        choices=list(WEAK_TESTS),
    )

    eval_every_n_steps: int = _arg(25, "Evaluate on held-out problems every N optimizer steps (0: never).")
    max_eval_samples: int = _arg(8, "How many held-out problems an evaluation uses, balanced over the levels.")
    eval_temperature: float | None = _arg(None, "Sampling temperature of the evaluations (0: greedy). Default: 0.")
    eval_num_samples: int = _arg(1, "Completions for each held-out problem in an evaluation.")
    eval_batch_size: int = _arg(64, "Completions generated at once in an evaluation, on each process.")

    enable_curriculum: bool = _arg(True, "Walk from the easiest stage to the hardest; false: uniform sampling.")
    curriculum_config: str | None = _arg(None, "Stages, gate and sampler as a YAML or JSON file.")
    curriculum_threshold: float | None = _arg(
        None, "Overrides every stage's threshold, for a quick trial (0 to below 1)."
    )
    ragged_batches: bool = _arg(
        True, "Generate and compute the loss without padding where the model allows; false: TRL's own code."
    )
    max_resample: int = _arg(
        0, "Draw groups whose rewards are all alike (no gradient) anew, at most so many times a batch."
    )
    on_stall: str | None = _arg(None, "What to do when the curriculum stalls.", choices=list(ON_STALL))
    print_curriculum: bool = _arg(False, "Print the curriculum's configuration as YAML and exit.")

    verifier_workers: int | None = _arg(None, "Sandbox workers. Default: one for each core.")
    verifier_isolation: str | None = _arg(
        None,
        "How model-written code is caged. Default: the strongest that this machine allows.",
        choices=["namespaces", "landlock", "rlimits"],
    )
    max_infrastructure_rate: float = _arg(
        0.02,
        "End the run when so large a share of the newest 1,000 completions could not be judged, for reasons of our own "
        "(0 to 1). Until then such a completion is left out, and never counts as 0.",
    )
    verifier_cache: bool = _arg(True, "Remember the verdict of code that was judged before.")

    wandb_project: str | None = _arg(None, "W&B project. Default: $WANDB_PROJECT, else grpo-project.")
    wandb_run_name: str | None = _arg(None, "W&B run name. Default: the name of the output folder.")
    wandb_resume: str | None = _arg(
        None,
        "What a resumed run is in W&B: `new`, a segment of the same group, or the `same` run. Default: $WANDB_RESUME, "
        "else new.",
    )
    force_new_wandb_run: bool = _arg(False, "Start a new W&B run even if WANDB_RUN_ID or --wandb_resume say otherwise.")

    max_runtime: str | None = _arg(None, "Save and stop after this long, before a queue's limit strikes: 3h50m, 90s.")
    preemption_grace_s: float = _arg(
        30.0, "Seconds after a stop signal within which the run saves and exits; after them it exits without saving."
    )
    save_every_minutes: float | None = _arg(None, "Save a checkpoint when the last is this old, beside --save_steps.")
    allow_config_change: bool = _arg(False, "Go on although flags changed that change the course of training.")
    overwrite_output_dir: bool = _arg(False, "Remove an earlier run from OUTPUT_DIR and start anew.")
    samples_keep: int = _arg(1_000_000, "How many training completions are kept on disk, newest first (0: all).")

    def __post_init__(self) -> None:
        at_least = {"eval_every_n_steps": 0, "max_eval_samples": 1, "eval_num_samples": 1, "max_resample": 0}
        at_least |= {"samples_keep": 0, "eval_batch_size": 1}
        for name, low in at_least.items():
            if (value := getattr(self, name)) < low:
                raise ConfigError(f"--{name} is {value}; it must be at least {low}")
        if self.verifier_workers is not None and self.verifier_workers < 1:
            raise ConfigError(f"--verifier_workers is {self.verifier_workers}; it must be at least 1")
        if not 0 <= self.eval_split <= 0.5:
            raise ConfigError(f"--eval_split is {self.eval_split}; it must be from 0 (none) to 0.5")
        if self.eval_temperature is not None and self.eval_temperature < 0:
            raise ConfigError(f"--eval_temperature is {self.eval_temperature}; it must be 0 (greedy) or more")
        for name in ("preemption_grace_s", "save_every_minutes"):
            if (seconds := getattr(self, name)) is not None and seconds <= 0:
                raise ConfigError(f"--{name} is {seconds:g}; it must be more than 0")
        if self.max_runtime is not None:
            parse_duration(self.max_runtime)
        if self.curriculum_threshold is not None and not 0 <= self.curriculum_threshold < 1:
            raise ConfigError(f"--curriculum_threshold is {self.curriculum_threshold}; it must be from 0 to below 1")


@dataclass(frozen=True)
class Configuration:
    """One run's flags, resolved."""

    run: RunArguments
    grpo: GRPOConfig
    model: ModelConfig
    embedded_model: bool
    """No model was named: the embedded one is trained, with its recipe as defaults."""
    argv: tuple[str, ...] = ()
    """The command line as it was given."""

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


def parse_configuration(argv: Sequence[str]) -> Configuration:
    """Read a command line and its ``--config`` file.

    Raises:
        ConfigError: an unknown flag, a bad value, a missing or malformed file, or flags that contradict each other.
        SystemExit: after ``--help``.
    """
    given, argv = tuple(argv), _split_config_flag(argv)
    parser = _parser()
    from_file = read_config_file(argv[argv.index("--config") + 1]) if "--config" in argv else {}
    embedded = not _names_a_model(argv, from_file)
    parser.set_defaults_with_config(**_base_defaults(embedded, argv, from_file))
    try:
        *parsed, from_file_rest, rest = parser.parse_args_and_config(
            argv, return_remaining_strings=True, separate_remaining_strings=True
        )
    except (ValueError, TypeError, ImportError) as error:
        # GRPOConfig and TrainingArguments check themselves, in their own words.
        raise ConfigError(one_line(error) + _advice(str(error))) from error
    _refuse_unknown(parser, [*rest, *from_file_rest])
    run, grpo, model = parsed
    _unite_model_names(run, model)
    _refuse_unfit(run, grpo)
    _check_resampling(run, grpo)
    return Configuration(run, grpo, model, embedded, given)


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


def _base_defaults(embedded: bool, argv: Sequence[str], from_file: dict[str, Any]) -> dict[str, Any]:
    defaults = dict(DEFAULTS)
    if embedded:
        defaults |= quickstart_recipe()
        # TRL computes one of these two from the other and refuses both.
        if "generation_batch_size" in from_file or any("--generation_batch_size" in arg for arg in argv):
            defaults.pop("steps_per_generation", None)
    if not _has_accelerator():
        defaults.setdefault("bf16", False)  # TRL's default; 4 to 5 times slower than float32 on a CPU
        defaults.setdefault("dataloader_pin_memory", False)
    return defaults


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


def _parser() -> Any:
    from trl import GRPOConfig, ModelConfig, TrlParser

    class OneLineParser(TrlParser):
        def error(self, message: str) -> Any:
            raise ConfigError(f"{one_line(message)} (`grpo train --help` lists all flags)")

    parser = OneLineParser(
        (RunArguments, GRPOConfig, ModelConfig),
        prog="grpo train",
        allow_abbrev=False,
        description="Train a causal language model with GRPO; the reward is the pass rate of real tests. Every flag of "
        "TRL's GRPOConfig and ModelConfig is accepted, on the command line or in a YAML file (--config FILE).",
    )
    return parser


def _split_config_flag(argv: Sequence[str]) -> list[str]:
    """Accept ``--config=FILE`` too, and refuse ``--config`` without a file."""
    split: list[str] = []
    for arg in argv:
        split += arg.split("=", 1) if arg.startswith("--config=") else [arg]
    if split and split[-1] == "--config":
        raise ConfigError("--config needs the path of a YAML file")
    return split


def _names_a_model(argv: Sequence[str], from_file: dict[str, Any]) -> bool:
    flags = ("model_name", "model_name_or_path")
    named = {arg.split("=", 1)[0] for arg in argv}
    return any(f"--{flag}" in named or from_file.get(flag) is not None for flag in flags)


def _unite_model_names(run: RunArguments, model: ModelConfig) -> None:
    names = {name for name in (run.model_name, model.model_name_or_path) if name is not None}
    if len(names) > 1:
        raise ConfigError(
            f"--model_name {run.model_name} and --model_name_or_path {model.model_name_or_path} differ; give one"
        )
    run.model_name = model.model_name_or_path = names.pop() if names else None


def _refuse_unfit(run: RunArguments, grpo: GRPOConfig) -> None:
    """Flags of TRL's and transformers' that would break what this program promises."""
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


def _refuse_unknown(parser: Any, rest: Sequence[str]) -> None:
    if not rest:
        return
    known = [option for action in parser._actions for option in action.option_strings]
    unknown = rest[0].split("=", 1)[0]
    close = difflib.get_close_matches(unknown, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "`grpo train --help` lists all flags"
    raise ConfigError(f"unknown argument {unknown}; {hint}")


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

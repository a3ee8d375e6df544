"""Our own flags of a run (``RunArguments``): what TRL has no word for. TRL's knobs stay TRL's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from grpo_project.durations import parse_duration
from grpo_project.errors import ConfigError

# Where we differ from TRL for every run, each with its reason.
DEFAULTS: dict[str, Any] = {
    "output_dir": "runs/default",
    "logging_steps": 1,  # the journal holds a row for each optimizer step
    "save_steps": 50,  # TRL's 500 loses hours on a preempted node
    "save_total_limit": 3,
    "dataloader_num_workers": 0,  # prompts are drawn when they are needed; a loader has nothing to prefetch
}

WEAK_TESTS = ("ignore", "allow")
RECIPES = ("auto", "trl")
ON_HANG = ("warn", "exit")
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
        None,
        "Model to train: a hub id or a local folder (also --model_name). Default: the embedded model.",
    )
    recipe: str = _arg(
        "auto",
        "Defaults: `auto`, those that learn for a model of this size (docs/recipes.md); `trl`, TRL's own.",
        choices=list(RECIPES),
    )
    dataset_path: str | None = _arg(
        None, "Training problems: a .json, .jsonl or .gz file (docs/problem-format.md). Default: the embedded problems."
    )
    dataset_name: str | None = _arg(
        None, "Training problems from the Hugging Face hub: org/name, org/name:config, org/name@split (default: train)."
    )
    dataset_columns: str | None = _arg(
        None, "Which columns hold what, where they have other names: prompt=question,tests=test_list."
    )
    dataset_base_path: str | None = _arg(
        None, "Where paths in the problem files start (benches, references). Default: the file's own folder."
    )
    eval_dataset_path: str | None = _arg(
        None, "Held-out problems for the evaluations. Default: a part of --dataset; without one, embedded problems."
    )
    eval_split: float = _arg(
        0.05,
        "Share of --dataset held out, 16 to 512 problems, where no --eval_dataset is given (0: none).",
    )
    system_prompt: str | None = _arg(
        None, "System message for chat models: how to answer. Default: one program in a fenced block, by the language."
    )
    reward: list[str] = field(
        default_factory=lambda: ["pass_rate"],
        metadata={
            "help": "What a completion earns, as NAME[:WEIGHT] ...: pass_rate (share of tests passed), all_or_nothing, "
            "mixed (the mean of the two), stepwise, weighted; soft_overlong_punishment, repetition_penalty, length, "
            "format(pattern=...); module:function of your own (docs/rewards.md)."
        },
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
    verifier_address: str | None = _arg(
        None, "Judge on a Ray cluster: ray (this machine), auto, HOST:PORT or ray://HOST:PORT (docs/cluster.md)."
    )
    verifier_fallback: str | None = _arg(
        None, "What to do when the cluster has had no node for minutes: `local` goes on here.", choices=["local"]
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
    stall_after_s: float | None = _arg(
        None,
        "Seconds without a token, verdict or step after which the run stands still. Default: 10 times what the phase "
        "usually takes, at least 300.",
    )
    on_hang: str = _arg(
        "warn",
        "A run that stands still: say so with all stacks, or also try to save and exit with code 75.",
        choices=list(ON_HANG),
    )
    save_every_minutes: float | None = _arg(None, "Save a checkpoint when the last is this old, beside --save_steps.")
    allow_config_change: bool = _arg(False, "Go on although flags changed that change the course of training.")
    overwrite_output_dir: bool = _arg(False, "Remove an earlier run from OUTPUT_DIR and start anew.")
    samples_keep: int = _arg(1_000_000, "How many training completions are kept on disk, newest first (0: all).")

    def __post_init__(self) -> None:
        if isinstance(self.reward, str):  # `reward: mixed` in a YAML file
            self.reward = [self.reward]
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
        for name in ("preemption_grace_s", "save_every_minutes", "stall_after_s"):
            if (seconds := getattr(self, name)) is not None and seconds <= 0:
                raise ConfigError(f"--{name} is {seconds:g}; it must be more than 0")
        if self.dataset_name is not None and self.dataset_path not in (None, f"hub:{self.dataset_name}"):
            raise ConfigError(f"--dataset_name {self.dataset_name} and --dataset_path {self.dataset_path}: give one")
        if self.dataset_name is not None:
            self.dataset_path = f"hub:{self.dataset_name}"
        if self.max_runtime is not None:
            parse_duration(self.max_runtime)
        if self.curriculum_threshold is not None and not 0 <= self.curriculum_threshold < 1:
            raise ConfigError(f"--curriculum_threshold is {self.curriculum_threshold}; it must be from 0 to below 1")

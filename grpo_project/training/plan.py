"""Everything about a run that is decided, and can fail, before a model is loaded or a file is written."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grpo_project.config import Configuration, Flags, RunArguments, embedded_model_path
from grpo_project.curriculum import Curriculum, UniformSource, load_curriculum
from grpo_project.curriculum.settings import curriculum_yaml
from grpo_project.errors import ConfigError
from grpo_project.flags import TRUE
from grpo_project.problems.identity import check_disjoint, dataset_fingerprint
from grpo_project.problems.problem import BUILTIN, BUILTIN_VERILOG, Problem
from grpo_project.problems.rows import parse_columns
from grpo_project.problems.selection import FEWEST_HELD_OUT, LARGEST_PART, hold_out
from grpo_project.problems.sets import BUILTIN_SETS, problems_of
from grpo_project.recipes import steps_of
from grpo_project.record.run_record import RUN_FILE, RunRecord
from grpo_project.record.secrets import redact
from grpo_project.rewards.choice import Choice, choose
from grpo_project.tracking.manager import check_wandb_settings
from grpo_project.tracking.sinks import SINKS, check_installed
from grpo_project.training import checkpoints
from grpo_project.training.continuity import EarlierRun, compared, find_earlier_run
from grpo_project.training.hub import require_on_hub, require_push
from grpo_project.training.ranks import decided_by_main

REPORTERS = (
    *("none", "all", "wandb", "azure_ml", "comet_ml", "neptune", "codecarbon", "clearml", "dagshub", "flyte"),
    *("dvclive", "swanlab", "kubeflow"),
)
"""``--report_to`` names that are not ours to look after: transformers sends to them itself."""
SAMPLES, SAMPLE_BYTES = 64, 1 << 16
WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin", "*.safetensors.index.json")


@dataclass(frozen=True)
class ProblemSet:
    """Problems with their origin and content fingerprint."""

    problems: tuple[Problem, ...]
    source: str
    """A path, or ``builtin``."""
    fingerprint: str
    split: Mapping[str, float] | None = None
    """Of a held-out set that was taken out of the training file: the ``share`` and ``seed`` it was chosen by."""

    def describe(self) -> dict[str, object]:
        described = {"source": self.source, "count": len(self.problems), "fingerprint": self.fingerprint}
        return described if self.split is None else described | {"split": dict(self.split)}


@dataclass(frozen=True)
class RunPlan:
    """What will be trained on what, from where."""

    configuration: Configuration
    output_dir: Path
    model: str
    """Hub id or folder of the base model (never a checkpoint)."""
    train: ProblemSet
    heldout: ProblemSet
    source: Curriculum | UniformSource
    """Draws the training problems."""
    rewards: Choice
    earlier: EarlierRun
    """What an earlier start left behind, and from where it goes on."""
    config: dict[str, Any]
    """The flags as the run records them (building a trainer changes TRL's own objects)."""
    identity: dict[str, Any]
    """What the run is made of by content, to be compared by later starts."""
    notes: tuple[str, ...] = ()
    """What the user should know: flags without effect, changed flags, reasons why a resume can't be bit-exact."""

    @property
    def verifier_secret(self) -> bytes:
        """Seeds what is chance in judging, so that a step that is done again gives the same verdicts.

        It follows from the seed and the problems: the same command is the same run again. Model-written programs know
        neither. A run keeps the one that it was started with.
        """
        if self.earlier.record is not None and (kept := self.earlier.record.content.get("judging_seed")):
            return bytes.fromhex(kept)
        seed = self.configuration.grpo.seed
        return hashlib.sha256(f"verifier\0{seed}\0{self.train.fingerprint}".encode()).digest()

    @property
    def resume_from(self) -> Path | None:
        return self.earlier.checkpoint

    @property
    def resume_step(self) -> int | None:
        return checkpoints.step_of(self.resume_from) if self.resume_from else None


@dataclass(frozen=True)
class Inputs:
    """What a run reads, checked and read before torch is imported."""

    model: str
    train: ProblemSet
    heldout: ProblemSet
    """Before a part of the training file is held out."""


def check_inputs(flags: Flags) -> Inputs:
    """Look at every path that the flags name and read the problems: mistakes are told within a second.

    Raises:
        ConfigError, DataError, CheckpointError, TrackingError: one line for the user.
    """
    run, output_dir = flags.run, Path(flags.output_dir)
    model = find_model(run.model_name)
    require_writable(output_dir)
    asked = flags.values.get("resume_from_checkpoint")
    if asked is not None and str(asked).lower() not in ("latest", "true", "false") and not Path(asked).is_dir():
        checkpoints.require_whole(Path(asked))  # says that it is not there
    if run.curriculum_config:
        load_curriculum(run.curriculum_config)
    choose(run.reward, weak_tests=run.weak_tests, max_completion_length=1)  # its names and arguments
    project = run.wandb_project or flags.values.get("project")
    check_wandb_settings(project, resume=run.wandb_resume, force_new=run.force_new_wandb_run)
    asked = flags.values.get("report_to") or []
    check_installed([name for name in ([asked] if isinstance(asked, str) else asked) if name not in REPORTERS])
    if str(flags.values.get("push_to_hub", False)).lower() in TRUE:
        require_push(flags.values.get("hub_token"))
    return Inputs(
        model,
        load_set(run.dataset_path, "train", run.dataset_base_path, run.dataset_columns),
        load_set(heldout_path(run), "heldout", run.dataset_base_path, run.dataset_columns),
    )


def make_plan(configuration: Configuration, inputs: Inputs | None = None) -> RunPlan:
    """Check and decide. Changes nothing on the disk, but holds an earlier run's lock from here on.

    ``inputs``: what ``check_inputs`` has read already.

    Raises:
        ConfigError, DataError, CheckpointError, TrackingError: one line for the user.
    """
    run = configuration.run
    output_dir = Path(configuration.grpo.output_dir)
    model = find_model(run.model_name, revision=configuration.model.model_revision)
    rewards = chosen_rewards(configuration)
    project, _ = tracking_names(configuration)
    check_wandb_settings(project, resume=run.wandb_resume, force_new=run.force_new_wandb_run)
    check_installed([name for name in configuration.grpo.report_to if name in SINKS])
    require_writable(output_dir)
    if run.overwrite_output_dir:
        require_own_run(output_dir, model, configuration.grpo.resume_from_checkpoint)
        earlier = EarlierRun()
    else:
        earlier = decided_by_main(lambda: find_earlier_run(output_dir, configuration))
    try:
        train, heldout = load_sets(configuration, earlier.record, inputs)
        if configuration.chooses_steps and earlier.record is None:
            configuration.grpo.max_steps = steps_of(len(train.problems), problems_a_step(configuration))
        source = problem_source(configuration, train.problems)
        identity = {
            "train": train.describe(),
            "heldout": heldout.describe(),
            "curriculum": curriculum_fingerprint(configuration),
            "model": weights_fingerprint(model),
        }
        earlier = compared(earlier, configuration, identity)
    except BaseException:
        earlier.release()
        raise
    notes = (*unused_flags(configuration), *foreign_evaluations(configuration, train, heldout), *earlier.notes)
    config = redact(configuration.to_dict())
    return RunPlan(configuration, output_dir, model, train, heldout, source, rewards, earlier, config, identity, notes)


def problems_a_step(configuration: Configuration) -> float:
    """How many problems an optimizer step is of, over all processes."""
    grpo = configuration.grpo
    completions = grpo.per_device_train_batch_size * grpo.world_size * grpo.gradient_accumulation_steps
    return completions / grpo.num_generations / grpo.num_iterations


def load_sets(
    configuration: Configuration, record: RunRecord | None, inputs: Inputs | None = None
) -> tuple[ProblemSet, ProblemSet]:
    """What is trained on and what is held out. Without a file for it, a part of the training file is held out.

    A run that goes on keeps the parts that it was started with, also one of before there were any.

    Raises:
        DataError: problems are faulty, or in both sets.
    """
    run = configuration.run
    if inputs is not None:
        train, heldout = inputs.train, inputs.heldout
    else:
        train = load_set(run.dataset_path, "train", run.dataset_base_path, run.dataset_columns)
        heldout = load_set(heldout_path(run), "heldout", run.dataset_base_path, run.dataset_columns)
    split: Mapping[str, float] | None = None
    if record is not None:
        split = record.content["data"]["heldout"].get("split")
    elif run.dataset_path is not None and heldout_path(run) is None:
        split = {"share": run.eval_split, "seed": configuration.grpo.seed}
    if split and (parts := hold_out(train.problems, split["share"], int(split["seed"]))):
        train, rest = (ProblemSet(part, train.source, dataset_fingerprint(part)) for part in parts)
        if run.eval_dataset_path is None:
            return train, replace(rest, split=split)
    check_disjoint(train.problems, heldout.problems)
    return train, heldout


def heldout_path(run: RunArguments) -> str | None:
    """Where held-out problems are read from; a built-in set brings its own along."""
    return run.eval_dataset_path or (run.dataset_path if run.dataset_path in BUILTIN_SETS else None)


def load_set(path: str | None, split: str, base_path: str | None = None, columns: str | None = None) -> ProblemSet:
    """The problems of a file, or the embedded ones of ``split`` (``train`` or ``heldout``).

    ``builtin:verilog`` and ``builtin:everyday`` as a path name other embedded ones.
    """
    problems = problems_of(path or BUILTIN, split, base_path, parse_columns(columns))
    return ProblemSet(problems, path or BUILTIN, dataset_fingerprint(problems))


def problem_source(configuration: Configuration, problems: Sequence[Problem]) -> Curriculum | UniformSource:
    """The curriculum that the flags describe, or uniform sampling. Raises ``ConfigError``."""
    run, seed = configuration.run, configuration.grpo.seed
    if not run.enable_curriculum:
        return UniformSource(problems, seed=seed, evaluation_interval=run.eval_every_n_steps)
    return Curriculum(
        problems,
        load_curriculum(run.curriculum_config) if run.curriculum_config else None,
        seed=seed,
        threshold=run.curriculum_threshold,
        on_stall=run.on_stall,
        evaluation_interval=run.eval_every_n_steps,
    )


def chosen_rewards(configuration: Configuration) -> Choice:
    """The rewards of the flags; weights that stand with their names become TRL's. Raises ``ConfigError``."""
    run, grpo = configuration.run, configuration.grpo
    choice = choose(run.reward, weak_tests=run.weak_tests, max_completion_length=grpo.max_completion_length)
    if choice.weights is not None:
        if grpo.reward_weights not in (None, list(choice.weights)):
            raise ConfigError("--reward NAME:WEIGHT and --reward_weights are two ways to say it; give one")
        grpo.reward_weights = list(choice.weights)
    if grpo.reward_weights is not None and len(grpo.reward_weights) != len(choice.functions):
        raise ConfigError(
            f"--reward_weights has {len(grpo.reward_weights)} numbers for {len(choice.functions)} rewards "
            f"({', '.join(choice.names)}); give one for each"
        )
    rows = grpo.per_device_train_batch_size * (grpo.steps_per_generation or 1)
    if "weighted" in choice.names and rows % grpo.num_generations:
        raise ConfigError(
            f"--reward weighted looks at whole groups, and {rows} completions on a process "
            f"(per_device_train_batch_size x steps_per_generation) are no multiple of --num_generations "
            f"{grpo.num_generations}"
        )
    return choice


def unused_flags(configuration: Configuration) -> tuple[str, ...]:
    """A note on flags of the curriculum that do nothing, since there is none."""
    run = configuration.run
    given = {name: getattr(run, name) for name in ("curriculum_config", "curriculum_threshold", "on_stall")}
    unused = " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)
    if run.enable_curriculum or not unused:
        return ()
    return (f"without effect, since --enable_curriculum is false: {unused}",)


def foreign_evaluations(configuration: Configuration, train: ProblemSet, heldout: ProblemSet) -> tuple[str, ...]:
    """A note on evaluations that say nothing of the problems that are trained on."""
    if heldout.source != BUILTIN or train.source == BUILTIN or not configuration.run.eval_every_n_steps:
        return ()
    return (
        f"EVALUATIONS ARE ON THE BUILT-IN PROBLEMS and say nothing about yours: {train.source} has "
        f"{len(train.problems)} problems, and none of them is held out (--eval_split takes a part of "
        f"{FEWEST_HELD_OUT * LARGEST_PART} or more). Give --eval_dataset_path. No stage is left because of them",
    )


def find_model(name: str | None, flag: str = "--model_name", revision: str | None = None) -> str:
    """The model to load. A folder must hold weights; what is not a path must be a hub id, in the cache or on the hub.

    Raises:
        ConfigError: it can't be a model; the message names ``flag``.
    """
    if name is None:
        return str(embedded_model_path())
    if name == BUILTIN_VERILOG:
        return str(embedded_model_path("verilog_base"))
    path = Path(name).expanduser()
    if not path.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ConfigError(f"{flag} {name}: there is no such folder")
        require_on_hub(name, flag, revision)
        return name
    if not path.is_dir():
        raise ConfigError(f"{flag} {name} is a file; give the folder that holds it, or a hub id")
    if not (path / "config.json").is_file() and not (path / "adapter_config.json").is_file():
        raise ConfigError(f"{flag} {name}: no config.json there; it is not a Hugging Face model folder")
    if not any(found.stat().st_size for pattern in WEIGHT_FILES for found in path.glob(pattern)):
        raise ConfigError(f"{flag} {name}: no weights there (model.safetensors is missing or empty)")
    return str(path)


def require_writable(output_dir: Path) -> None:
    """Raise ``ConfigError`` if the output folder can't be created or written to."""
    existing = output_dir
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise ConfigError(f"--output_dir {output_dir}: {existing} is a file; name a folder")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ConfigError(
            f"--output_dir {output_dir}: can't write to {existing} ({error.strerror}); name another folder"
        ) from error
    if not os.access(existing, os.X_OK):
        raise ConfigError(f"--output_dir {output_dir}: no permission to enter {existing}; name another folder")


def require_own_run(output_dir: Path, model: str, resume_from: str | None) -> None:
    """Raise ``ConfigError`` unless ``--overwrite_output_dir`` would remove a run of ours and nothing else."""
    if resume_from:
        raise ConfigError("--overwrite_output_dir and --resume_from_checkpoint exclude each other; give one")
    if output_dir.is_dir() and any(output_dir.iterdir()) and not (output_dir / RUN_FILE).is_file():
        raise ConfigError(
            f"--overwrite_output_dir: {output_dir} has no {RUN_FILE}, so what lies there is not a run of ours; "
            "nothing was removed. Name another --output_dir, or empty the folder yourself"
        )
    if Path(model).exists() and Path(model).resolve().is_relative_to(output_dir.resolve()):
        raise ConfigError(
            f"--overwrite_output_dir would remove the model that is to be trained ({model}); copy it elsewhere first"
        )


def curriculum_fingerprint(configuration: Configuration) -> str:
    """The curriculum's settings by content: a file of another name, or with another comment, is the same."""
    run = configuration.run
    settings = curriculum_yaml(load_curriculum(run.curriculum_config)) if run.enable_curriculum else "uniform"
    return hashlib.sha256(settings.encode()).hexdigest()


def weights_fingerprint(model: str) -> str | None:
    """The base model's weights by content, from samples of 64 kB in 64 places of each file; ``None`` for a hub id.

    Training moves every tensor, so samples tell; hashing all of a large model would cost minutes at each start.
    """
    folder = Path(model)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted({path for pattern in WEIGHT_FILES for path in folder.glob(pattern)}):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for place in range(SAMPLES):
                file.seek(place * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def tracking_names(configuration: Configuration) -> tuple[str | None, str | None]:
    """Project and name of the run in W&B and beside it: our flags, else TRL's ``--project`` and ``--run_name``."""
    run, grpo = configuration.run, configuration.grpo
    project = None if grpo.project == "huggingface" else grpo.project  # transformers' default for Trackio
    return run.wandb_project or project, run.wandb_run_name or grpo.run_name

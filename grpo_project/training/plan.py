"""Everything about a run that is decided, and can fail, before a model is loaded or a file is written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from grpo_project.config import Configuration, embedded_model_path
from grpo_project.curriculum import Curriculum, UniformSource, load_curriculum
from grpo_project.errors import CheckpointError, ConfigError, DataError
from grpo_project.problems.formats import load_problems
from grpo_project.problems.identity import check_disjoint, dataset_fingerprint
from grpo_project.problems.problem import BUILTIN, Problem
from grpo_project.problems.quickstart import builtin_problems
from grpo_project.problems.selection import FEWEST_HELD_OUT, LARGEST_PART, hold_out
from grpo_project.record.run_record import RunRecord
from grpo_project.record.secrets import redact
from grpo_project.tracking.manager import check_wandb_settings
from grpo_project.training import checkpoints
from grpo_project.training.continuity import inexact_because, require_same_course

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
    resume_from: Path | None
    rejected: tuple[checkpoints.Rejected, ...]
    record: RunRecord | None
    """The earlier start's record, if this continues a run."""
    notes: tuple[str, ...] = ()
    """What the user should know about going on: changed flags, reasons why it can't be bit-exact."""

    @property
    def already_finished(self) -> bool:
        """The run reached its end and the flags ask for no more steps."""
        if self.record is None or not self.record.finished or self.resume_step is None:
            return False
        grpo, recorded = self.configuration.grpo, self.record.content["config"]["grpo"]
        if grpo.max_steps > 0:
            return self.resume_step >= grpo.max_steps
        return grpo.num_train_epochs <= recorded["num_train_epochs"]

    @property
    def resume_step(self) -> int | None:
        return checkpoints.step_of(self.resume_from) if self.resume_from else None


def make_plan(configuration: Configuration) -> RunPlan:
    """Check and decide. Changes nothing on the disk.

    Raises:
        ConfigError, DataError, CheckpointError, TrackingError: one line for the user.
    """
    run = configuration.run
    output_dir = Path(configuration.grpo.output_dir)
    model = find_model(run.model_name)
    check_wandb_settings(run.wandb_project, resume=run.wandb_resume, force_new=run.force_new_wandb_run)
    require_writable(output_dir)
    notes: tuple[str, ...] = ()
    if run.overwrite_output_dir:
        if configuration.grpo.resume_from_checkpoint:
            raise ConfigError("--overwrite_output_dir and --resume_from_checkpoint exclude each other; give one")
        selection, record = checkpoints.Selection(None), None
    else:
        selection = select_checkpoint(output_dir, configuration.grpo.resume_from_checkpoint)
        record = RunRecord.read(output_dir)
    train, heldout = load_sets(configuration, record)
    source = problem_source(configuration, train.problems)
    if record is not None:
        require_same_data(record, train)
        notes += continuity_notes(record, configuration)
    notes += (*unused_flags(configuration), *foreign_evaluations(configuration, train, heldout))
    return RunPlan(
        configuration,
        output_dir,
        model,
        train,
        heldout,
        source,
        resume_from=selection.path,
        rejected=selection.rejected,
        record=record,
        notes=notes,
    )


def load_sets(configuration: Configuration, record: RunRecord | None) -> tuple[ProblemSet, ProblemSet]:
    """What is trained on and what is held out. Without a file for it, a part of the training file is held out.

    A run that goes on keeps the parts that it was started with, also one of before there were any.

    Raises:
        DataError: problems are faulty, or in both sets.
    """
    run = configuration.run
    train = load_set(run.dataset_path, "train")
    heldout = load_set(run.eval_dataset_path, "heldout")
    split: Mapping[str, float] | None = None
    if record is not None:
        split = record.content["data"]["heldout"].get("split")
    elif run.dataset_path is not None and run.eval_dataset_path is None:
        split = {"share": run.eval_split, "seed": configuration.grpo.seed}
    if split and (parts := hold_out(train.problems, split["share"], int(split["seed"]))):
        train, rest = (ProblemSet(part, train.source, dataset_fingerprint(part)) for part in parts)
        if run.eval_dataset_path is None:
            return train, replace(rest, split=split)
    check_disjoint(train.problems, heldout.problems)
    return train, heldout


def load_set(path: str | None, split: str) -> ProblemSet:
    """The problems of a file, or the embedded ones of ``split`` (``train`` or ``heldout``)."""
    problems = tuple(load_problems(path)) if path else builtin_problems(split)
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


def find_model(name: str | None, flag: str = "--model_name") -> str:
    """The model to load. A folder must hold weights; anything that is not a path is taken for a hub id.

    Raises:
        ConfigError: it can't be a model; the message names ``flag``.
    """
    if name is None:
        return str(embedded_model_path())
    path = Path(name).expanduser()
    if not path.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ConfigError(f"{flag} {name}: there is no such folder")
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


def select_checkpoint(output_dir: Path, asked: str | None) -> checkpoints.Selection:
    """The checkpoint to go on from: the one named, else the newest whole one of ``output_dir``, else none."""
    if asked is None or asked.lower() in ("latest", "true"):
        selection = checkpoints.newest_whole(output_dir)
        if asked is not None and selection.path is None:
            raise CheckpointError(
                f"--resume_from_checkpoint {asked}: no checkpoint in {output_dir}; leave the flag out to start"
            )
        return selection
    if asked.lower() == "false":
        raise ConfigError("--resume_from_checkpoint takes a checkpoint folder or `latest`; leave it out otherwise")
    return checkpoints.Selection(checkpoints.require_whole(Path(asked)))


def continuity_notes(record: RunRecord, configuration: Configuration) -> tuple[str, ...]:
    """Compare with the flags and the machine of the last start. Raises ``ConfigError`` if the course would change."""
    current = redact(configuration.to_dict())  # as it is recorded
    notes = require_same_course(record.content["config"], current, configuration.run.allow_config_change)
    if record.attempts:
        cuda = configuration.grpo.device.type == "cuda"
        reasons = inexact_because(record.attempts[-1], current, configuration.grpo.world_size, cuda)
        if reasons:
            notes.append(f"this resume is not bit-exact: {'; '.join(reasons)}")
    return tuple(notes)


def require_same_data(record: RunRecord, train: ProblemSet) -> None:
    """A run goes on with the problems that it was started with."""
    recorded = record.training_data
    if recorded["fingerprint"] != train.fingerprint:
        raise DataError(
            f"the training problems changed since this run was started: it had {recorded['count']} from "
            f"{recorded['source']}, now there are {len(train.problems)} from {train.source} with other content. "
            "Restore them, or start anew with another --output_dir or --overwrite_output_dir"
        )

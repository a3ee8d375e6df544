"""What a user may choose about the curriculum, and the YAML or JSON file that says it (``docs/curriculum.md``)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from grpo_project.curriculum.gate import Gate
from grpo_project.curriculum.learnable import LearnableSampler
from grpo_project.curriculum.sampler import Sampler, StagedSampler, UniformSampler
from grpo_project.curriculum.stages import DEFAULT_STAGES, MIXED, Stage
from grpo_project.errors import ConfigError
from grpo_project.problems.faults import did_you_mean
from grpo_project.problems.problem import LEVELS, MAX_COMPLEXITY, Problem
from grpo_project.run_arguments import ON_STALL

SAMPLERS: Mapping[str, Any] = {
    "learnable": LearnableSampler,
    "staged": StagedSampler,
    "uniform": UniformSampler,
}


@dataclass(frozen=True, slots=True)
class CurriculumSettings:
    """Everything that a curriculum file can set.

    Raises:
        ConfigError: a value is out of range; names the field, the value and what is allowed.
    """

    stages: tuple[Stage, ...] = DEFAULT_STAGES
    final_mixed: bool = True
    """Append a last stage with all problems."""
    sampler: str = "learnable"
    probe_share: float = 0.3
    """Learnable sampler: share of its draws that are uniform. Only these are evidence for the gate."""
    sorting_share: float = 0.25
    """Share of the draws that go to problems without a level, to sort them (not with the uniform sampler)."""
    alpha: float = 0.05
    """Chance that a stage is left by luck, over the whole run."""
    on_stall: str = "warn"
    patience: int = 6
    """Evaluations without progress after which a stage has stalled."""

    def __post_init__(self) -> None:
        _require(self.sampler in SAMPLERS, "sampler", self.sampler, f"one of {', '.join(SAMPLERS)}")
        _require(self.on_stall in ON_STALL, "on_stall", self.on_stall, f"one of {', '.join(ON_STALL)}")
        _require(0 < self.probe_share <= 1, "probe_share", self.probe_share, "above 0 and at most 1")
        _require(0 <= self.sorting_share < 1, "sorting_share", self.sorting_share, "from 0 to below 1")
        _require(0 < self.alpha < 0.5, "alpha", self.alpha, "between 0 and 0.5")
        _require(self.patience >= 2, "patience", self.patience, "at least 2")
        _require(bool(self.stages), "stages", "an empty list", "at least one stage")
        for i, stage in enumerate(self.stages):
            _check_stage(stage, f"stages[{i}]", is_last=i == len(self.stages) - 1 and not self.final_mixed)
        names = [stage.name for stage in self.all_stages]
        _require(len(set(names)) == len(names), "stages", f"named {', '.join(names)}", "stages with names of their own")

    def overridden(self, threshold: float | None, on_stall: str | None) -> CurriculumSettings:
        """With ``threshold`` in place of that of every stage that has one, and with ``on_stall``; None changes nothing.

        Raises:
            ConfigError: a value is out of range.
        """
        stages = self.stages
        if threshold is not None:
            stages = tuple(s if s.threshold is None else replace(s, threshold=threshold) for s in stages)
        return replace(self, stages=stages, on_stall=self.on_stall if on_stall is None else on_stall)

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        return (*self.stages, MIXED) if self.final_mixed else self.stages

    def build_sampler(self, pools: Sequence[Sequence[int]], problems: Sequence[Problem]) -> Sampler:
        """The sampler over ``pools``: for each stage, the indices of its problems."""
        options = {"probe_share": self.probe_share} if self.sampler == "learnable" else {}
        return SAMPLERS[self.sampler](pools, problems, **options)

    def build_gate(self, expects_evaluations: bool) -> Gate:
        """The gate. Without evaluations to expect, it has to do with rollouts.

        Raises:
            ConfigError: evaluations are asked for and none is to be expected.
        """
        if not expects_evaluations:
            fix = "set --eval_every_n_steps above 0, or"
            for i, stage in enumerate(self.stages):
                if stage.min_evaluations:
                    field = f"stages[{i}].min_evaluations"
                    raise ConfigError(f"curriculum field {field} asks for evaluations; {fix} leave it out")
        needed = 1 if expects_evaluations else 0
        return Gate(len(self.all_stages), self.alpha, default_min_evaluations=needed)


def _check_stage(stage: Stage, where: str, *, is_last: bool) -> None:
    _require(bool(stage.name), f"{where}.name", stage.name, "a name")
    if stage.threshold is None:
        _require(is_last, f"{where}.threshold", None, "set: only a last stage can do without")
    else:
        _require(0 <= stage.threshold < 1, f"{where}.threshold", stage.threshold, "from 0 to below 1")
    for level in stage.levels:
        known = (*LEVELS, "unknown")
        _require(level in known, f"{where}.levels", level, f"a level: {did_you_mean(level, known)}")
    if stage.complexity is not None:
        low, high = stage.complexity
        _require(0 <= low < high <= MAX_COMPLEXITY, f"{where}.complexity", [low, high], "[low, high] within 0 to 10")
    if stage.min_evaluations is not None:
        _require(stage.min_evaluations >= 0, f"{where}.min_evaluations", stage.min_evaluations, "0 or more")
    if stage.max_steps is not None:
        _require(stage.max_steps >= 1, f"{where}.max_steps", stage.max_steps, "at least 1")
    for name, share in (("rehearsal", stage.rehearsal), ("preview", stage.preview)):
        _require(0 <= share < 1, f"{where}.{name}", share, "from 0 to below 1")
    both = stage.rehearsal + stage.preview
    _require(both < 1, f"{where}.rehearsal + {where}.preview", both, "below 1, or nothing is left for the stage itself")


def _require(holds: bool, name: str, value: Any, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"curriculum field {name} is {value!r}; it must be {allowed}")


def load_curriculum(path: str | Path | None) -> CurriculumSettings:
    """Read a curriculum file, YAML or JSON; None gives the defaults.

    Raises:
        ConfigError: the file can't be read, or a field is unknown, of the wrong type or out of range.
    """
    if path is None:
        return CurriculumSettings()
    content = _parse(Path(path))
    try:
        return _read_settings(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _parse(path: Path) -> Any:
    import yaml

    from grpo_project.curriculum.yaml_loader import UniqueKeyLoader

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)  # JSON is YAML
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); check --curriculum_config") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8; save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is neither YAML nor JSON: {' '.join(str(error).split())}") from None


_TYPES = {
    "str": (str, "a text"),
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "tuple[str, ...]": (tuple, "a list of texts"),
    "tuple[float, float]": (tuple, "a list of two numbers"),
}


def _read_settings(content: Any) -> CurriculumSettings:
    values = _read_fields(content, CurriculumSettings, "")
    return CurriculumSettings(**values)


def _read_fields(content: Any, cls: Any, where: str) -> dict[str, Any]:
    """The fields of a dataclass from a mapping, each checked against its annotation."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where.rstrip('.') or 'the file'} is {content!r}; it must be a mapping of fields to values")
    content = _without_removed(content)
    types = {f.name: f.type for f in fields(cls)}
    values = {}
    for name, value in content.items():
        if name not in types:
            raise ConfigError(f"curriculum field {where}{name} is unknown; {did_you_mean(str(name), types)}")
        values[name] = _read_value(value, str(types[name]), f"{where}{name}")
    return values


REMOVED = {
    "gate": ("confident", "there is one gate now, which goes by confidence bounds"),
    "step_back": (False, "training does not go back to an earlier stage any more"),
    "hysteresis": (None, ""),
    "window": (None, ""),
}
"""Fields that files of version 0.1.0 have: the value that says what holds now (None: any), and why no other does."""


def _without_removed(content: dict[str, Any]) -> dict[str, Any]:
    """Without ``REMOVED`` fields, where what they ask for is what is done."""
    for name in REMOVED.keys() & content.keys():
        holds, reason = REMOVED[name]
        if holds is not None and content[name] != holds:
            raise ConfigError(f"curriculum field {name} is {content[name]!r}; {reason}: leave the field out")
    return {name: value for name, value in content.items() if name not in REMOVED}


def _read_value(value: Any, annotation: str, where: str) -> Any:
    if annotation == "tuple[Stage, ...]":
        _require(isinstance(value, list), where, value, "a list of stages")
        return tuple(_read_stage(item, f"{where}[{i}].") for i, item in enumerate(value))
    if annotation.endswith(" | None"):
        if value is None:
            return None
        annotation = annotation.removesuffix(" | None")
    expected, described = _TYPES[annotation]
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if expected is tuple and isinstance(value, list):
        value = tuple(_read_value(item, annotation[6:].split(",")[0], where) for item in value)
        _require(annotation != "tuple[float, float]" or len(value) == 2, where, list(value), described)
    is_right = isinstance(value, expected) and (expected is bool or not isinstance(value, bool))
    _require(is_right and not (expected is float and not math.isfinite(value)), where, value, described)
    return value


def _read_stage(content: Any, where: str) -> Stage:
    values = _read_fields(content, Stage, where)
    _require("name" in values, f"{where}name", None, "given")
    return Stage(**values)


def default_curriculum_yaml() -> str:
    """The defaults as a file that ``load_curriculum`` reads back to the same settings."""
    return curriculum_yaml(CurriculumSettings())


def curriculum_yaml(settings: CurriculumSettings) -> str:
    """Settings as YAML; fields of a stage that are at their default are left out."""
    lines = ["# Curriculum of grpo train. What each field means: docs/curriculum.md"]
    for item in fields(CurriculumSettings):
        if item.name != "stages":
            lines.append(f"{item.name}: {_scalar(getattr(settings, item.name))}")
    lines.append("stages:")
    for stage in settings.stages:
        shown = {f.name: getattr(stage, f.name) for f in fields(Stage)}
        lines.append(f"  - name: {_scalar(shown.pop('name'))}")
        lines += [f"    {name}: {_scalar(value)}" for name, value in shown.items() if value not in (None, ())]
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    """A value in YAML's flow style, which JSON is a part of; plain words stand without quotes."""
    if (
        isinstance(value, str)
        and value.isidentifier()
        and value not in ("true", "false", "null", "yes", "no", "on", "off")
    ):
        return value
    return json.dumps(value)

"""Several runs beside each other: which flags differ, who is better on the same problems, who got there sooner."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pyarrow.compute as pc

from grpo_project.errors import ConfigError
from grpo_project.evaluation.estimators import paired_change, paired_p_value
from grpo_project.record.evaluations import read_evaluations
from grpo_project.record.samples import read_samples
from grpo_project.reports import curves
from grpo_project.reports.run_reader import MAIN, RunReader

NAMES = frozenset({"output_dir", "run_name", "logging_dir", "hub_model_id", "wandb_project", "wandb_run_name"})
"""Flags that only name a run."""
SEEDS = frozenset({"seed", "data_seed"})
TARGETS = (0.25, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)


def compare(readers: Sequence[RunReader], *, average: bool = False) -> dict[str, Any]:
    """Everything that a page says about several runs together.

    Args:
        average: also the mean over runs that differ in nothing but the seed.

    Raises:
        ConfigError: ``average``, and no two of the runs differ in the seed alone.
    """
    return {
        "flags": differing_flags(readers),
        "paired": [paired(readers[0], other) for other in readers[1:]],
        "targets": targets(readers),
        "averages": averages(readers) if average else [],
    }


def flat_config(reader: RunReader) -> dict[str, Any]:
    """``{"grpo.learning_rate": 0.001, ...}`` without names of the run."""
    return {
        f"{part}.{flag}": value
        for part, flags in reader.config.items()
        for flag, value in flags.items()
        if flag not in NAMES
    }


def differing_flags(readers: Sequence[RunReader]) -> list[dict[str, Any]]:
    configs = [flat_config(reader) for reader in readers]
    flags = dict.fromkeys(flag for config in configs for flag in config)
    rows = [{"flag": flag, "values": [config.get(flag) for config in configs]} for flag in flags]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]


def paired(first: RunReader, second: RunReader) -> dict[str, Any]:
    """The change from one run's last evaluation to another's, over the problems that both were evaluated on."""
    before, after = last_rates(first), last_rates(second)
    common = sorted(before.keys() & after.keys())
    row: dict[str, Any] = {"first": first.name, "second": second.name, "problems": len(common)}
    if len(common) < 2:
        return row
    old, new = [before[problem] for problem in common], [after[problem] for problem in common]
    change = paired_change(old, new)
    means = {"first_mean": fmean(old), "second_mean": fmean(new), "p": paired_p_value(old, new)}
    return row | means | {"change": change.mean, "low": change.low, "high": change.high}


def last_rates(reader: RunReader) -> dict[str, float]:
    """Pass rate by problem at the last evaluation that counts."""
    if not reader.evaluations:
        return {}
    last = pc.field("step") == reader.evaluations[-1]["step"]
    table = read_evaluations(reader.folder, where=last, columns=("problem_id", "passed", "total"))
    rates: dict[str, list[float]] = {}
    for row in table.to_pylist():
        rates.setdefault(row["problem_id"], []).append(row["passed"] / row["total"])
    return {problem: fmean(values) for problem, values in rates.items()}


def targets(readers: Sequence[RunReader]) -> list[dict[str, Any]]:
    """For each pass rate that some run begins below and reaches: the steps, seconds and completions that each took."""
    costs = [Costs(reader) for reader in readers]
    rows = []
    for target in TARGETS:
        crossed = [crossing(reader.evaluations, target) for reader in readers]
        if any(step for step in crossed):
            found = [None if step is None else cost.until(step) for step, cost in zip(crossed, costs, strict=True)]
            rows.append({"target": target, "runs": found})
    return rows


def crossing(evaluations: Sequence[Mapping[str, Any]], target: float) -> float | None:
    """The step at which the curve first meets ``target``, by a straight line between two evaluations."""
    for before, after in itertools.pairwise([*evaluations[:1], *evaluations]):
        if after[MAIN] >= target:
            rise = after[MAIN] - before[MAIN]
            share = 1.0 if rise <= 0 else (target - before[MAIN]) / rise
            return before["step"] + max(0.0, share) * (after["step"] - before["step"])
    return None


class Costs:
    """What a run had spent by a step: seconds in steps (``step_time``; no evaluations, no saves), completions."""

    def __init__(self, reader: RunReader) -> None:
        self.seconds = curves.finite(reader.training, "step_time")
        steps = read_samples(reader.folder, columns=("problem_id",))["step"].to_pylist()
        self.completions = sorted(Counter(steps).items())

    def until(self, step: float) -> dict[str, float | None]:
        def total(points: Sequence[tuple[float, float]]) -> float | None:
            return sum(value for at, value in points if at <= step) if points else None

        return {"step": round(step, 1), "seconds": total(self.seconds), "completions": total(self.completions)}


def averages(readers: Sequence[RunReader]) -> list[dict[str, Any]]:
    """For runs of one configuration with several seeds: the mean pass rate and its range at the steps that all have."""
    groups: dict[str, list[RunReader]] = {}
    for reader in readers:
        settings = {flag: v for flag, v in flat_config(reader).items() if flag.rsplit(".", 1)[1] not in SEEDS}
        groups.setdefault(repr(sorted(settings.items())), []).append(reader)
    found = [average(runs) for runs in groups.values() if len(runs) > 1]
    if not found:
        raise ConfigError("--average: no two of these runs differ in nothing but the seed")
    return found


def average(readers: Sequence[RunReader]) -> dict[str, Any]:
    held_out = [curves.held_out(reader) for reader in readers]
    whole = [found for found in held_out if found is not None]
    levels = dict.fromkeys(level for found in whole for level in found["levels"])
    return {
        "runs": [reader.name for reader in readers],
        **mean_curve([found["rate"] for found in whole]),
        "levels": {
            level: mean_curve([found["levels"].get(level, [[], []]) for found in whole])["mean"] for level in levels
        },
    }


def mean_curve(found: Sequence[list[list[float]]]) -> dict[str, list[list[float]]]:
    """``mean``, ``low`` and ``high`` of curves at the steps that all of them have."""
    maps = [dict(zip(*curve, strict=True)) for curve in found]
    steps = sorted(set.intersection(*map(set, maps))) if maps else []
    at = {step: [values[step] for values in maps] for step in steps}
    columns = {
        "mean": [fmean(values) for values in at.values()],
        "low": [min(values) for values in at.values()],
        "high": [max(values) for values in at.values()],
    }
    return {name: [steps, curves.rounded(column)] for name, column in columns.items()}

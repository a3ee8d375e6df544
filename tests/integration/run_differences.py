"""Where two finished runs differ: in anything that two runs of the same command should have alike."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from grpo_project.record.evaluations import read_evaluations
from grpo_project.record.run_directory import Run, valid_until
from grpo_project.record.samples import read_samples
from grpo_project.training.checkpoints import damage, list_checkpoints

VOLATILE = ("seconds", "time", "step_time", "_per_second", "runtime", "attempt")
"""Names of what a clock measured, or how they end."""
OF_THE_MACHINE = ("memory/", "time/")
JUDGED = ["step", "problem_id", "completion", "status", "passed", "total"]
DECISIONS = ("stage_decision", "alarm")
WEIGHTS = ("model.safetensors", "adapter_model.safetensors")
ROUNDING, SUMS = 1e-4, 0.02
"""How far weights, and metrics in relation, may be apart where sums were made in another order."""
OF_THE_RANKS = ("trained/entropy",)
"""Which rows are computed depends on the number of ranks: each computes as many (docs/metrics.md)."""
COUNTERS = ("global_step", "epoch", "max_steps", "best_metric", "best_global_step", "num_input_tokens_seen")


def differences(expected: Path, found: Path, *, up_to_rounding: bool = False) -> list[str]:
    """What differs, in words: the model, the canonical rows, decisions, samples, evaluations, the last checkpoint.

    ``up_to_rounding``: for runs whose sums were made in another order; the last checkpoint is not looked into.
    """
    result = [f"model: {what}" for what in weights(expected, found, up_to_rounding)]
    result += [f"rows: {what}" for what in rows(expected, found, up_to_rounding)]
    result += [f"decisions: {what}" for what in decisions(expected) ^ decisions(found)]
    for name, read, more in (("samples", read_samples, ["reward", "advantage"]), ("evaluations", read_evaluations, [])):
        tables = [read(folder).select([*JUDGED, *more]).to_pylist() for folder in (expected, found)]
        if repr(tables[0]) != repr(tables[1]):  # NaN is NaN
            result.append(f"{name} ({len(tables[0])} against {len(tables[1])})")
    if not up_to_rounding:
        result += [f"last checkpoint: {what}" for what in last_checkpoint(expected, found)]
    return result


def weights(expected: Path, found: Path, up_to_rounding: bool = False) -> list[str]:
    """The tensors that differ. A run that a stall ended has no final model: its last checkpoint's is compared alone."""
    files = [file for file in WEIGHTS if (expected / file).exists() or (found / file).exists()]
    different = []
    for file in files:
        if not ((expected / file).exists() and (found / file).exists()):
            return [f"{file} is there once"]
        ours, others = load_file(expected / file), load_file(found / file)
        for key in {**ours, **others}:
            near = up_to_rounding and torch.allclose(ours[key], others[key], rtol=0, atol=ROUNDING)
            if not near and not torch.equal(ours[key].view(torch.uint8), others[key].view(torch.uint8)):
                different.append(key)
    return different


def alike(one: Any, other: Any, up_to_rounding: bool) -> bool:
    if up_to_rounding and isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=SUMS, abs_tol=ROUNDING)
    return repr(one) == repr(other)  # NaN is NaN


def rows(expected: Path, found: Path, up_to_rounding: bool = False) -> Iterator[str]:
    ours, others = (
        [
            {k: v for k, v in row.items() if not k.endswith(VOLATILE) and not k.startswith(OF_THE_MACHINE)}
            for row in Run.open(folder).metrics()
            if row["kind"] in ("train", "eval")
        ]
        for folder in (expected, found)
    )
    if len(ours) != len(others):
        yield f"{len(ours)} against {len(others)}"
    for row, other in zip(ours, others, strict=False):
        for key in {**row, **other}:
            if up_to_rounding and key in OF_THE_RANKS:
                continue
            if not alike(row.get(key), other.get(key), up_to_rounding):
                yield f"step {row['step']} {row['kind']} {key}: {row.get(key)!r} against {other.get(key)!r}"


def decisions(folder: Path) -> set[str]:
    """Stage decisions and alarms that count: not those of a future that a later attempt replaced."""
    run = Run.open(folder)
    limits = valid_until({attempt.number: attempt for attempt in run.attempts})
    return {
        json.dumps({key: value for key, value in event.items() if key not in VOLATILE}, sort_keys=True)
        for event in run.events()
        if event["event"] in DECISIONS and event["step"] <= limits.get(event["attempt"], event["step"])
    }


def last_checkpoint(expected: Path, found: Path) -> Iterator[str]:
    """Optimizer, scheduler, random states and our own parts: what the next step would be computed from."""
    ours, other = (list_checkpoints(folder)[-1] for folder in (expected, found))
    if ours.name != other.name:
        yield f"{ours.name} against {other.name}"
        return
    for checkpoint in (ours, other):
        if reason := damage(checkpoint):
            yield reason
    yield from (f"{ours.name}: {what}" for what in weights(ours, other))
    states_of_ranks = {path.name for kind in ("rng_state*.pth", "grpo_state_*.pt") for path in ours.glob(kind)}
    for file in ("optimizer.pt", "scheduler.pt", *sorted(states_of_ranks)):
        # Written by these very runs; random states hold NumPy arrays, which the safe loader refuses.
        states = [torch.load(folder / file, weights_only=False, map_location="cpu") for folder in (ours, other)]
        if file.startswith("grpo_state"):
            states = [{k: v for k, v in state.items() if k not in ("metrics", "logs")} for state in states]
        yield from (f"{file} {where}" for where in unlike(*states))
    counters = [json.loads((folder / "trainer_state.json").read_text()) for folder in (ours, other)]
    for name in COUNTERS:
        if repr(counters[0].get(name)) != repr(counters[1].get(name)):
            yield f"trainer_state.json {name}: {counters[0].get(name)} against {counters[1].get(name)}"


def unlike(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """The places in two nested states whose values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            if not str(key).endswith(VOLATILE):
                yield from unlike(one.get(key), other.get(key), f"{where}/{key}")
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for i, pair in enumerate(zip(one, other, strict=True)):
            yield from unlike(*pair, f"{where}/{i}")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape or one.numpy().tobytes() != other.numpy().tobytes():
            yield where
    elif repr(one) != repr(other):
        yield f"{where}: {one!r:.60} against {other!r:.60}"

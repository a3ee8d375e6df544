"""A row of the journal as the W&B client takes it: what the client would refuse, drop or choke on is set aside here.

Each rule was found against wandb 0.31.0 and is held by tests with the real client:

- a key or text with a lone surrogate has no UTF-8 form, and protobuf raises for the whole row;
- a table under a key whose artifact name would pass 128 characters raises (wandb/sdk/artifacts,
  ``validate_artifact_name``);
- an empty key is dropped without a word;
- a row above 10,383,360 bytes is skipped by wandb-core with a warning on its standard error, and the server's last step
  passes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from grpo_project.record.json_line import encode
from grpo_project.tracking.segments import STEP_METRIC, Row

MAX_ROW_BYTES = 10_000_000
MAX_ARTIFACT_NAME = 128
# What the client raises for a row that it can't take. Not OSError and wandb's own errors: those say that wandb-core or
# the connection is gone, and every row is to be sent again.
REFUSALS = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError, RecursionError)


@dataclass(slots=True)
class ClientRow:
    """``values`` for ``run.log``; ``set_aside``: why, by name of the value, something is not among them."""

    values: dict[str, Any] = field(default_factory=dict)
    set_aside: dict[str, str] = field(default_factory=dict)


def to_client(wandb: Any, row: Row, run_id: str) -> ClientRow:
    """Convert a row. ``wandb`` is the module (only the delivery process imports it)."""
    made = ClientRow()
    values = {client_name(key): value for key, value in row.values.items()}
    for key in oversized(values):
        size = len(encode({key: values[key]}))
        made.set_aside[key] = f"{size:,} bytes are more than a W&B row holds"
        values[key] = f"[{size:,} bytes, kept in the journal]"
    for key, value in values.items():
        made.values[key] = to_wandb(wandb, key, value, run_id)
    # The time of measuring, not of the upload, which may be days later; wandb-core keeps one that is there.
    made.values |= {STEP_METRIC: row.step, "_timestamp": row.time}
    return made


def log_row(wandb: Any, run: Any, row: Row) -> tuple[bool, str | None]:
    """Give a row to the client. Returns whether it took any of it, and what was set aside and why (None: nothing)."""
    made = to_client(wandb, row, run.id)
    try:
        # `commit`: without it wandb-core keeps the row until the next step begins.
        run.log(made.values, step=row.step, commit=True)
    except REFUSALS as error:
        reason = f"the W&B client refused the row: {type(error).__name__}: {error!s:.200}"
        scalars = {key: value for key, value in made.values.items() if type(value) in (float, int, bool)}
        try:
            run.log(scalars, step=row.step, commit=True)
        except REFUSALS:
            return False, reason
        return True, f"{reason}; its {len(scalars) - 2} plain numbers are there"
    reasons = "; ".join(f"{key:.80}: {reason}" for key, reason in made.set_aside.items())
    return True, reasons or None


def oversized(values: dict[str, Any]) -> list[str]:
    """The names of the largest values, so many that the others fit a row."""
    sizes = {key: len(encode({key: value})) for key, value in values.items() if not isinstance(value, float | bool)}
    total, names = sum(sizes.values()) + 40 * (len(values) - len(sizes)), []
    for key in sorted(sizes, key=lambda key: sizes[key], reverse=True):
        if total <= MAX_ROW_BYTES:
            break
        if not is_table(values[key]):  # a table is a file beside the row
            names.append(key)
        total -= sizes[key]
    return names


def client_name(key: str) -> str:
    """What a metric is called in W&B."""
    return printable(key) or "(no name)"


def printable(text: str) -> str:
    """``text`` with lone surrogates as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_table(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_type") == "table"


def to_wandb(wandb: Any, key: str, value: Any, run_id: str) -> Any:
    """A journal value as the client wants it: its own objects for tables and histograms."""
    try:
        if is_table(value) and len(f"run-{run_id}-{key}") <= MAX_ARTIFACT_NAME:
            return wandb.Table(columns=value["columns"], data=value["rows"], allow_mixed_types=True)
        if isinstance(value, dict) and value.get("_type") == "histogram":
            return wandb.Histogram(np_histogram=(value["counts"], value["edges"]))
    except (TypeError, ValueError, KeyError, AssertionError):
        return json.dumps(value)  # more bins or columns than the client takes: the numbers still arrive
    if isinstance(value, str):
        return printable(value)
    return json.dumps(value) if is_table(value) else value

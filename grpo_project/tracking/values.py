"""What a script passes to ``safe_wandb_log``, made fit for the journal. Scripts pass anything; nothing here raises."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from grpo_project.record.json_line import plain
from grpo_project.record.secrets import redact

MAX_DEPTH = 64
"""Of nested values: deeper ones are a mistake, and JSON readers give up somewhere beyond a few hundred."""
MAX_STEP = 2**63 - 1
MAX_DIGITS = 4000
"""Of a whole number: Python itself refuses to write longer ones as text (sys.set_int_max_str_digits)."""
TEXT_LENGTH = 1000


@dataclass(slots=True)
class Checked:
    """``values`` can be recorded. ``unusable``: why others can't, by name; ``texts``: what is kept of those."""

    values: dict[str, Any] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def check(data: Mapping[Any, Any]) -> Checked:
    """Sort the values of a row."""
    checked = Checked()
    try:
        items = list(data.items())
    except Exception as error:  # noqa: BLE001 - a foreign mapping's own code may raise anything
        checked.unusable["data"], checked.texts["data"] = f"its items can't be read: {as_text(error)}", as_text(data)
        return checked
    for key, value in items:
        name = free_name(key if isinstance(key, str) else as_text(key), checked)
        if type(value) in (float, str, bool) or (type(value) is int and -MAX_STEP <= value <= MAX_STEP):
            checked.values[name] = value
            continue
        try:
            checked.values[name] = shallow(plain(value))
        except Exception as error:  # noqa: BLE001 - a foreign object's own code may raise anything
            checked.unusable[name], checked.texts[name] = f"{name!r}: {as_text(error, str)}", as_text(value)
    return checked


def shallow(value: Any, depth: int = 0) -> Any:
    """``value`` (of JSON's types) if it can be written and read back anywhere.

    Raises:
        ValueError: it is nested too deeply, or holds a number of too many digits.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"a value nested deeper than {MAX_DEPTH} can't be recorded")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            shallow(item, depth + 1)
    elif isinstance(value, int) and value.bit_length() > 3 * MAX_DIGITS:
        raise ValueError(f"a whole number of more than {MAX_DIGITS} digits can't be recorded")
    return value


def free_name(name: str, checked: Checked) -> str:
    """``name``, or another one where two keys are the same text (1 and "1")."""
    while name in checked.values or name in checked.unusable:
        name += "'"
    return name


def as_text(value: Any, show: Any = repr) -> str:
    """A short text for any object."""
    try:
        text = show(value)
        return text if len(text) <= TEXT_LENGTH else text[:TEXT_LENGTH] + "..."
    except Exception:  # noqa: BLE001 - a foreign object's own code may raise anything
        return f"<{type(value).__name__}, whose text can't be made>"


def whole_step(step: Any) -> int | None:
    """``step`` as a whole number from 0 on (numpy and torch scalars too), or None."""
    if isinstance(step, str | bytes):
        return None
    try:
        whole = operator.index(step)
    except Exception:  # noqa: BLE001 - a tensor of several values raises what its library likes
        try:
            number = float(step)
        except Exception:  # noqa: BLE001 - the same
            return None
        if not math.isfinite(number) or number != int(number):
            return None
        whole = int(number)
    return whole if 0 <= whole <= MAX_STEP else None


def json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` in JSON's types, the rest as text, and without secrets."""
    checked = check(values)
    return redact(checked.values | checked.texts)

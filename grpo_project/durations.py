"""Durations as people write them."""

from __future__ import annotations

import re

from grpo_project.errors import ConfigError

_UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def parse_duration(text: str) -> float:
    """Seconds in ``3h50m``, ``90s``, ``1d2h`` or a plain number of seconds. Raises ``ConfigError``."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+[dhms])+", text):
        raise ConfigError(f"{text!r} is not a duration; write it like 3h50m, 90s or 1d2h")
    return float(sum(int(count) * _UNITS_S[unit] for count, unit in re.findall(r"(\d+)([dhms])", text)))


def show_duration(seconds: float) -> str:
    """``8 s``, ``12 min``, ``3 h 50 min``, ``2 d 4 h``: two units at most."""
    whole = max(0, round(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"

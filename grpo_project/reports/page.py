"""The page: one HTML file with its style, its script, the chart library and the data inside. It never calls out.

What a model wrote is shown on it. Three things keep it text: the data stands in a script element that is not run and
holds no ``<``; the script makes text nodes and never HTML; and the page's policy lets only the scripts run whose hashes
it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

from grpo_project import __version__

SCRIPTS = ("echarts.js", "elements.js", "charts.js", "completions.js", "comparison.js", "page.js")
SELF, NONE = "'self'", "'none'"
ASSETS = resources.files("grpo_project") / "assets" / "report"


def page_html(title: str, data: Mapping[str, Any], *, refresh_s: float | None = None) -> str:
    """The whole page.

    Args:
        data: ``{"runs": [...], "comparison": ... or None}``; see ``page_data`` and ``comparison``.
        refresh_s: how often the page asks the server that it came from (``live``) for newer data; ``None``: it may
            call nobody.
    """
    scripts = [asset(name) for name in SCRIPTS]
    hashes = " ".join(f"'sha256-{digest(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src {SELF if refresh_s else NONE}; base-uri 'none'; form-action 'none'"
    )
    filled = {
        "policy": escape(policy),
        "title": escape(title),
        "style": asset("page.css"),
        "data": as_json(stamped(data, refresh_s)),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: filled[place[1]], asset("page.html"))


def stamped(data: Mapping[str, Any], refresh_s: float | None) -> dict[str, Any]:
    """The data with what the page says about itself."""
    return {**data, "made": time.time(), "version": __version__, "refresh_s": refresh_s}


def as_json(data: Any) -> str:
    """JSON that may stand inside a script element: no ``<``, no NaN."""
    text = json.dumps(without_nan(data), separators=(",", ":"), allow_nan=False, default=str)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def without_nan(value: Any) -> Any:
    """NaN and infinities, which JSON has no word for, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

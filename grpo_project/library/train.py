"""``grpo_project.train``: what ``grpo train`` does, as a call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from grpo_project.errors import ConfigError
from grpo_project.library.run import Run


def train(config: Mapping[str, Any]) -> Run:
    """Train, or go on with the run in ``output_dir``, exactly as the command with these flags would.

    It prints what the command prints, and handles the same signals, so it belongs into the main thread. A run that was
    stopped early on purpose returns too: ``Run.status`` says "interrupted", and the same call goes on.

    Args:
        config: flags by name without dashes, as in a ``--config`` file: ``{"max_steps": 50, "reward": ["pass_rate"]}``.

    Raises:
        UserError: something that the caller can fix; no model was loaded and nothing was written.
        InfrastructureError: our own machinery failed.
    """
    from grpo_project.commands.train import main
    from grpo_project.run_arguments import DEFAULTS

    main(command_line(config))
    return Run(str(config.get("output_dir") or DEFAULTS["output_dir"]))


def command_line(config: Mapping[str, Any]) -> list[str]:
    """The flags as one would type them. Raises ``ConfigError`` for a name that can't be one."""
    words: list[str] = []
    for name, value in config.items():
        if not name.isidentifier():
            raise ConfigError(f"train: {name!r} is no flag; names are without dashes, as in output_dir")
        if value is None:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name}", *(_word(item) for item in values)]
    return words


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, Mapping) else str(value)

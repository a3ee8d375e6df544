"""Go on with a run: ``grpo resume DIR`` is ``grpo train`` with the flags that the run was started with.

DIR is the run's folder, or one of its checkpoints to go back to. Flags given here come before the run's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grpo_project.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Raises ``ConfigError`` if there is no run in the folder, and what ``grpo train`` raises."""
    from grpo_project.commands import train
    from grpo_project.training.left_out import in_its_folder

    if {"-h", "--help"} & set(argv):
        print(f"usage: grpo resume DIR [flags of grpo train]\n\n{__doc__}")
        return 0
    if not argv or argv[0].startswith("-"):
        raise ConfigError("name the folder of the run: `grpo resume runs/mine`")
    return train.main(in_its_folder(argv[1:], Path(argv[0])))

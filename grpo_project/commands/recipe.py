"""Print a complete set of flags to start from: `grpo recipe own_model > mine.yaml`.

`grpo train --config mine.yaml` runs it.
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

from grpo_project.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="which one; without it they are listed")


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` if there is no such recipe."""
    folder = Path(str(resources.files("grpo_project").joinpath("assets/recipes")))
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".sbatch", ".sh"))
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    if args.name is None:
        for name, entry in known.items():
            first = next((line for line in entry.read_text(encoding="utf-8").splitlines() if line[:2] == "# "), "")
            print(f"{name:<22}{first.removeprefix('# ')}")
        return 0
    name = args.name.removesuffix(".yaml").removesuffix(".sbatch")
    if name not in known:
        raise ConfigError(f"there is no recipe {args.name}; there are {', '.join(known)}")
    print(known[name].read_text(encoding="utf-8"), end="")
    return 0

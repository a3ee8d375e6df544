"""What may import what, and what stays light. Each check runs in a fresh interpreter."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import grpo_project

HEAVY = {"torch", "transformers", "trl", "accelerate", "datasets", "wandb"}
LIGHT_PACKAGES = ("problems", "verifier", "curriculum", "record", "reports")
ROOT = Path(grpo_project.__path__[0])


def modules_loaded_by(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_light_packages_import_neither_torch_nor_wandb(package: str) -> None:
    prefix = f"grpo_project.{package}"
    names = [prefix, *(module.name for module in pkgutil.walk_packages([str(ROOT / package)], f"{prefix}."))]
    runnable = [name for name in names if not name.endswith("__main__")]
    loaded = modules_loaded_by("\n".join(f"import {name}" for name in runnable))
    assert loaded & HEAVY == set()
    assert prefix in loaded


def test_the_command_line_and_its_flags_are_light() -> None:
    loaded = modules_loaded_by("import grpo_project.cli, grpo_project.config, grpo_project.errors")
    assert loaded & (HEAVY | {"numpy", "pyarrow", "rich"}) == set()


def test_the_frozen_imports_are_light_enough_for_a_foreign_script() -> None:
    """A script that only logs must not pay for torch, nor ever import wandb itself."""
    loaded = modules_loaded_by("import grpo_project.tracking.manager")
    assert loaded & HEAVY == set()


ROOMS = (
    ("errors", "locale"),
    ("durations", "flags", "recipes"),
    ("run_arguments",),
    ("problems", "config"),
    ("verifier",),
    ("rewards",),
    ("serving",),
    ("curriculum", "generation", "record"),
    ("tracking",),
    ("evaluation",),
    ("training", "reports"),
    ("core", "callbacks", "commands"),
    ("library",),
    ("adapters",),
    ("cli",),
)
"""One floor each, from the ground up. A room imports from floors below its own and from itself, nothing else."""

FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}

IN_THE_VERIFIER = {"cage": 0, "python": 1, "verilog": 1, "engine": 2}
"""The verifier's own rooms; the files beside them put them together."""


def imported_names(path: Path) -> Iterator[tuple[str, ...]]:
    """The parts of each name of our own that a file imports, wherever in it, after ``grpo_project``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "grpo_project":
            for alias in node.names:
                yield (*node.module.split(".")[1:], alias.name)
        elif isinstance(node, ast.Import):
            yield from (tuple(n.name.split(".")[1:]) for n in node.names if n.name.split(".")[0] == "grpo_project")


def test_every_room_has_a_floor() -> None:
    found = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert found - {"__init__", "__pycache__", "assets"} == FLOORS.keys()


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    room, *inner = (part.removesuffix(".py") for part in path.relative_to(ROOT).parts)
    if room == "__init__":
        return
    for name in imported_names(path):
        if name[0] not in FLOORS:
            assert name == ("__version__",)
        elif name[0] != room:
            assert FLOORS[name[0]] < FLOORS[room], f"{path.relative_to(ROOT)} imports {'.'.join(name)}"
        elif room == "verifier" and inner[0] in IN_THE_VERIFIER and name[1] in IN_THE_VERIFIER:
            below = IN_THE_VERIFIER[name[1]] < IN_THE_VERIFIER[inner[0]]
            assert below or name[1] == inner[0], f"{inner} imports {'.'.join(name)}"


def test_no_two_modules_import_each_other() -> None:
    """No circle, however long, also within a room; imports for type checking count."""
    graph: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {module_of(found) for found in imported_names(path)} - {name}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def module_of(name: tuple[str, ...]) -> str:
    """The module that an imported name lives in: ``verifier.verdict`` for ``("verifier", "verdict", "Job")``."""
    is_module = ROOT.joinpath(*name).with_suffix(".py").is_file() or ROOT.joinpath(*name, "__init__.py").is_file()
    return ".".join(name if is_module else name[:-1])

"""What may import what, and what stays light. Each check runs in a fresh interpreter."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import grpo_project

HEAVY = {"torch", "transformers", "trl", "accelerate", "datasets", "wandb"}
LIGHT_PACKAGES = ("problems", "verifier", "curriculum", "reports")
ROOT = Path(grpo_project.__path__[0])


def modules_loaded_by(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_light_packages_import_neither_torch_nor_wandb(package: str) -> None:
    prefix = f"grpo_project.{package}"
    names = [prefix, *(f"{prefix}.{module.name}" for module in pkgutil.iter_modules([str(ROOT / package)]))]
    runnable = [name for name in names if not name.endswith("__main__")]
    loaded = modules_loaded_by("\n".join(f"import {name}" for name in runnable))
    assert loaded & HEAVY == set()
    assert prefix in loaded


def test_the_command_line_and_its_flags_are_light() -> None:
    loaded = modules_loaded_by("import grpo_project.cli, grpo_project.config, grpo_project.errors")
    assert loaded & (HEAVY | {"numpy", "pyarrow", "rich"}) == set()


def test_the_frozen_imports_are_light_enough_for_a_foreign_script() -> None:
    """A script that only logs must not pay for torch, nor ever import wandb itself."""
    loaded = modules_loaded_by("import grpo_project.core.wandb_sync_manager")
    assert loaded & HEAVY == set()


LAYERS = {
    "errors": 0,
    "durations": 0,
    "problems": 1,
    "verifier": 1,
    "rewards": 1,
    "curriculum": 1,
    "config": 1,
    "core": 2,
    "callbacks": 2,
    "evaluation": 2,
    "reports": 2,
    "commands": 3,
    "cli": 4,
}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    """errors <- problems, verifier, curriculum <- core, callbacks, evaluation, reports <- commands <- cli."""
    import ast

    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("grpo_project."):
            imported = node.module.split(".")[1]
            assert LAYERS[imported] <= LAYERS[part], f"{path.name} imports {node.module}"

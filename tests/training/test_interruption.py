"""What the command says when a run was stopped: where it stands, and whether that was saved."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from grpo_project.commands.train import report_interruption
from grpo_project.training.open_run import Outcome


@pytest.mark.parametrize(
    ("step", "saved", "expected"),
    [
        (0, False, "Stopped before the first step (SIGTERM). The same command goes on from there."),
        (4, True, "Stopped at step 4; the checkpoint is saved (SIGTERM). The same command goes on from there."),
        (4, False, "could NOT be saved. The same command goes on from the checkpoint before."),
    ],
)
def test_a_checkpoint_is_called_saved_only_where_it_is(step: int, saved: bool, expected: str) -> None:
    console = Console(file=io.StringIO(), width=500)
    plan: Any = SimpleNamespace(output_dir=Path("runs/my run"))
    assert report_interruption(plan, Outcome("interrupted", step, "SIGTERM", 75, saved=saved), console) == 75
    assert expected in console.file.getvalue()  # type: ignore[attr-defined]

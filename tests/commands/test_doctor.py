"""`grpo doctor` on the machine at hand, and on settings that are broken on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from grpo_project.cli import main
from grpo_project.commands.doctor import disk


def test_a_machine_that_can_train_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for subject in ("torch", "trl", "accelerator", "isolation level", "W&B", "GB free"):
        assert subject in printed
    assert "bad" not in printed


def test_broken_settings_are_named_with_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlin")
    (tmp_path / "file").write_text("")
    assert main(["doctor", "--output_dir", str(tmp_path / "file" / "run")]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "WANDB_MODE is 'onlin'" in printed
    assert "is a file" in printed


def test_little_room_is_a_note(tmp_path: Path) -> None:
    assert disk(str(tmp_path / "absent"), free_gb=lambda _: 1.0).verdict == "note"
    assert disk(str(tmp_path / "absent"), free_gb=lambda _: 100.0).verdict == "ok"

"""Checkpoints as files: damage of every kind is seen, and the newest whole one is chosen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from grpo_project.errors import CheckpointError
from grpo_project.training import checkpoints

FILES = {"model.safetensors": b"weights" * 100, "optimizer.pt": b"moments" * 50, "global_step/rank_0.pt": b"shard"}


def make(output_dir: Path, step: int) -> Path:
    folder = output_dir / f"checkpoint-{step}"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    checkpoints.write_manifest(folder)
    return folder


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "bit flipped": flip_bit,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("name", [*FILES, checkpoints.MANIFEST])
def test_damage_is_seen_and_the_one_before_is_used(tmp_path: Path, name: str, damage) -> None:
    older, newer = make(tmp_path, 9), make(tmp_path, 10)  # 10 sorts before 9 as text
    assert checkpoints.newest_whole(tmp_path).path == newer

    damage(newer / name)
    selection = checkpoints.newest_whole(tmp_path)

    assert selection.path == older
    assert [rejected.path for rejected in selection.rejected] == [newer]
    assert name in selection.rejected[0].reason


def test_no_whole_checkpoint_left_is_an_error_that_names_each(tmp_path: Path) -> None:
    for step in (5, 10):
        flip_bit(make(tmp_path, step) / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"checkpoint-10: model\.safetensors.*checkpoint-5: model\.safetensors"):
        checkpoints.newest_whole(tmp_path)


def test_no_checkpoint_at_all_is_a_fresh_start(tmp_path: Path) -> None:
    assert checkpoints.newest_whole(tmp_path / "absent") == checkpoints.Selection(None)
    (tmp_path / "checkpoint-x").mkdir()
    assert checkpoints.newest_whole(tmp_path).path is None


def test_manifest_of_another_step_is_refused(tmp_path: Path) -> None:
    shutil.copytree(make(tmp_path, 5), tmp_path / "checkpoint-7")
    assert "step 5" in str(checkpoints.damage(tmp_path / "checkpoint-7"))


def test_named_checkpoint_must_exist_and_be_whole(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        checkpoints.require_whole(tmp_path / "checkpoint-3")
    folder = make(tmp_path, 3)
    assert checkpoints.require_whole(folder) == folder
    flip_bit(folder / "optimizer.pt")
    with pytest.raises(CheckpointError, match=r"optimizer\.pt has other content"):
        checkpoints.require_whole(folder)


def test_set_aside_keeps_everything(tmp_path: Path) -> None:
    first = checkpoints.set_aside(tmp_path, make(tmp_path, 4))
    second = checkpoints.set_aside(tmp_path, make(tmp_path, 4))
    assert first != second
    assert all((kept / "model.safetensors").read_bytes() == FILES["model.safetensors"] for kept in (first, second))
    assert checkpoints.list_checkpoints(tmp_path) == []


def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    made = [make(tmp_path, step) for step in (2, 4, 6, 8, 10)]
    deleted = checkpoints.rotate(tmp_path, keep=2, best=str(made[0]))
    assert deleted == [made[1], made[2]]
    assert checkpoints.list_checkpoints(tmp_path) == [made[0], made[3], made[4]]
    assert checkpoints.rotate(tmp_path, keep=None, best=None) == []
    checkpoints.rotate(tmp_path, keep=1, best=None)
    assert checkpoints.list_checkpoints(tmp_path) == [made[4]]

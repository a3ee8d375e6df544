"""A save that the disk refuses: training goes on, the checkpoint before stays, the next save tries again."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_exact_resume import build
from transformers import TrainerCallback

from grpo_project.errors import DiskFullError
from grpo_project.training.checkpoints import newest_whole
from grpo_project.training.publish import publish


class FullDisk(TrainerCallback):
    """No file may grow beyond 20 kB while the checkpoint of ``step`` is saved."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.former = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, self.former[1]))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.former)

    on_train_end = on_step_begin


class FileInTheWay(TrainerCallback):
    """The staging folder can't be made while the checkpoint of ``step`` is saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        staging = Path(args.output_dir, ".staging")
        if state.global_step == self.step:
            staging.write_text("")
        elif staging.is_file():
            staging.unlink()


@pytest.mark.parametrize("trouble", [FullDisk, FileInTheWay])
def test_training_goes_on_when_a_checkpoint_cannot_be_written(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: Any
) -> None:
    trainer = build(tiny_model, tmp_path / "run", max_steps=3, save_steps=1, save_total_limit=2)
    events: list[tuple[str, int]] = []
    trainer.on_checkpoint = lambda event, step, **_: events.append((event, step))
    trainer.add_callback(trouble(2))
    trainer.train()
    assert trainer.state.global_step == 3
    assert events == [("checkpoint", 1), ("checkpoint_failed", 2), ("checkpoint", 3)]
    assert "checkpoint of step 2 NOT saved" in caplog.text
    assert newest_whole(tmp_path / "run").step == 3
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-3"]


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file may grow beyond 20 kB."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_final_model_that_does_not_fit_is_one_line_and_leaves_no_half_of_it(
    tiny_model: Path, tmp_path: Path, no_room: None
) -> None:
    trainer = build(tiny_model, tmp_path / "run")
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "config.json").write_text("of the model before")
    with pytest.raises(DiskFullError, match=r"^disk full: .*model.* needs [\d,]+ bytes now.* the same command"):
        publish(trainer, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    assert (tmp_path / "run" / "config.json").read_text() == "of the model before"


def test_the_final_model_appears_file_by_file_and_is_named(tiny_model: Path, tmp_path: Path) -> None:
    trainer = build(tiny_model, tmp_path / "run")
    names = publish(trainer, tmp_path / "run")
    assert set(names) == {path.name for path in (tmp_path / "run").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(names)

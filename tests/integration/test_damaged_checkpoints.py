"""Every file of a real checkpoint, damaged in every way: seen before a model is built, named, kept, worked around."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from grpo_project.cli import main
from grpo_project.config import parse_configuration
from grpo_project.errors import CheckpointError, ConfigError, DataError
from grpo_project.record.run_directory import Run
from grpo_project.training.plan import make_plan

FLAGS = [
    *("--per_device_train_batch_size", "8", "--num_generations", "4", "--max_completion_length", "8", "--use_cpu"),
    *("--max_steps", "2", "--save_steps", "1", "--eval_every_n_steps", "0", "--verifier_workers", "1"),
]
FILES = [
    *("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "grpo_state_0.pt", "trainer_state.json"),
    *("config.json", "tokenizer.json", "training_args.bin", "manifest.json"),
]


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "bit flipped": flip_bit,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "run"
    assert main(["train", *FLAGS, "--output_dir", str(folder)]) == 0
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"status": "running"}))  # killed before it was finished
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_matrix_covers_every_file(finished: Path) -> None:
    there = {path.name for path in (finished / "checkpoint-2").iterdir()}
    assert set(FILES) <= there
    assert there - set(FILES) <= {"README.md", "chat_template.jinja", "generation_config.json", "tokenizer_config.json"}


@pytest.mark.parametrize("name", FILES)
def test_damage_is_seen_at_start_up(finished: Path, tmp_path: Path, name: str) -> None:
    configuration = parse_configuration([*FLAGS, "--output_dir", str(tmp_path / "run")])
    for damage in DAMAGES.values():
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(finished, tmp_path / "run")
        damage(tmp_path / "run" / "checkpoint-2" / name)
        before = contents(tmp_path)
        plan = make_plan(configuration)
        assert plan.resume_step == 1
        assert [rejected.path.name for rejected in plan.earlier.rejected] == ["checkpoint-2"]
        assert name in plan.earlier.rejected[0].reason
        assert contents(tmp_path) == before, "a plan changes nothing"

        damage(tmp_path / "run" / "checkpoint-1" / name)
        with pytest.raises(CheckpointError, match=r"checkpoint-2: .*checkpoint-1: "):
            make_plan(configuration)


def test_the_run_goes_on_from_the_one_before_and_keeps_the_damaged_one(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    flip_bit(tmp_path / "run" / "checkpoint-2" / "optimizer.pt")
    assert main(["train", *FLAGS, "--output_dir", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "checkpoint-2 is damaged: optimizer.pt has other content than was written" in printed
    assert "(step 1)" in printed
    assert (tmp_path / "run" / "rejected-checkpoints" / "checkpoint-2" / "model.safetensors").exists()
    assert Run.open(tmp_path / "run").events("checkpoint_rejected")[0]["checkpoint"] == "checkpoint-2"
    weights = [(folder / "model.safetensors").read_bytes() for folder in (finished, tmp_path / "run")]
    assert weights[0] == weights[1], "what was lost is done again, bit for bit"


def test_other_problems_and_other_flags_are_refused_and_nothing_changes(finished: Path, tmp_path: Path) -> None:
    own = {
        "id": "p",
        "prompt": "Add one.",
        "entry_point": "f",
        "tests": [{"args": [1], "expected": 2}],
        "complexity": 1,
    }
    (tmp_path / "own.json").write_text(json.dumps([own]))
    before = contents(finished)
    flags = [*FLAGS, "--output_dir", str(finished)]
    with pytest.raises(DataError, match=r"it had 2000 from builtin, now there are 1 from .*own\.json"):
        make_plan(parse_configuration([*flags, "--dataset_path", str(tmp_path / "own.json")]))
    with pytest.raises(ConfigError, match=r"--learning_rate was [\d.e-]+, is 0\.5"):
        make_plan(parse_configuration([*flags, "--learning_rate", "0.5"]))
    allowed = make_plan(parse_configuration([*flags, "--learning_rate", "0.5", "--allow_config_change"]))
    assert "--learning_rate was" in allowed.notes[0]
    assert contents(finished) == before

"""What a start finds, refuses, continues and leaves behind: the command in this process, on a tiny model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grpo_project.cli import main
from grpo_project.record.run_directory import Run

PROBLEMS = [
    {"id": f"add-{i}", "prompt": f"Add {i} to x.", "entry_point": "f", "tests": [{"args": [1], "expected": 1 + i}]}
    for i in range(8)
]
FLAGS = [
    *("--dataset_path", "train.json", "--eval_dataset_path", "heldout.json", "--learning_rate", "1e-2"),
    *("--per_device_train_batch_size", "4", "--num_generations", "4", "--max_completion_length", "8"),
    *("--eval_every_n_steps", "2", "--max_eval_samples", "2", "--save_steps", "1", "--verifier_workers", "1"),
    *("--use_cpu", "--model_name", "model", "--output_dir", "out"),
]
BEST = [
    *("--load_best_model_at_end", "--metric_for_best_model", "mean_tokens", "--greater_is_better", "false"),
    *("--eval_strategy", "steps", "--eval_steps", "1", "--eval_every_n_steps", "1"),
]


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "train.json").write_text(json.dumps(PROBLEMS[:6]))
    (tmp_path / "heldout.json").write_text(json.dumps(PROBLEMS[6:]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*more: str) -> int:
    return main(["train", *FLAGS, *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def steps() -> list[int]:
    return [row["step"] for row in Run("out").metrics("train")]


def change_record(**content: Any) -> None:
    path = Path("out/run.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


def test_a_refused_start_leaves_nothing_and_does_not_block_the_next(folder: Path) -> None:
    assert train("--max_steps", "1", "--use_peft", "--lora_target_modules", "no_such_module") == 2
    assert train("--max_steps", "1", "--eval_num_samples", "2", "--eval_temperature", "0") == 2
    assert not Path("out").exists()
    (folder / "model" / "model.safetensors").write_bytes(b"\xff" * 4096)
    assert train("--max_steps", "1") == 2
    assert not Path("out").exists()


def test_a_run_of_no_steps_does_not_block_other_flags(folder: Path) -> None:
    assert train("--max_steps", "1") == 0
    change_record(status="failed")  # what a start leaves behind that failed before its first step
    Path("out/journal/metrics.jsonl").write_text("")
    shutil.rmtree("out/checkpoint-1")
    assert train("--max_steps", "1", "--learning_rate", "2e-2", "--beta", "0.1") == 0
    assert steps() == [1]


def test_overwriting_needs_a_run_of_ours(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("samples", "evaluations", "checkpoint-7"):
        (folder / "out" / name).mkdir(parents=True)
        (folder / "out" / name / "mine").write_text("mine")
    before = contents(folder)
    assert train("--max_steps", "1", "--overwrite_output_dir") == 2
    assert "has no run.json" in capsys.readouterr().err
    assert contents(folder) == before


def test_overwriting_begins_once_the_new_run_stands_and_takes_all_of_the_old(folder: Path) -> None:
    lora = ["--use_peft", "--lora_r", "2", "--lora_target_modules", "q_proj", "v_proj"]
    assert train("--max_steps", "1", *lora) == 0
    (folder / "out" / "note.txt").write_text("mine")
    (folder / "out" / "config.json").write_text("mine")  # the run wrote an adapter, and no such file
    before = contents(folder)
    refused = ["--overwrite_output_dir", "--max_steps", "1"]
    assert train(*refused, "--use_peft", "--lora_target_modules", "no_such_module") == 2
    assert train(*refused, "--eval_num_samples", "2", "--eval_temperature", "0") == 2
    assert train(*refused, "--model_name", "out") == 2
    after = contents(folder)
    assert after == before

    (folder / "out" / "config.json").unlink()
    assert train("--max_steps", "1", "--overwrite_output_dir") == 0
    names = {path.name for path in (folder / "out").iterdir()}
    assert "note.txt" in names and "model.safetensors" in names
    assert not [name for name in names if name.startswith("adapter") or name == ".overwritten"]
    assert steps() == [1]
    from transformers import AutoModelForCausalLM

    assert type(AutoModelForCausalLM.from_pretrained("out")).__name__ == "LlamaForCausalLM"


def test_finished_stays_finished_without_its_checkpoints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--max_steps", "2") == 0
    for checkpoint in Path("out").glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    before = contents(folder)
    assert train("--max_steps", "2") == 0
    assert "this run is finished (step 2)" in capsys.readouterr().out
    assert train("--max_steps", "3") == 2
    assert "its checkpoints are gone" in capsys.readouterr().err
    assert contents(folder) == before


def test_finished_without_ever_saving(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--max_steps", "2", "--save_strategy", "no") == 0
    before = contents(folder)
    assert train("--max_steps", "2", "--save_strategy", "no") == 0
    assert "this run is finished (step 2)" in capsys.readouterr().out
    assert contents(folder) == before


def test_more_epochs_are_trained(folder: Path) -> None:
    assert train("--num_train_epochs", "1") == 0
    once = steps()
    assert train("--num_train_epochs", "1") == 0
    assert steps() == once
    assert train("--num_train_epochs", "2") == 0
    assert steps() == list(range(1, 2 * len(once) + 1))


def test_the_last_checkpoint_stays_beside_the_best(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*BEST, "--save_total_limit", "1"]
    assert train("--max_steps", "4", *flags) == 0
    assert Path("out/checkpoint-4").is_dir()
    assert train("--max_steps", "4", *flags) == 0
    assert "this run is finished (step 4)" in capsys.readouterr().out
    assert train("--max_steps", "5", *flags) == 0
    assert [row["attempt"] for row in Run("out").metrics("train")] == [0, 0, 0, 0, 1]


def test_steps_without_a_checkpoint_are_said_to_be_trained_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--max_steps", "2", "--save_steps", "50") == 0
    for checkpoint in Path("out").glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    change_record(status="running")  # as a killed process leaves it
    assert train("--max_steps", "2", "--save_steps", "50") == 0
    assert "no checkpoint is left of the 2 steps" in capsys.readouterr().out
    assert [row["attempt"] for row in Run("out").metrics("train")] == [1, 1]


def test_the_best_model_is_published_after_a_kill_in_the_final_save_and_a_move(folder: Path) -> None:
    assert train("--max_steps", "4", *BEST) == 0
    state = json.loads(Path("out/checkpoint-4/trainer_state.json").read_text())
    best = Path(f"out/checkpoint-{state['best_global_step']}/model.safetensors").read_bytes()
    assert Path("out/model.safetensors").read_bytes() == best
    Path("out/model.safetensors").unlink()
    change_record(status="running")
    Path("out").rename("moved")
    assert main(["train", *FLAGS, *BEST, "--max_steps", "4", "--output_dir", "moved"]) == 0
    assert Path("moved/model.safetensors").read_bytes() == best
    assert main(["train", *FLAGS, *BEST, "--max_steps", "6", "--output_dir", "moved", "--save_total_limit", "1"]) == 0
    state = json.loads(Path("moved/checkpoint-6/trainer_state.json").read_text())
    best = Path(f"moved/checkpoint-{state['best_global_step']}/model.safetensors").read_bytes()
    assert Path("moved/model.safetensors").read_bytes() == best


def test_a_damaged_best_checkpoint_is_seen_at_start_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--max_steps", "4", *BEST) == 0
    state = json.loads(Path("out/checkpoint-4/trainer_state.json").read_text())
    if state["best_global_step"] == 4:
        pytest.skip("the last step is the best here")
    weights = Path(f"out/checkpoint-{state['best_global_step']}/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    change_record(status="running")
    assert train("--max_steps", "4", *BEST) == 2
    assert "the best checkpoint so far, is damaged" in capsys.readouterr().err
    assert train("--max_steps", "4", *BEST, "--load_best_model_at_end", "false") == 0


@pytest.mark.parametrize("flags", [["--save_only_model"], ["--auto_find_batch_size"]])
def test_flags_that_break_a_resume_are_refused(folder: Path, flags: list[str]) -> None:
    assert train("--max_steps", "1", *flags) == 2
    assert not Path("out").exists()


def test_changed_content_under_the_same_name_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curriculum = folder / "curriculum.yaml"
    curriculum.write_text("patience: 5\n")
    flags = ["--curriculum_config", "curriculum.yaml", "--use_peft", "--lora_target_modules", "q_proj"]
    assert train("--max_steps", "1", *flags) == 0

    curriculum.write_text("# a comment is no change\npatience: 5\n")
    assert train("--max_steps", "2", *flags) == 0
    curriculum.write_text("patience: 6\n")
    assert train("--max_steps", "3", *flags) == 2
    assert "the curriculum's settings changed" in capsys.readouterr().err
    curriculum.write_text("patience: 5\n")

    (folder / "heldout.json").write_text(json.dumps(PROBLEMS[7:]))
    assert train("--max_steps", "3", *flags) == 2
    assert "the held-out problems changed" in capsys.readouterr().err
    (folder / "heldout.json").write_text(json.dumps(PROBLEMS[6:]))

    weights = folder / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert train("--max_steps", "3", *flags) == 2
    assert "the weights of the base model changed" in capsys.readouterr().err
    assert train("--max_steps", "3", *flags, "--allow_config_change") == 0


def test_a_second_start_finds_the_run_locked_and_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--max_steps", "1") == 0
    program = (
        "import sys; from pathlib import Path; from grpo_project.record.file_lock import FileLock\n"
        "lock = FileLock(Path('out/journal/lock')); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        before = contents(folder)
        for flags in (["--max_steps", "2"], ["--max_steps", "2", "--overwrite_output_dir"]):
            assert train(*flags) == 2
            assert "is being written by another process" in capsys.readouterr().err
        assert contents(folder) == before
    finally:
        holder.communicate()

"""The main job as a user runs it, small: the embedded default, an own model and data, interruption, going on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grpo_project.record.run_directory import Run
from grpo_project.record.samples import read_samples

SMALL = [
    *("--per_device_train_batch_size", "8", "--num_generations", "4", "--max_completion_length", "24"),
    *("--eval_every_n_steps", "2", "--max_eval_samples", "5", "--save_steps", "2"),
    *("--verifier_workers", "1", "--use_cpu"),
]


def grpo(*argv: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "grpo_project.cli", *argv]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=250)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("main-job")
    return folder, grpo("train", *SMALL, "--max_steps", "3", "--output_dir", "out", cwd=folder)


def test_run_ends_with_a_table_and_the_next_commands(finished) -> None:
    _, done = finished
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for expected in ("Held-out pass rate (built-in problems)", "foundation", "expert", "grpo evaluate --model out"):
        assert expected in done.stdout


def test_final_model_is_in_the_hugging_face_layout(finished) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, _ = finished
    model = AutoModelForCausalLM.from_pretrained(folder / "out")
    tokenizer = AutoTokenizer.from_pretrained(folder / "out")
    assert 500_000 < model.num_parameters() < 2_000_000
    assert tokenizer.chat_template


def test_every_metric_of_a_row_is_explained(finished) -> None:
    folder, _ = finished
    explained = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    names = {name for row in Run.open(folder / "out").metrics() for name in row}
    for name in names:
        name = re.sub(r"(foundation|elementary|intermediate|advanced|expert)", "LEVEL", name)
        name = re.sub(r"eval/LEVEL/(?!problems).*", "eval/LEVEL/...", name)
        name = re.sub(r"(eval/change_since_\w+?)_(low|high)$", r"\1", name)
        name = re.sub(r"pass@\d+", "pass@K", re.sub("rewards/pass_rate/", "rewards/NAME/", name))
        assert f"`{name}`" in explained, name


def test_every_step_evaluation_and_sample_is_on_record(finished) -> None:
    folder, _ = finished
    run = Run.open(folder / "out")
    assert [row["step"] for row in run.metrics("train")] == [1, 2, 3]
    evaluations = run.metrics("eval")
    assert [row["step"] for row in evaluations] == [0, 2, 3]
    assert all(row["eval/source"] == "builtin" and 0 <= row["eval_avg_test_pass_rate"] <= 1 for row in evaluations)
    assert [event["step"] for event in run.events("stage_decision") if event["action"] == "hold"]
    samples = read_samples(folder / "out")
    assert samples["step"].to_pylist() == [1] * 8 + [2] * 8 + [3] * 8
    for row, step in zip(run.metrics("train"), (1, 2, 3), strict=True):
        rewards = [
            r for r, s in zip(samples["reward"].to_pylist(), samples["step"].to_pylist(), strict=True) if s == step
        ]
        assert row["reward"] == pytest.approx(sum(rewards) / len(rewards))
    record = json.loads((folder / "out" / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["attempts"][0]["isolation"] in ("namespaces", "landlock")


def test_finished_run_is_left_alone_and_goes_on_when_asked_for_more(finished) -> None:
    folder, _ = finished
    again = grpo("train", *SMALL, "--max_steps", "3", "--output_dir", "out", cwd=folder)
    assert again.returncode == 0
    assert "this run is finished (step 3)" in again.stdout
    more = grpo("train", *SMALL, "--max_steps", "4", "--output_dir", "out", cwd=folder)
    assert more.returncode == 0, more.stderr
    assert "Resuming from out/checkpoint-3 (step 3)" in more.stdout
    assert [row["step"] for row in Run.open(folder / "out").metrics("train")] == [1, 2, 3, 4]
    status = json.loads(grpo("status", "out", "--json", cwd=folder).stdout)
    assert (status["step"], status["max_steps"], status["starts"], status["status"]) == (4, 4, 2, "finished")
    assert status["interruptions"] == status["redone_steps"] == 0


def test_own_model_and_data_take_the_same_way(tmp_path: Path, tiny_model: Path) -> None:
    problems = [
        {
            "id": f"add-{i}",
            "prompt": f"Add {i} to x.",
            "entry_point": "f",
            "tests": [{"args": [1], "expected": 1 + i}],
            "complexity": 1,
        }
        for i in range(4)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(problem) for problem in problems))
    flags = [
        "--model_name",
        str(tiny_model),
        "--dataset_path",
        "train.jsonl",
        "--output_dir",
        "out",
        "--max_steps",
        "2",
    ]
    done = grpo("train", *SMALL, *flags, "--use_peft", "--lora_target_modules", "q_proj", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    prompts = read_samples(tmp_path / "out")["prompt"].to_pylist()
    assert all(prompt.startswith("system: ") and "\nuser: Add" in prompt for prompt in prompts)


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpo_project.cli", "train", *SMALL, "--max_steps", "500", "--output_dir", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "out" / "journal" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and b'"kind":"train"' in metrics.read_bytes()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 130, stderr
    assert "The same command goes on from there." in stdout
    assert "Traceback" not in stderr
    saved = max(int(path.name.split("-")[1]) for path in (tmp_path / "out").glob("checkpoint-*"))

    more = grpo("train", *SMALL, "--max_steps", str(saved + 1), "--output_dir", "out", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert f"(step {saved})" in more.stdout
    assert [row["step"] for row in Run.open(tmp_path / "out").metrics("train")] == list(range(1, saved + 2))


def test_overwrite_starts_anew(finished, tmp_path: Path) -> None:
    folder, _ = finished
    (folder / "out" / "note.txt").write_text("mine")
    done = grpo("train", *SMALL, "--max_steps", "1", "--output_dir", "out", "--overwrite_output_dir", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in Run.open(folder / "out").metrics("train")] == [1]
    assert (folder / "out" / "note.txt").read_text() == "mine", "what is not ours stays"


def test_best_model_is_chosen_by_the_real_pass_rate(tmp_path: Path) -> None:
    flags = [
        *("--max_steps", "4", "--eval_strategy", "steps", "--eval_steps", "2", "--load_best_model_at_end", "true"),
        *("--metric_for_best_model", "eval_avg_test_pass_rate", "--greater_is_better", "true"),
    ]
    done = grpo("train", *SMALL, *flags, "--output_dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rates = {row["step"]: row["eval_avg_test_pass_rate"] for row in Run.open(tmp_path / "out").metrics("eval")}
    assert sorted(rates) == [0, 2, 4]
    state = json.loads((tmp_path / "out" / "checkpoint-4" / "trainer_state.json").read_text())
    best = max((2, 4), key=lambda step: rates[step])
    assert state["best_metric"] == rates[best]
    best_weights = tmp_path / "out" / f"checkpoint-{best}" / "model.safetensors"
    if rates[2] != rates[4]:
        assert (tmp_path / "out" / "model.safetensors").read_bytes() == best_weights.read_bytes()

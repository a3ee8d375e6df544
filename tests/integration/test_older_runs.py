"""A run directory that version 0.1.0 left behind, killed in the middle of a generation buffer, goes on with ours.

``fixtures/run_of_0.1.0.tar.gz`` holds it below ``run/``, and in ``end/`` what the same command came to where nobody
killed it. It was made by version 0.1.0 with ``FLAGS``.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from grpo_project.cli import main
from grpo_project.record.run_directory import Run
from grpo_project.record.samples import read_samples

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_of_0.1.0.tar.gz"
FLAGS = [
    *("--use_peft", "--lora_r", "4", "--lora_target_modules", "q_proj", "v_proj", "--learning_rate", "1e-2"),
    *("--per_device_train_batch_size", "8", "--num_generations", "4", "--steps_per_generation", "2"),
    *("--max_completion_length", "48", "--max_steps", "9", "--save_steps", "5", "--save_total_limit", "1"),
    *("--eval_every_n_steps", "4", "--max_eval_samples", "5", "--verifier_workers", "1", "--use_cpu"),
    *("--max_resample", "1"),
]


def test_a_run_of_an_older_version_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "run/journal/metrics.jsonl").read_bytes()
    assert main(["train", "--output_dir", "run", *FLAGS]) == 0
    after = (tmp_path / "run/journal/metrics.jsonl").read_bytes()
    assert after.startswith(before)
    rows = Run("run").metrics()
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 10))
    assert [row["step"] for row in rows if row["kind"] == "eval"] == [0, 4, 8, 9]
    assert {row["attempt"] for row in rows if row["step"] > 5} == {1}
    # The numbers of the run that was left alone, up to the end of the buffer that the checkpoint holds: step 6
    # was computed from it and from the restored weights and optimizer. From step 7 on completions are drawn from other
    # random numbers: theirs now come from the completion, not from the order of calls. LoRA's dropout (0.05) falls on
    # other places of rows that are packed otherwise.
    whole = [json.loads(line) for line in (tmp_path / "end/metrics.jsonl").read_text().splitlines()]
    for name, tolerance in (("loss", 0.01), ("grad_norm", 0.05), ("entropy", 0.01)):
        expected = {row["step"]: row[name] for row in whole if row["kind"] == "train" and row["step"] <= 6}
        found = {row["step"]: row[name] for row in rows if row["kind"] == "train" and row["step"] <= 6}
        assert found == pytest.approx(expected, rel=tolerance), name
    mine, theirs = (load_file(folder + "/adapter_model.safetensors") for folder in ("run", "end"))
    assert {name: weights.shape for name, weights in mine.items()} == {n: w.shape for n, w in theirs.items()}
    steps = read_samples("run", columns=["step"])["step"].to_pylist()
    assert steps == sorted(steps) and set(steps) == {1, 3, 5, 7, 9}

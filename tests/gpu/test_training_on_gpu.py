"""The main job where a CUDA device is at hand: the embedded run, and a model of about a billion parameters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from grpo_project.record.run_directory import Run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def train(cwd: Path, *flags: str) -> str:
    command = [sys.executable, "-m", "grpo_project.cli", "train", *flags]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def billion(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A random Llama of about 1.1 billion parameters with the tiny model's tokenizer, in bfloat16."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("billion")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    assert 0.9e9 < model.num_parameters() < 1.3e9
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_embedded_run_learns_on_the_gpu(tmp_path: Path) -> None:
    train(tmp_path, "--output_dir", "out", "--max_steps", "60", "--eval_every_n_steps", "60")
    first, last = Run.open(tmp_path / "out").metrics("eval")
    assert last["eval_avg_test_pass_rate"] > first["eval_avg_test_pass_rate"] + 0.05


def test_deterministic_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    flags = ["--max_steps", "6", "--save_steps", "3", "--eval_every_n_steps", "0", "--full_determinism"]
    train(tmp_path, "--output_dir", "whole", *flags)
    train(tmp_path, "--output_dir", "parts", *flags, "--max_steps", "3")
    output = train(tmp_path, "--output_dir", "parts", *flags)
    assert "not bit-exact" not in output
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("lora", [True, False], ids=["LoRA", "full"])
def test_model_of_a_billion_parameters_trains_in_bf16(tmp_path: Path, billion: Path, lora: bool) -> None:
    problems = [
        {"id": f"p{i}", "prompt": f"Add {i} to x.", "entry_point": "f", "tests": [{"args": [1], "expected": 1 + i}]}
        for i in range(4)
    ]
    (tmp_path / "train.json").write_text(json.dumps(problems))
    flags = [
        *("--model_name", str(billion), "--dataset_path", "train.json", "--output_dir", "out", "--dtype", "bfloat16"),
        *("--per_device_train_batch_size", "8", "--num_generations", "4", "--max_completion_length", "32"),
        *("--max_steps", "2", "--eval_every_n_steps", "2", "--max_eval_samples", "5", "--save_strategy", "no"),
    ]
    if lora:
        flags += ["--use_peft", "--lora_target_modules", "q_proj", "v_proj"]
    train(tmp_path, *flags)
    rows = Run.open(tmp_path / "out").metrics("train")
    assert [row["step"] for row in rows] == [1, 2]
    assert (tmp_path / "out" / ("adapter_model.safetensors" if lora else "model.safetensors")).exists()

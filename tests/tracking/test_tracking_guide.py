"""The examples of docs/tracking.md run as they stand there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from grpo_project.record.run_directory import Run

GUIDE = Path(__file__).parents[2] / "docs" / "tracking.md"

MODEL = """
import sys
from datasets import Dataset
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokens = [list(range(2, 34))] * 16
data = Dataset.from_dict({"input_ids": tokens, "labels": tokens})
"""
# What makes the example quick, and evaluates.
QUICK = {
    "max_steps=6,": """max_steps=6, eval_strategy="steps", eval_steps=3, per_device_train_batch_size=4, use_cpu=True,
    disable_tqdm=True, save_strategy="steps", save_steps=2,""",
    "train_dataset=data,": "train_dataset=data, eval_dataset=data.select(range(4)),",
    "trainer.train()": "trainer.train(resume_from_checkpoint=len(sys.argv) > 2)",
}


def example(name: str) -> str:
    return re.search(rf"<!-- {name} -->\n```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]


def run(folder, code, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    environment |= {"HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_migrated_loop(tmp_path):
    assert run(tmp_path, example("after")) == "offline\n"
    assert [row["step"] for row in Run.open(tmp_path / "runs/my-run").metrics()] == list(range(1, 101))


def test_the_callback_in_a_hugging_face_trainer(tmp_path, tiny_model):
    code = example("trainer")
    for shown, quick in QUICK.items():
        assert shown in code
        code = code.replace(shown, quick)
    run(tmp_path, MODEL + code.replace("max_steps=6", "max_steps=5"), tiny_model)
    run(tmp_path, MODEL + code + 'assert "wandb" not in sys.modules', tiny_model, "resume")
    found = Run.open(tmp_path / "run")
    assert [(row["attempt"], row["step"]) for row in found.metrics("train")] == [(0, i) for i in range(1, 6)] + [(1, 6)]
    assert [row["step"] for row in found.metrics("eval")] == [3, 5, 6]
    assert all("loss" in row for row in found.metrics("train"))
    assert all("eval_loss" in row for row in found.metrics("eval"))
    status = run(tmp_path, "from grpo_project.cli import main; main(['status', 'run'])")
    assert "finished" in status
    assert "6 of 6" in status
    run(tmp_path, "from grpo_project.cli import main; assert main(['report', 'run']) == 0")


def test_an_offline_run_says_where_it_stands_and_what_to_do(tmp_path):
    run(tmp_path, example("after"))
    state = json.loads((tmp_path / "runs/my-run/wandb_sync_state.json").read_text())
    assert (state["mode"], state["rows"], state["last_step"]) == ("offline", 100, 100)
    assert state["next"] == f"upload with: grpo sync {tmp_path / 'runs/my-run'}"

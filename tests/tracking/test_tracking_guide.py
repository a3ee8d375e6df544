"""The examples of docs/tracking.md run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from grpo_project.record.run_directory import Run

GUIDE = Path(__file__).parents[2] / "docs" / "tracking.md"

TRAINER = """
import sys
from datasets import Dataset
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokens = [list(range(2, 34))] * 16
data = Dataset.from_dict({"input_ids": tokens, "labels": tokens})
arguments = TrainingArguments(
    output_dir="run", max_steps=6, logging_steps=1, eval_strategy="steps", eval_steps=3, report_to="none",
    per_device_train_batch_size=4, use_cpu=True, disable_tqdm=True, save_strategy="no",
)
Trainer(model, arguments, train_dataset=data, eval_dataset=data.select(range(4)), callbacks=[WandbSync()]).train()
assert "wandb" not in sys.modules
"""


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
    run(tmp_path, example("trainer") + TRAINER, tiny_model)
    rows = Run.open(tmp_path / "run").metrics()
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert [row["step"] for row in rows if "eval_loss" in row] == [3, 6]
    assert all("loss" in row for row in rows)

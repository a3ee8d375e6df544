"""What surviving costs, and what TRL alone does in the same places.

    python benchmarks/bench_resume.py [--rounds 3] [--skip-trl]

1. Seconds from the command to the first new step: a fresh start against a resume, alternating.
2. The share of training time that saving a checkpoint takes (staged, hashed, renamed; flushed beside the next steps),
   and for a model of 250 MB with its optimizer: how long training waits for it, until it is flushed, CPU seconds.
3. TRL's own GRPOTrainer, stopped at a checkpoint and resumed: are its weights those of the uninterrupted run? What this
   project does in such places is tested, not printed: tests/training/test_exact_resume.py.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "disabled"

from rich.console import Console
from rich.table import Table

SMALL = ["--per_device_train_batch_size", "16", "--num_generations", "4", "--eval_every_n_steps", "0", "--use_cpu"]
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "num_iterations=2, odd checkpoint": {"num_iterations": 2},
    "checkpoint in mid-buffer": {"steps_per_generation": 8},
    "checkpoint in a later epoch": {"max_steps": 8, "save_steps": 5},
    "checkpoint on an epoch's end": {"max_steps": 7, "save_steps": 3},
    "logged every second step": {"logging_steps": 2},
    "synced reference model": {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 2},
}


def seconds_to_first_step(output_dir: Path, steps: int) -> float:
    """Run to ``steps`` and return the time from the command to the first row that this start wrote."""
    metrics = output_dir / "journal" / "metrics.jsonl"
    before = metrics.stat().st_size if metrics.exists() else 0
    flags = [*SMALL, "--max_steps", str(steps), "--save_steps", "1", "--output_dir", str(output_dir)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "grpo_project.cli", "train", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while not (metrics.exists() and metrics.stat().st_size > before):
        if process.poll() is not None:
            raise RuntimeError(process.communicate()[1].decode())
        time.sleep(0.005)
    found = time.perf_counter() - started
    process.communicate()
    return found


def starts(rounds: int) -> tuple[float, float]:
    """Medians of fresh starts and of resumes, seconds."""
    fresh, resumed = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            fresh.append(seconds_to_first_step(Path(folder, "run"), 1))
            resumed.append(seconds_to_first_step(Path(folder, "run"), 2))
    return statistics.median(fresh), statistics.median(resumed)


def saving() -> tuple[float, float]:
    """Medians of a save and of a step, seconds."""
    from grpo_project.record.run_directory import Run

    with tempfile.TemporaryDirectory() as folder:
        flags = [*SMALL, "--max_steps", "12", "--save_steps", "1", "--output_dir", folder]
        command = [sys.executable, "-m", "grpo_project.cli", "train", *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        run = Run.open(folder)
        saves = [event["seconds"] for event in run.events("checkpoint")]
        return statistics.median(saves), statistics.median(row["step_time"] for row in run.metrics("train"))


def one_save(rounds: int) -> tuple[float, float, float]:
    """Medians for a checkpoint of 250 MB: seconds that training waits, seconds until it is flushed, CPU seconds."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    from short_runs import build
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from grpo_project.config import embedded_model_path

    wider = {"hidden_size": 512, "num_hidden_layers": 6, "intermediate_size": 1536, "num_attention_heads": 8}
    with tempfile.TemporaryDirectory() as folder:
        model, run = Path(folder, "model"), Path(folder, "run")
        config = AutoConfig.from_pretrained(embedded_model_path(), num_key_value_heads=8, head_dim=64, **wider)
        AutoModelForCausalLM.from_config(config).save_pretrained(model)
        AutoTokenizer.from_pretrained(embedded_model_path()).save_pretrained(model)
        trainer = build(model, run, max_steps=1, save_steps=100, save_total_limit=2)
        trainer.train()
        found = []
        for _ in range(rounds):
            trainer.state.global_step += 1
            started, cpu = time.perf_counter(), time.process_time()
            trainer._save_checkpoint(trainer.model, None)
            waited = time.perf_counter() - started
            trainer.settle()
            found.append((waited, time.perf_counter() - started, time.process_time() - cpu))
    waited, flushed, cpu = (statistics.median(column) for column in zip(*found, strict=True))
    return waited, flushed, cpu


def trl_alone(changes: dict[str, Any]) -> str:
    """``exact``, or what differs first between TRL's uninterrupted and its resumed run."""
    import torch
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from grpo_project.config import embedded_model_path

    def reward(completions: list[str], **_: Any) -> list[float]:
        return [hashlib.sha256(str(text).encode()).digest()[0] / 255 for text in completions]

    def build(folder: str) -> GRPOTrainer:
        settings = {
            "output_dir": folder,
            "per_device_train_batch_size": 4,
            "num_generations": 4,
            "gradient_accumulation_steps": 2,
            "max_completion_length": 6,
            "learning_rate": 1e-3,
            "max_steps": 6,
            "logging_steps": 1,
            "save_steps": 3,
            "bf16": False,
            "use_cpu": True,
            "gradient_checkpointing": False,
            "report_to": "none",
            "disable_tqdm": True,
            **changes,
        }
        data = Dataset.from_dict({"prompt": [f"Add {i} to x." for i in range(8)]})
        trainer = GRPOTrainer(
            model=str(embedded_model_path()), reward_funcs=reward, args=GRPOConfig(**settings), train_dataset=data
        )
        trainer.log_history_of_steps = lambda: [
            {k: v for k, v in row.items() if k != "step_time"} for row in trainer.state.log_history if "loss" in row
        ]
        return trainer

    with tempfile.TemporaryDirectory() as folder:
        whole, resumed = build(folder), build(folder)
        whole.train()
        resumed.train(resume_from_checkpoint=f"{folder}/checkpoint-{changes.get('save_steps', 3)}")
        if resumed.state.global_step != whole.state.global_step:
            return f"{resumed.state.global_step} steps instead of {whole.state.global_step}"
        same = all(torch.equal(w, resumed.model.state_dict()[name]) for name, w in whole.model.state_dict().items())
        if not same:
            return "other weights"
        return "exact" if whole.log_history_of_steps() == resumed.log_history_of_steps() else "other metrics"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-trl", action="store_true")
    arguments = parser.parse_args()
    console = Console()

    fresh, resumed = starts(arguments.rounds)
    save, step = saving()
    table = Table("what", "seconds", "ratio", "aim")
    table.add_row("command to first step, fresh", f"{fresh:.2f}", "", "")
    table.add_row("command to first step, resumed", f"{resumed:.2f}", f"{resumed / fresh:.2f}", "at most 1.2")
    table.add_row("a step of 16 completions", f"{step:.3f}", "", "")
    every = 25  # the embedded run's --save_steps
    share = save / (every * step + save)
    table.add_row("a save (4 MB model)", f"{save:.3f}", f"{share:.1%} of the time, saving every {every} steps", "")
    waited, flushed, cpu = one_save(2 * arguments.rounds + 1)
    detail = f"flushed after {flushed:.3f} s; {cpu:.3f} CPU s"
    table.add_row("a save (250 MB), training waits", f"{waited:.3f}", detail, "")
    console.print(table)

    if not arguments.skip_trl:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        table = Table("configuration", "TRL alone", title="Resumed against uninterrupted run")
        for name, changes in CONFIGURATIONS.items():
            table.add_row(name, trl_alone(changes))
        console.print(table)


if __name__ == "__main__":
    main()

"""Kills real training runs at random moments and compares what comes out with the run that was left alone.

    python tests/integration/chaos.py --kills 100        # what `make chaos` runs

Each run is the real command in a process of its own. The processes are forked from this one, which has loaded the
libraries: a start costs a second instead of six, so that a hundred kills fit into minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # forked children must find no thread pool
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from safetensors.numpy import load_file

from grpo_project.cli import main
from grpo_project.record.run_directory import Run
from grpo_project.record.samples import read_samples

SMALL = [
    *("--per_device_train_batch_size", "8", "--num_generations", "4", "--max_completion_length", "16"),
    *("--max_steps", "8", "--save_steps", "3", "--eval_every_n_steps", "4", "--max_eval_samples", "5"),
    *("--verifier_workers", "1", "--use_cpu"),
]
CONFIGURATIONS: dict[str, list[str]] = {
    "defaults": [],
    "gradient accumulation": ["--gradient_accumulation_steps", "2"],
    "num_iterations 2": ["--num_iterations", "2"],
    "mid-buffer checkpoint": ["--steps_per_generation", "8"],
    "short epochs": ["--dataset_path", "SIX_PROBLEMS", "--save_steps", "2"],
    "LoRA": ["--use_peft", "--lora_r", "4", "--lora_dropout", "0.1", "--lora_target_modules", "q_proj", "v_proj"],
    "stage changes": ["--curriculum_config", "EAGER_CURRICULUM"],
    "no curriculum": ["--enable_curriculum", "false"],
    "groups drawn anew": ["--max_resample", "2"],
    "TRL's own batches": ["--ragged_batches", "false"],
    "no evaluation": ["--eval_every_n_steps", "0"],
}
VOLATILE = ("seconds", "time", "_per_second", "runtime", "attempt", "memory/")


@dataclass
class Report:
    """What one chaotic run went through."""

    kills: int = 0
    starts: int = 0
    stops: int = 0
    where: dict[str, int] = field(default_factory=dict)


def start(argv: list[str], log: Path) -> int:
    """Fork a process that runs ``grpo train`` and return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = main(["train", *argv])
    except BaseException:  # noqa: BLE001 the child must not return into the parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_alone(argv: list[str], log: Path) -> None:
    """One uninterrupted run."""
    _, status = os.waitpid(start(argv, log), 0)
    if status != 0:
        raise AssertionError(f"the uninterrupted run ended with {status}: {log.read_text()[-2000:]}")


def run_under_fire(
    argv: list[str], output_dir: Path, log: Path, kills: int, rng: random.Random, soft: bool = False
) -> Report:
    """Start, kill, start again, until ``kills`` kills were made; then let it end.

    ``soft`` sends SIGTERM instead of SIGKILL, so that checkpoints of the signal's moment are resumed.
    """
    report = Report()
    while True:
        pid = start(argv, log)
        report.starts += 1
        if report.kills == kills:
            _, status = os.waitpid(pid, 0)
            if status != 0:
                raise AssertionError(f"start {report.starts} ended with {status}: {log.read_text()[-3000:]}")
            return report
        moment = rng.choice(MOMENTS)
        if moment(pid, output_dir, rng):
            os.kill(pid, signal.SIGTERM if soft else signal.SIGKILL)
            report.kills += 1
            report.where[moment.__name__] = report.where.get(moment.__name__, 0) + 1
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, -signal.SIGKILL, 75, 143, -signal.SIGTERM):
            raise AssertionError(f"start {report.starts} ended with {code}: {log.read_text()[-3000:]}")
        if code == 0 and not soft:
            # It finished before the moment came. To be killed again it needs something to do: begin anew.
            shutil.rmtree(output_dir)
        report.stops += code == 75


def at_any_time(pid: int, output_dir: Path, rng: random.Random) -> bool:
    """Somewhere between the start and the expected end."""
    return alive_after(pid, rng.uniform(0.3, 5.0))


def in_a_save(pid: int, output_dir: Path, rng: random.Random) -> bool:
    """While a checkpoint is being written beside."""
    return wait_for(pid, lambda: any((output_dir / ".staging").glob("checkpoint-*/*")), rng.uniform(0, 0.03))


def at_a_row(pid: int, output_dir: Path, rng: random.Random) -> bool:
    """Just as the journal has grown."""
    metrics = output_dir / "journal" / "metrics.jsonl"
    size = metrics.stat().st_size if metrics.exists() else 0
    grown = size + rng.randrange(1, 6000)
    return wait_for(pid, lambda: metrics.exists() and metrics.stat().st_size > grown, rng.uniform(0, 0.01))


MOMENTS: list[Callable[[int, Path, random.Random], bool]] = [at_any_time, in_a_save, at_a_row]


def wait_for(pid: int, condition: Callable[[], bool], then_s: float, limit_s: float = 60.0) -> bool:
    """Wait until ``condition`` holds, then ``then_s`` more; false if the process ended first."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if condition():
                return alive_after(pid, then_s)
        if not alive_after(pid, 0.001):
            return False
    return True


def alive_after(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while True:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        left = end - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, 0.02))


def differences(expected: Path, found: Path) -> list[str]:
    """Where two finished runs differ: weights, the journal's canonical rows, the canonical samples."""
    result = []
    name = "adapter_model.safetensors" if (expected / "adapter_model.safetensors").exists() else "model.safetensors"
    weights, others = load_file(expected / name), load_file(found / name)
    result += [f"weight {key}" for key in weights if weights[key].tobytes() != others[key].tobytes()]
    rows, other_rows = (
        [
            {k: v for k, v in row.items() if not any(part in k for part in VOLATILE)}
            for row in Run.open(folder).metrics()
        ]
        for folder in (expected, found)
    )
    if len(rows) != len(other_rows):
        result.append(f"{len(rows)} rows against {len(other_rows)}")
    for row, other in zip(rows, other_rows, strict=False):
        result += [f"step {row['step']} {row['kind']} {key}" for key in row if repr(row[key]) != repr(other.get(key))]
    result += sample_differences(expected, found)
    return result


def sample_differences(expected: Path, found: Path) -> list[str]:
    kept = ["step", "problem_id", "completion", "status", "passed", "reward", "advantage"]
    tables: list[list[dict[str, Any]]] = [read_samples(folder).select(kept).to_pylist() for folder in (expected, found)]
    return [] if tables[0] == tables[1] else ["samples"]


def prepare(folder: Path) -> dict[str, str]:
    """Files that configurations name."""
    import json

    problems = [
        {
            "id": f"p{i}",
            "prompt": f"Return x plus {i}.",
            "entry_point": "f",
            "tests": [{"args": [1], "expected": 1 + i}],
        }
        for i in range(6)
    ]
    (folder / "six.json").write_text(json.dumps(problems))
    stages = [
        {"name": level, "levels": [level], "threshold": 0, "min_evaluations": 1}
        for level in ("foundation", "elementary", "intermediate", "advanced", "expert")
    ]
    (folder / "eager.json").write_text(json.dumps({"stages": stages}))
    return {"SIX_PROBLEMS": str(folder / "six.json"), "EAGER_CURRICULUM": str(folder / "eager.json")}


def compare(name: str, folder: Path, kills: int, seed: int, soft: bool = False) -> Report:
    """Run a configuration twice, alone and under fire, and raise ``AssertionError`` if they differ."""
    files = prepare(folder)
    flags = [*SMALL, *(files.get(flag, flag) for flag in CONFIGURATIONS[name])]
    alone, fire = folder / "alone", folder / "fire"
    if not alone.exists():
        run_alone([*flags, "--output_dir", str(alone)], folder / "alone.log")
    rng = random.Random(f"{name}-{seed}-{soft}")
    report = run_under_fire([*flags, "--output_dir", str(fire)], fire, folder / "fire.log", kills, rng, soft)
    found = differences(alone, fire)
    assert not found, f"{name}, seed {seed}: the interrupted run differs in {found[:10]}"
    return report


def cli() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs in total, over all configurations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(CONFIGURATIONS))
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(CONFIGURATIONS)
    each = -(-arguments.kills // len(names))
    total = 0
    print(f"{'configuration':24} {'signal':8} {'kills':>5} {'starts':>6}  moments")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            for soft in (False, True):
                report = compare(name, Path(folder), 3 if soft else each, arguments.seed, soft)
                shutil.rmtree(Path(folder, "fire"))
                total += 0 if soft else report.kills
                label = "SIGTERM" if soft else "SIGKILL"
                print(f"{name:24} {label:8} {report.kills:5} {report.starts:6}  {report.where}", flush=True)
    print(f"{total} SIGKILLs: weights, canonical journal and samples equal the uninterrupted runs', bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(cli())

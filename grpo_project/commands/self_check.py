"""Check this installation by using it: the sandbox, and a small run that is killed and must end like one that was not.

With a W&B key, also that steps stay in sync with W&B across a kill. About half a minute of CPU time; exit code 1 if
anything is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from grpo_project.errors import ConfigError

FLAGS = [
    *("--max_steps", "4", "--save_steps", "1", "--per_device_train_batch_size", "8", "--max_completion_length", "24"),
    *("--eval_every_n_steps", "2", "--max_eval_samples", "4", "--verifier_workers", "1", "--report_to", "none"),
]
KILL_AT, PATIENCE_S = 2, 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", metavar="DIR", help="keep the two runs in a new folder")


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` if --keep names a folder that exists."""
    from grpo_project.tracking import self_check
    from grpo_project.tracking.settings import find_mode

    if args.keep and Path(args.keep).exists():
        raise ConfigError(f"--keep {args.keep}: exists already; name a new folder")
    print("sandbox", flush=True)
    faults = [subprocess.run([*grpo(), "verify", "--selftest"], check=False).returncode != 0]
    with tempfile.TemporaryDirectory() as scratch:
        faults.append(not resumes_exactly(Path(args.keep or scratch)))
    mode = find_mode()
    if mode.name == "online":
        print("\nW&B", flush=True)
        faults.append(self_check.main([]) != 0)
    else:
        print(f"\nW&B is {mode.name} here ({mode.reason}): not checked")
    print("\nsomething is wrong" if any(faults) else "\nall is well")
    return int(any(faults))


def resumes_exactly(folder: Path) -> bool:
    """Whether a run that is killed at step ``KILL_AT`` ends with the weights of one that is left alone."""
    print("\nresume", flush=True)
    whole, cut = folder / "whole", folder / "killed"
    for target in (whole, cut):
        command = [*grpo(), "train", *FLAGS, "--output_dir", str(target)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            killed = target == cut and kill_at_step(process, target / "journal" / "metrics.jsonl")
        if process.returncode != 0 and not killed:
            print(f"  a run of four steps ended with exit code {process.returncode}")
            return False
    if subprocess.run([*grpo(), "resume", str(cut)], stdout=subprocess.DEVNULL, check=False).returncode != 0:
        print("  the killed run could not go on")
        return False
    hashes = [hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()[:16] for run in (whole, cut)]
    same = hashes[0] == hashes[1]
    print(
        f"  four steps: weights {hashes[0]}; killed with SIGKILL and resumed: {hashes[1]}" + ("" if same else " DIFFER")
    )
    return same


def kill_at_step(process: subprocess.Popen[bytes], journal: Path) -> bool:
    """SIGKILL once the journal has the row of ``KILL_AT``; false if the process ended before."""
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        if journal.is_file() and f'"step":{KILL_AT},' in journal.read_text(encoding="utf-8", errors="replace"):
            process.kill()
            return True
        time.sleep(0.02)
    return False


def grpo() -> list[str]:
    return [sys.executable, "-m", "grpo_project.cli"]

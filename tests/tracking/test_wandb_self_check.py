"""``python test_wandb_sync.py`` as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "test_wandb_sync.py"


def run(*arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | variables
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250)


def test_the_loopback_check_passes_and_says_what_it_saw():
    done = run("--loopback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "steps 1 to 37, then SIGKILL; last checkpoint at step 20" in done.stdout
    assert "self-check: 60 rows, steps 1 to 60" in done.stdout
    assert done.stdout.endswith("every step exactly once, every value right\n")


def test_without_a_key_it_says_what_to_do(tmp_path):
    done = run(HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("Run `wandb login`, or check with --loopback\n")

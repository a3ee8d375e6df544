"""``python test_wandb_sync.py``: a short run that is killed and resumed, compared with what W&B then shows.

Exit codes: 0 every step is there exactly once; 1 it is not; 2 there is no W&B to check against.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from grpo_project.errors import TrackingError

STEPS = 60
KILL_AT = 37
CHECKPOINT_EVERY = 20
PROJECT = "grpo-self-check"


def main(argv: Sequence[str], loopback: Callable[[], Any] | None = None) -> int:
    """``loopback`` makes the stand-in server for ``--loopback``: a context manager with ``environment``."""
    parser = argparse.ArgumentParser(prog="test_wandb_sync.py", description="Check that steps stay in sync with W&B.")
    if loopback is not None:
        parser.add_argument("--loopback", action="store_true", help="against a stand-in server on this machine")
    parser.add_argument("--policy", choices=("new", "same"), default="same", help="how the resumed run goes on (same)")
    parser.add_argument("--project", default=PROJECT, help=f"W&B project ({PROJECT})")
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)  # the child process: the run directory
    arguments = parser.parse_args(argv)
    if arguments.loop is not None:
        return loop(arguments.loop, arguments.project, arguments.policy)
    with contextlib.ExitStack() as stack:
        if loopback is not None and arguments.loopback:
            os.environ.update(stack.enter_context(loopback()).environment)
        try:
            return check(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run", arguments)
        except TrackingError as error:
            print(f"test_wandb_sync.py: {error}", file=sys.stderr)
            return 2


def check(folder: Path, arguments: argparse.Namespace) -> int:
    from grpo_project.tracking.settings import base_url, find_mode

    mode = find_mode()
    if mode.name != "online":
        raise TrackingError(f"W&B is {mode.name} here ({mode.reason}). Run `wandb login`, or check with --loopback")
    print(f"server            {base_url()}")
    killed = run_loop(folder, arguments, kill_at=KILL_AT)
    print(f"first attempt     steps 1 to {killed}, then SIGKILL; last checkpoint at step {checkpoint(folder)}")
    resumed = checkpoint(folder)
    last = run_loop(folder, arguments)
    print(f"second attempt    steps {resumed + 1} to {last}, resumed with policy {arguments.policy}")
    return report(folder)


def run_loop(folder: Path, arguments: argparse.Namespace, kill_at: int | None = None) -> int:
    """Run the loop in a process of its own, killed after the step ``kill_at``; returns its last step."""
    command = [sys.executable, "-m", "grpo_project.tracking.self_check", "--loop", str(folder)]
    command += ["--project", arguments.project, "--policy", arguments.policy]
    step = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            step = int(line)
            if step == kill_at:
                process.send_signal(signal.SIGKILL)
        code = process.wait()
    if code not in (0, -signal.SIGKILL):
        raise TrackingError(f"the loop ended with exit code {code}")
    return step


def loop(folder: Path, project: str, policy: str) -> int:
    """What a training script does: resume, log each step, checkpoint."""
    from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log

    start = checkpoint(folder)
    manager = initialize_wandb_sync_manager(folder, project, "self-check", resume=policy, resume_step=start)
    for step in range(start + 1, STEPS + 1):
        safe_wandb_log({"loss": 1 / step}, step)
        safe_wandb_log({"reward": step / STEPS}, step)
        if step % CHECKPOINT_EVERY == 0:
            folder.joinpath("step.txt").write_text(str(step))
        print(step, flush=True)
        time.sleep(0.1)
    manager.finish(timeout_s=120)
    return 0


def checkpoint(folder: Path) -> int:
    path = folder / "step.txt"
    return int(path.read_text()) if path.exists() else 0


def report(folder: Path) -> int:
    """Read the server's history and the journal, print both, judge."""
    from grpo_project.record.run_directory import Run
    from grpo_project.tracking.state import sync_status

    status = sync_status(folder)
    journal = [row["step"] for row in Run.open(folder).metrics()]
    print(f"expected          {len(journal)} steps, 1 to {STEPS}, each once")
    print(f"sent              {status['delivered']} rows, {status['confirmed']} confirmed by the server")
    faults = [] if sorted(set(journal)) == list(range(1, STEPS + 1)) else ["the journal lacks steps"]
    faults += [status["last_error"]] if status["last_error"] else []
    newest: dict[int, dict[str, Any]] = {}
    for segment in status["segments"]:
        rows = read_history(segment)
        steps = [int(row["_step"]) for row in rows]
        print(
            f"read back         {segment['name']}: {len(steps)} rows, steps {steps[0]} to {steps[-1]}  {segment['url']}"
        )
        faults += [f"{segment['name']} has {len(steps) - len(set(steps))} steps twice"] * (len(set(steps)) < len(steps))
        newest.update(zip(steps, rows, strict=True))
    missing = sorted(set(range(1, STEPS + 1)) - newest.keys())
    wrong = [step for step, row in newest.items() if row["_trainer_step"] != step or abs(row["loss"] - 1 / step) > 1e-9]
    faults += [f"missing on the server: {missing}"] * bool(missing) + [f"wrong values at {wrong}"] * bool(wrong)
    print("verdict           " + ("; ".join(faults) if faults else "every step exactly once, every value right"))
    return 1 if faults else 0


def read_history(segment: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of one W&B run as the real client's public interface reads them."""
    import wandb

    entity = segment["url"].split("/")[-4]
    run = wandb.Api(timeout=30).run(f"{entity}/{segment['project']}/{segment['run_id']}")
    return list(run.scan_history(use_cache=False))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

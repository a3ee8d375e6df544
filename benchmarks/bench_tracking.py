"""What tracking costs a trainer, and what arrives: this project beside the plain W&B client, in the same run.

    python benchmarks/bench_tracking.py            both tables
    python benchmarks/bench_tracking.py --rounds 3 --rows 1000

Cost: microseconds of one call with 30 scalars, back to back, each variant in a process of its own, rounds interleaved;
the middle of the rounds is shown. Delivery: steps 1 to 40 are expected on the server, once each.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loopback import LoopbackRun, LoopbackServer

OURS = """
import json, sys, time
from grpo_project.tracking.settings import Pace
from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log
folder, first, last, resumed, pause = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
began = time.perf_counter()
pace = Pace(confirm_s=0.5, stall_s=4, backoff_s=0.5)
manager = initialize_wandb_sync_manager(folder, "bench", resume="same", resume_step=resumed, pace=pace)
start = time.perf_counter() - began
def log(values, step):
    safe_wandb_log(values, step)
def finish():
    manager.finish(timeout_s=30)
"""
PLAIN = """
import json, sys, time
import wandb
folder, first, last, resumed, pause = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
began = time.perf_counter()
settings = wandb.Settings(silent=True, console="off", finish_timeout=30)
run = wandb.init(project="bench", id="plain", resume="allow", dir=folder, settings=settings)
start = time.perf_counter() - began
def log(values, step):
    HOW
def finish():
    run.finish()
"""
BY_STEP = "run.log(values, step=step)"
BY_METRIC = 'run.log({**values, "train/global_step": step})'  # what transformers' WandbCallback does
LOOP = """
row = {f"metric/{i}": i * 0.37 for i in range(29)}
times = []
for step in range(first, last + 1):
    values = {**row, "loss": 1 / step}
    before = time.perf_counter()
    log(values, step)
    times.append(time.perf_counter() - before)
    time.sleep(pause)
    if "--die" in sys.argv and step == last:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
ended = time.perf_counter()
finish()
print(json.dumps({"times": times, "start": start, "finish": time.perf_counter() - ended}))
"""


def child(code: str, folder: Path, environment: dict[str, str], *arguments: object) -> dict | None:
    """Run one training process; None when it died or gave no answer."""
    command = [sys.executable, "-c", code + LOOP, str(folder), *map(str, arguments)]
    environment = {**os.environ, **environment}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=150)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def cost(rounds: int, rows: int) -> None:
    plain, offline = PLAIN.replace("HOW", BY_STEP), {"WANDB_MODE": "offline"}
    variants = {
        "grpo_project, offline": (OURS, offline, False),
        "grpo_project, online": (OURS, {}, False),
        "grpo_project, server unreachable": (OURS, {}, True),
        "wandb, disabled": (plain, {"WANDB_MODE": "disabled"}, False),
        "wandb, offline": (plain, offline, False),
        "wandb, online": (plain, {}, False),
    }
    figures: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, (code, extra, unreachable) in variants.items():
            with LoopbackServer() as server, tempfile.TemporaryDirectory() as folder:
                environment = {**server.environment, **extra}
                if unreachable:
                    server.refuse()
                found = child(code, Path(folder), environment, 1, rows, 0, 0)
                if found is not None:
                    ordered = sorted(found["times"])
                    tail = ordered[int(len(ordered) * 0.99)]
                    figures[name].append((statistics.median(ordered), tail, ordered[-1], found["start"]))
    base = statistics.median(entry[0] for entry in figures["wandb, offline"])
    print(f"cost of a row of 30 scalars, {rows} rows back to back, middle of {rounds} rounds")
    print(f"{'':34}{'p50 us':>9}{'p99 us':>9}{'worst ms':>10}{'start ms':>10}{'p50 / wandb offline':>21}")
    for name, entries in figures.items():
        p50, p99, worst, start = (statistics.median(entry[i] for entry in entries) for i in range(4))
        print(f"{name:34}{p50 * 1e6:9.0f}{p99 * 1e6:9.0f}{worst * 1e3:10.1f}{start * 1e3:10.1f}{p50 / base:21.2f}")


def killed_and_resumed(code: str, folder: Path, server: LoopbackServer) -> None:
    child(code, folder, server.environment, 1, 30, 0, 0.02, "--die")
    child(code, folder, server.environment, 21, 40, 20, 0.02)


def stopped_and_resumed(code: str, folder: Path, server: LoopbackServer) -> None:
    child(code, folder, server.environment, 1, 30, 0, 0.02)
    child(code, folder, server.environment, 21, 40, 20, 0.02)


def one_404(code: str, folder: Path, server: LoopbackServer) -> None:
    server.fault("404", scope="file_stream")
    child(code, folder, server.environment, 1, 40, 0, 0.1)


def unreachable_at_start(code: str, folder: Path, server: LoopbackServer) -> None:
    server.refuse()
    child(code, folder, server.environment, 1, 40, 0, 0)
    server.listen()
    if code is OURS:
        command = [sys.executable, "-m", "grpo_project.cli", "sync", str(folder)]
        subprocess.run(command, env={**os.environ, **server.environment}, capture_output=True, timeout=120)


CASES = {
    "SIGKILL at 30, resumed from 20": killed_and_resumed,
    "stopped at 30, resumed from 20": stopped_and_resumed,
    "one 404 on the history stream": one_404,
    "server unreachable for the whole run": unreachable_at_start,
}


def delivery() -> None:
    clients = {
        "wandb, step=": PLAIN.replace("HOW", BY_STEP),
        "wandb, as transformers logs": PLAIN.replace("HOW", BY_METRIC),
        "grpo_project": OURS,
    }
    print(f"\n{'steps 1 to 40 expected once':40}{'':30}{'missing':>8}{'doubled':>8}{'seconds':>9}")
    for case, act in CASES.items():
        for name, code in clients.items():
            with LoopbackServer() as server, tempfile.TemporaryDirectory() as folder:
                began = time.monotonic()
                act(code, Path(folder), server)
                seen = collections.Counter(step for run in server.runs.values() for step in trainer_steps(run))
                doubled = sum(count > 1 for count in seen.values())
                missing = len(set(range(1, 41)) - seen.keys())
                print(f"{case:40}{name:30}{missing:8}{doubled:8}{time.monotonic() - began:9.1f}", flush=True)


def trainer_steps(run: LoopbackRun) -> list[int]:
    """The trainer's step of each row, however the client told it."""
    return [row.get("_trainer_step", row.get("train/global_step", row["_step"])) for row in run.history]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000)
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    cost(arguments.rounds, arguments.rows)
    delivery()
    return 0


if __name__ == "__main__":
    sys.exit(main())

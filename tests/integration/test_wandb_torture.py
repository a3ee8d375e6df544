"""Every step exactly once, whatever dies: the real client, a loopback server, kills and faults of every kind."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from loopback import API_KEY, LoopbackServer

from grpo_project.record.run_directory import Run
from grpo_project.tracking.processes import children, command_line

SUPPORT = Path(__file__).parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from tracked_loop import expected_row  # noqa: E402

PACE = {
    "confirm_s": 0.5,
    "stall_s": 3,
    "silence_s": 10,
    "backoff_s": 0.5,
    "backoff_max_s": 2,
    "backup_s": 2,
    "init_s": 10,
    "finish_s": 5,
}
FAULTS = [("500", 4), ("503", 2), ("401", 1), ("403", 1), ("404", 1), ("409", 1), ("413", 1), ("drop", 3)]
FAULTS += [("hang", 1), ("ack_lost", 3), ("delay", 2)]


class Torture:
    """Runs the loop to its end, killing and breaking things at steps drawn from a seed."""

    def __init__(self, folder: Path, server: LoopbackServer, policy: str, steps: int, step_s: float) -> None:
        self.folder, self.server, self.policy, self.steps = folder, server, policy, steps
        self.step_s = step_s
        self.random = random.Random(steps)
        self.done: Counter[str] = Counter()

    def plan(self, uploader_kills: int, trainer_kills: int, faults: int) -> dict[int, list]:
        """What happens at which step."""
        kills = ["delivery", "uploader", "core", "freeze"]
        actions = [("kill", kills[i % len(kills)]) for i in range(uploader_kills)]
        actions += [("fault", FAULTS[i % len(FAULTS)]) for i in range(faults)]
        actions += [("refuse", None)]
        self.random.shuffle(actions)
        at: dict[int, list] = {}
        for number, action in enumerate(actions):
            at.setdefault(10 + number * (self.steps - 20) // len(actions), []).append(action)
        for number in range(trainer_kills):
            at.setdefault((number + 1) * self.steps // (trainer_kills + 1) + 7, []).append(("trainer", None))
        return at

    def run(self, plan: dict[int, list]) -> dict:
        """The status that the last attempt printed."""
        while True:
            command = [sys.executable, SUPPORT / "tracked_loop.py", self.folder, str(self.steps)]
            command += ["--policy", self.policy, "--pace", json.dumps(PACE), "--timeout-s", "120"]
            command += ["--step-s", str(self.step_s)]
            environment = {**os.environ, **self.server.environment}
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as loop:
                for line in loop.stdout:
                    if line.startswith("{"):
                        status = json.loads(line)
                    for action in plan.pop(int(line), ()) if line.strip().isdigit() else ():
                        self.act(loop, *action)
                if loop.wait() == 0:
                    return status
                assert loop.returncode == -signal.SIGKILL

    def act(self, loop: subprocess.Popen, what: str, which) -> None:
        if what == "trainer":
            loop.kill()
        elif what == "fault":
            self.server.fault(which[0], which[1], scope="file_stream")
        elif what == "refuse":
            self.server.refuse()
            threading.Timer(2.0, self.server.listen).start()
        else:
            self.kill(which)
            return
        self.done[what] += 1

    def kill(self, which: str) -> None:
        uploaders = self.find("tracking.uploader")
        deliveries = self.find("tracking.delivery")
        cores = [pid for delivery in deliveries for pid in children(delivery)]
        number = signal.SIGSTOP if which == "freeze" and cores else signal.SIGKILL
        targets = {"uploader": uploaders, "delivery": deliveries, "core": cores, "freeze": cores}[which]
        for pid in targets or uploaders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                self.done["uploader killed"] += 1

    def find(self, module: str) -> list[int]:
        commands = {int(folder.name): command_line(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")}
        return [pid for pid, command in commands.items() if module in command and str(self.folder) in command]


def check(torture: Torture, status: dict, trainer_kills: int) -> None:
    """Every step once, with the right values, in the journal and on the server."""
    run = Run.open(torture.folder)
    assert run.damage == []
    canonical: dict[int, dict] = {}
    for row in run.metrics():
        canonical.setdefault(row["step"], {"_trainer_step": row["step"]}).update(values_of(row))
    assert canonical == {step: expected_row(step) for step in range(1, torture.steps + 1)}
    assert (status["state"], status["pending"]) == ("complete", 0), status
    assert {segment["read_back"] for segment in status["segments"]} == {"exact"}
    assert not (torture.folder / "wandb_backup").exists()
    last: dict[int, dict] = {}
    for segment in status["segments"]:
        sent = torture.server.run(segment["run_id"])
        assert (sent.overwritten, len(sent.steps)) == ([], len(set(sent.steps)))
        assert sent.state == "finished"
        first = (segment["branch_step"] or 0) + 1
        assert sent.steps == list(range(first, sent.steps[-1] + 1))
        last.update((row["_step"], values_of(row)) for row in sent.history)
    assert last == canonical
    assert len(status["segments"]) == (1 if torture.policy == "same" else 1 + trainer_kills)
    for path in torture.folder.rglob("*"):
        assert not path.is_file() or API_KEY.encode() not in path.read_bytes(), path


def values_of(row: dict) -> dict:
    hidden = {"attempt", "step", "time", "kind", "_step", "_runtime", "_timestamp"}
    return {key: value for key, value in row.items() if key not in hidden}


@pytest.mark.parametrize("policy", ["same", "new"])
def test_a_short_torture(tmp_path, policy):
    with LoopbackServer() as server:
        torture = Torture(tmp_path / "run", server, policy, steps=150, step_s=0.04)
        plan = torture.plan(uploader_kills=2, trainer_kills=1, faults=2)
        status = torture.run(plan)
        check(torture, status, trainer_kills=1)
        assert torture.done["trainer"] == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("line_count", ["real", "zero"])
@pytest.mark.parametrize("policy", ["same", "new"])
def test_the_long_torture(tmp_path, policy, line_count):
    with LoopbackServer(line_count=line_count) as server:
        torture = Torture(tmp_path / "run", server, policy, steps=500, step_s=0.1)
        plan = torture.plan(uploader_kills=8, trainer_kills=2, faults=len(FAULTS))
        status = torture.run(plan)
        check(torture, status, trainer_kills=2)
        assert torture.done["uploader killed"] >= 8
        assert torture.done["trainer"] == 2
        assert sum(server.hits.values()) >= 10

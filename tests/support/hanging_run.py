"""A real short run that hangs in its third step: ``hanging_run.py PLACE FOLDER KIND MODEL``.

KIND ``python`` waits where a signal can interrupt it; ``native`` holds signals off, as native code does that waits for
ever.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from short_runs import HashJudge, build

from grpo_project.training.stop_request import StopRequest
from grpo_project.training.watchdog import INTERRUPT, Watchdog
from grpo_project.verifier.verdict import Job

place, folder, kind = sys.argv[1], Path(sys.argv[2]), sys.argv[3]


def stand_still() -> None:
    if kind == "native":
        signal.pthread_sigmask(signal.SIG_BLOCK, [INTERRUPT])
    time.sleep(600)


def at_third_step() -> bool:
    return trainer.state.global_step == 2


class HangingJudge(HashJudge):
    def stream(self, jobs: Sequence[Job]) -> Any:
        for verdict in super().stream(jobs):
            if place == "verification" and at_third_step():
                stand_still()
            yield verdict


def tell(event: str, **fields: Any) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write(json.dumps({"event": event, **fields}) + "\n")


def hang_in_forward(*_: Any) -> None:
    if place == "generation" and at_third_step() and trainer.phases.open[-1] == "generation":
        stand_still()


class HangingState:
    def state_dict(self) -> dict[str, Any]:
        if place == "save" and trainer.state.global_step == 3 and trainer.phases.open[-1:] == ("save",):
            stand_still()
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


every = 100 if kind == "python" and place != "save" else 1  # where the hang itself is to save, nothing else does

with StopRequest(grace_s=4.0) as stop:
    trainer = build(Path(sys.argv[4]), folder, stop, save_steps=every, components={"hanging": HangingState()})
    trainer.judge = HangingJudge()
    trainer.model.register_forward_hook(hang_in_forward)
    with Watchdog(
        trainer.phases, stop, stall_after_s=3.0, exit_on_hang=True, tell=tell, interrupt=trainer.leave_hang, every_s=0.1
    ):
        trainer.train()
    print(f"left at step {trainer.state.global_step}: {stop.reason}")
    sys.exit(stop.exit_code)

import json
import multiprocessing
import os
import random
import signal
from collections import Counter

import pytest
from killed_training import train

from grpo_project.record.evaluations import read_evaluations

STEPS, EVERY = 7, 2
DUE = [0, 2, 4, 6, 7]
MAX_KILLS = 4


@pytest.fixture(scope="module")
def processes():
    """Children start from a process that has imported torch and transformers already, and run nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "datasets", "trl"])
    return context


def numbers(folder):
    history = json.loads((folder / "final.json").read_text())["log_history"]
    rows = [row for row in history if "inference/step" in row]
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def run_whole(processes, folder, model):
    process = processes.Process(target=train, args=(str(folder), str(model), STEPS, EVERY))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def test_evaluations_killed_at_random_moments_end_complete_and_single(processes, tmp_path, tiny_model):
    run_whole(processes, tmp_path / "whole", tiny_model)
    folder, chance, kills = tmp_path / "killed", random.Random(2), 0
    for _ in range(MAX_KILLS):
        process = processes.Process(target=train, args=(str(folder), str(tiny_model), STEPS, EVERY))
        process.start()
        process.join(chance.uniform(0.3, 1.5))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
    run_whole(processes, folder, tiny_model)
    assert kills >= 1
    assert numbers(folder) == numbers(tmp_path / "whole")
    assert [row["step"] for row in numbers(folder)] == DUE
    columns = ("step", "problem_id", "sample", "completion", "passed")
    killed, whole = (
        [tuple(row[name] for name in columns) for row in read_evaluations(place).to_pylist()]
        for place in (folder, tmp_path / "whole")
    )
    assert killed == whole
    assert Counter(row[0] for row in killed) == dict.fromkeys(DUE, 8)

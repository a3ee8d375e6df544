"""A run whose verification is on a Ray cluster ends in the same weights as a local one, also with a raylet killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore")]
STEPS = 10


def start(folder: Path, *flags: str) -> subprocess.Popen[bytes]:
    settings = ["--max_steps", str(STEPS), "--eval_every_n_steps", "5", "--report_to", "none", "--seed", "4"]
    command = [sys.executable, "-m", "grpo_project.cli", "train", "--output_dir", str(folder), *settings, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, env=environment)


def steps_done(folder: Path) -> int:
    journal = folder / "journal" / "metrics.jsonl"
    return journal.read_text().count('"kind":"train"') if journal.exists() else 0


def test_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        raylet = cluster.add_node(**node)
        run = start(tmp_path / "cluster", "--verifier_address", cluster.address)
        while steps_done(tmp_path / "cluster") < 3:
            assert run.poll() is None
            time.sleep(0.05)
        cluster.remove_node(raylet, allow_graceful=False)
        assert run.wait() == 0
    finally:
        cluster.shutdown()
    assert start(tmp_path / "local").wait() == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("cluster", "local")]
    assert weights[0] == weights[1]
    (attempt,) = json.loads((tmp_path / "cluster" / "run.json").read_text())["attempts"]
    assert len(attempt["verifier_nodes"]) == 2 and set(attempt["verifier_nodes"].values()) == {attempt["isolation"]}

"""The GPU's benchmark says in one line that there is no GPU, and how a run is measured holds on a CPU too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parent.parent.parent / "benchmarks" / "bench_gpu.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so the benchmark would run")
def test_without_a_gpu_it_refuses_in_one_line() -> None:
    done = subprocess.run([sys.executable, str(BENCH)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == (
        "bench_gpu: no CUDA device here; every figure of this benchmark is a GPU's, so there is none\n"
    )

"""Every Python block of docs/library.md runs, in order, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROBLEM = (
    '{"id": "clip-1", "prompt": "Clip x to the range lo..hi.", "entry_point": "clip", '
    '"solution": "def clip(x, lo, hi):\\n    return max(lo, min(x, hi))", '
    '"tests": [{"args": [5, 0, 3], "expected": 3}, {"args": [-1, 0, 3], "expected": 0}]}\n'
)


def test_the_examples_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)^```", (ROOT / "docs/library.md").read_text(encoding="utf-8"), re.S | re.M)
    assert len(blocks) >= 7
    (tmp_path / "problems.jsonl").write_text(PROBLEM)
    (tmp_path / "examples.py").write_text("\n".join(blocks))
    environment = {**os.environ, "WANDB_MODE": "offline", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "examples.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "passed 2 2 1.0" in done.stdout
    assert "finished 2" in done.stdout
    assert "'reward'" in done.stdout

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from grpo_project.core.evaluations import read_evaluations

HERE = Path(__file__).parent


def run_on_ranks(script, world, folder, *arguments):
    """Run ``script`` on ``world`` processes and return what each rank wrote."""
    folder.mkdir(exist_ok=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={world}", "--standalone"]
    command = [*launcher, str(HERE / script), str(folder), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(world)]


def train(folder, model, world, fail_on_rank=-1, bind="no"):
    return run_on_ranks("distributed_training.py", world, folder, model, fail_on_rank, bind)


@pytest.mark.slow
@pytest.mark.parametrize("bind", ["bind", "no"])
def test_two_ranks_share_an_evaluation_and_see_the_same_as_one(tmp_path, tiny_model, bind):
    (alone,) = train(tmp_path / "one", tiny_model, 1)
    first, second = train(tmp_path / "two", tiny_model, 2, bind=bind)
    assert first["world"] == second["world"] == 2
    assert first["results"] == second["results"]
    assert [step for step, _, _ in first["results"]] == [0, 1, 2]
    assert first["results"][0] == alone["results"][0]  # before training: the same weights
    columns = ("problem_id", "completion", "passed")
    before = [
        [tuple(row[name] for name in columns) for row in read_evaluations(place).to_pylist() if row["step"] == 0]
        for place in (tmp_path / "one", tmp_path / "two")
    ]
    assert before[0] == before[1]
    assert Counter(read_evaluations(tmp_path / "two")["step"].to_pylist()) == {0: 5, 1: 5, 2: 5}


@pytest.mark.slow
def test_a_verifier_that_fails_on_one_rank_fails_the_evaluation_on_all_and_none_hangs(tmp_path, tiny_model):
    first, second = train(tmp_path, tiny_model, 2, fail_on_rank=1)
    assert first["results"] == second["results"]
    assert [step for step, _, _ in first["results"]] == [0, 2]
    assert [failure["step"] for failure in first["failures"]] == [1]
    assert first["failures"] == second["failures"]


@pytest.mark.slow
def test_ranks_that_share_the_weights_generate_in_lockstep(tmp_path, tiny_model):
    shares = run_on_ranks("sharded_generation.py", 2, tmp_path, tiny_model)
    work = sorted((problem, sample) for share in shares for problem, sample, _ in share)
    assert work == sorted((f"p{i}", sample) for i in range(5) for sample in range(4))
    assert len({tokens for share in shares for _, _, tokens in share}) > 5  # so the ranks did end at different times

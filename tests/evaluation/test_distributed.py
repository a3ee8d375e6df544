import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from grpo_project.record.evaluations import read_evaluations

HERE = Path(__file__).parent


def run_on_ranks(script, world, folder, *arguments):
    """Run ``script`` on ``world`` processes and return what each rank wrote."""
    folder.mkdir(exist_ok=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={world}", "--standalone"]
    command = [*launcher, str(HERE / script), str(folder), *map(str, arguments)]
    on_cpus = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=on_cpus)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(world)]


def train(folder, model, world, kind="ddp", trouble="none", bind="bind"):
    return run_on_ranks("distributed_training.py", world, folder, model, kind, trouble, bind)


def kept(folder, columns=("problem_id", "completion", "passed")):
    """The evaluated completions before training."""
    return [tuple(row[name] for name in columns) for row in read_evaluations(folder).to_pylist() if row["step"] == 0]


@pytest.mark.slow
@pytest.mark.parametrize("bind", ["bind", "no"])
def test_two_ranks_share_an_evaluation_and_see_the_same_as_one(tmp_path, tiny_model, bind):
    (alone,) = train(tmp_path / "one", tiny_model, 1, bind="no")
    first, second = train(tmp_path / "two", tiny_model, 2, bind=bind)
    assert first["world"] == second["world"] == 2
    assert first["results"] == second["results"]
    assert [step for step, _, _ in first["results"]] == [0, 1, 2]
    assert first["results"][0] == alone["results"][0]  # before training: the same weights
    assert kept(tmp_path / "one") == kept(tmp_path / "two")
    assert Counter(read_evaluations(tmp_path / "two")["step"].to_pylist()) == {0: 5, 1: 5, 2: 5}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_a_verifier_that_fails_on_one_rank_fails_the_evaluation_on_all_and_none_hangs(tmp_path, tiny_model, kind):
    first, second = train(tmp_path, tiny_model, 2, kind, trouble="judge")
    assert first["results"] == second["results"]
    assert [step for step, _, _ in first["results"]] == [0, 2]
    assert [failure["step"] for failure in first["failures"]] == [1]
    assert first["failures"] == second["failures"]


@pytest.mark.slow
def test_where_one_rank_runs_out_of_memory_all_go_on_in_smaller_batches(tmp_path, tiny_model):
    first, second = train(tmp_path / "short", tiny_model, 2, trouble="memory")
    assert [step for step, _, _ in first["results"]] == [0, 1, 2]
    assert first["results"] == second["results"]
    assert first["failures"] == []
    plenty, _ = train(tmp_path / "plenty", tiny_model, 2)
    assert first["results"] == plenty["results"]
    assert first["losses"] == plenty["losses"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsdp1", "fsdp2"])
def test_sharded_weights_give_the_same_rates_and_training_does_not_notice(tmp_path, tiny_model, kind):
    whole, _ = train(tmp_path / "whole", tiny_model, 2)
    sharded = train(tmp_path / "sharded", tiny_model, 2, kind)
    alone = train(tmp_path / "alone", tiny_model, 2, kind, bind="without")
    assert [rank["results"] for rank in sharded] == [whole["results"]] * 2
    assert kept(tmp_path / "sharded") == kept(tmp_path / "whole")
    for with_it, without in zip(sharded, alone, strict=True):
        assert without["size"] < whole["size"]  # it is sharded
        assert [with_it[name] for name in ("losses", "weights", "size")] == [
            without[name] for name in ("losses", "weights", "size")
        ]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")
def test_zero_3_gives_the_same_rates_and_training_does_not_notice(tmp_path, tiny_model):
    whole, _ = train(tmp_path / "whole", tiny_model, 2)
    first, second = train(tmp_path / "sharded", tiny_model, 2, "zero3")
    alone, _ = train(tmp_path / "alone", tiny_model, 2, "zero3", bind="without")
    assert first["world"] == 2
    assert [step for step, _, _ in first["results"]] == [0, 1, 2]
    assert first["results"] == second["results"]
    assert first["results"][0] == whole["results"][0]  # later ones are of DeepSpeed's own optimizer
    assert kept(tmp_path / "sharded") == kept(tmp_path / "whole")
    assert (first["losses"], first["weights"]) == (alone["losses"], alone["weights"])
    assert first["size"] == alone["size"] == whole["size"]


@pytest.mark.slow
def test_ranks_that_share_the_weights_generate_in_lockstep(tmp_path, tiny_model):
    shares = run_on_ranks("sharded_generation.py", 2, tmp_path, tiny_model)
    work = sorted((problem, sample) for share in shares for problem, sample, _ in share)
    assert work == sorted((f"p{i}", sample) for i in range(5) for sample in range(4))
    assert len({tokens for share in shares for _, _, tokens in share}) > 5  # so the ranks did end at different times

"""Generates with weights sharded by FSDP 2 over the ranks that torchrun starts; writes ``FOLDER/rank-N.json``."""

import json
import sys
from pathlib import Path


def main(folder, model_path):
    import torch
    from judging import HashJudge, make_problems
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from grpo_project.evaluation.evaluator import Evaluator
    from grpo_project.generation.generator import generation_mode

    torch.distributed.init_process_group("gloo")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    model = AutoModelForCausalLM.from_pretrained(model_path)
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model.generation_config.eos_token_id = list(range(1, 30))  # many end tokens make completions of many lengths
    mesh = torch.distributed.init_device_mesh("cpu", (world,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    evaluator = Evaluator(make_problems(5), tokenizer, HashJudge(), num_samples=4, max_new_tokens=60, batch_size=3)
    with generation_mode(model) as ready:
        records = evaluator.run(ready, 0, rank=rank, world=world, in_lockstep=True).records
    Path(folder, f"rank-{rank}.json").write_text(json.dumps([[r.problem_id, r.sample, r.tokens] for r in records]))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

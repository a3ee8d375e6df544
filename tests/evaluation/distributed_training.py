"""Trains on the ranks that torchrun starts and writes what each of them saw to ``FOLDER/rank-N.json``.

    distributed_training.py FOLDER MODEL KIND TROUBLE BIND

KIND is ``ddp``, ``fsdp1``, ``fsdp2`` or ``zero3`` (DeepSpeed); TROUBLE is what befalls the second rank: ``judge``,
``memory`` or ``none``; BIND is ``bind``, ``no``, or ``without`` for no evaluations at all.
"""

import hashlib
import json
import sys
from pathlib import Path

MAX_STEPS = 2


def training_arguments(folder, kind):
    import torch
    from accelerate.utils import DistributedType
    from transformers import TrainingArguments

    settings = {"use_cpu": True, "ddp_backend": "gloo"}
    if kind == "zero3":
        optimizer = {"type": "AdamW", "params": {"lr": 1e-2, "torch_adam": True}}
        stage = {"stage": 3, "stage3_param_persistence_threshold": 0, "stage3_gather_16bit_weights_on_model_save": True}
        config = {"zero_optimization": stage, "optimizer": optimizer, "train_micro_batch_size_per_gpu": 1}
        settings = {"deepspeed": {**config, "gradient_clipping": 1.0}}
    elif kind != "ddp":
        layers = {"transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}
        settings |= {"fsdp": True, "fsdp_config": {"version": int(kind[-1]), "sync_module_states": False, **layers}}
    arguments = TrainingArguments(
        str(folder),
        max_steps=MAX_STEPS,
        per_device_train_batch_size=1,
        learning_rate=1e-2,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **settings,
    )
    state = arguments.distributed_state
    if kind == "zero3":  # accelerate takes DeepSpeed on CPUs for a single process
        state.num_processes, state.process_index = torch.distributed.get_world_size(), torch.distributed.get_rank()
        state.local_process_index = state.process_index
    elif kind != "ddp":  # accelerate shards on accelerators alone and falls back to DDP on CPUs; torch shards on both
        state.distributed_type = DistributedType.MULTI_GPU
        state.device = torch.device("cpu")
    return arguments


def limit_memory(model, completions):
    """A real allocation that fails, where an evaluation gives the model more than ``completions`` at once."""
    import torch

    def too_much(module, args, kwargs):
        if len(kwargs["input_ids"]) > completions and not module.training:
            torch.empty(2**50)

    model.register_forward_pre_hook(too_much, with_kwargs=True)


def local_weights(trainer, kind):
    """A hash of what this rank holds of the weights, and how many numbers these are."""
    from torch.distributed.tensor import DTensor

    if kind == "zero3":  # gathered on the first rank; in between, DeepSpeed's parameters are empty
        parts = list((trainer.accelerator.get_state_dict(trainer.model_wrapped) or {}).values())
    else:
        parts = [p.to_local() if isinstance(p, DTensor) else p for p in trainer.model_wrapped.parameters()]
    content = b"".join(part.detach().contiguous().numpy().tobytes() for part in parts)
    return hashlib.sha256(content).hexdigest(), sum(part.numel() for part in parts)


def main(folder, model_path, kind, trouble, bind):
    from datasets import Dataset
    from judging import HashJudge, make_problems
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer

    from grpo_project.evaluation.callback import EnhancedInferenceCallback
    from grpo_project.problems.selection import select_problems

    arguments = training_arguments(folder, kind)
    rank = arguments.process_index
    in_trouble = trouble if rank == 1 else "none"
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    rows = tokenizer([f"def f{i}(x): return x + {i}" for i in range(8)])["input_ids"]
    results = []
    second = select_problems(make_problems(5), 5, seed=0)[1].id  # the first problem of the second rank
    callback = EnhancedInferenceCallback(
        1,
        5,  # an odd number: the ranks have unequal shares
        problems=make_problems(5),
        verifier=HashJudge(fail_on=[(second, 2), (second, 3)] if in_trouble == "judge" else []),
        max_new_tokens=5,
        batch_size=1 if trouble == "judge" else 2,  # it fails in the first batch of three
        on_result=lambda result: results.append([result.step, result.pass_rate, len(result.records)]),
    )
    model = AutoModelForCausalLM.from_pretrained(model_path, attention_dropout=0.2)
    if in_trouble == "memory":
        limit_memory(model, 1)
    trainer = Trainer(
        model,
        arguments,
        train_dataset=Dataset.from_dict({"input_ids": rows, "labels": rows}),
        processing_class=tokenizer,
        callbacks=[] if bind == "without" else [callback],
    )
    if bind == "bind":
        callback.bind(trainer)
    trainer.train()
    weights, size = local_weights(trainer, kind)
    seen = {
        "world": arguments.world_size,
        "results": results,
        "failures": callback.history.failures,
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
        "weights": weights,
        "size": size,
    }
    Path(folder, f"rank-{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])

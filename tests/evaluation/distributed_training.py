"""Trains on the ranks that torchrun starts and writes what each of them saw to ``FOLDER/rank-N.json``."""

import json
import sys
from pathlib import Path


def main(folder, model_path, fail_on_rank, bind):
    from datasets import Dataset
    from judging import HashJudge, make_problems
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    from grpo_project.callbacks.enhanced_inference_callback import EnhancedInferenceCallback

    arguments = TrainingArguments(
        str(folder),
        max_steps=2,
        per_device_train_batch_size=1,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        ddp_backend="gloo",
    )
    rank = arguments.process_index
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    rows = tokenizer([f"def f{i}(x): return x + {i}" for i in range(8)])["input_ids"]
    results = []
    callback = EnhancedInferenceCallback(
        1,
        5,  # an odd number: the ranks have unequal shares
        problems=make_problems(5),
        verifier=HashJudge(fail_on=[2] if rank == fail_on_rank else []),
        max_new_tokens=5,
        batch_size=2,
        on_result=lambda result: results.append([result.step, result.pass_rate, len(result.records)]),
    )
    trainer = Trainer(
        AutoModelForCausalLM.from_pretrained(model_path),
        arguments,
        train_dataset=Dataset.from_dict({"input_ids": rows, "labels": rows}),
        processing_class=tokenizer,
        callbacks=[callback],
    )
    if bind:
        callback.bind(trainer)
    trainer.train()
    seen = {"world": arguments.world_size, "results": results, "failures": callback.history.failures}
    Path(folder, f"rank-{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "bind")

"""A training with evaluations that a test kills and starts again; runs in a process of its own."""

import logging
import os
from pathlib import Path


def train(folder, model_path, steps, every):
    """Train from the newest whole checkpoint of ``folder``, or from the start; leave ``final.json`` when it is done."""
    from datasets import Dataset
    from judging import HashJudge, make_problems
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
    from transformers.utils import logging as transformers_logging

    from grpo_project.evaluation.callback import EnhancedInferenceCallback

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    rows = tokenizer([f"def f{i}(x): return x + {i}" for i in range(8)])["input_ids"]
    arguments = TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=1e-2,
        logging_steps=1,
        save_steps=1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    callback = EnhancedInferenceCallback(
        every, 4, problems=make_problems(4), verifier=HashJudge(seconds=0.1), max_new_tokens=5, num_samples=2
    )
    trainer = Trainer(
        AutoModelForCausalLM.from_pretrained(model_path),
        arguments,
        train_dataset=Dataset.from_dict({"input_ids": rows, "labels": rows}),
        processing_class=tokenizer,
        callbacks=[callback],
    )
    # `trainer_state.json` is written last, so a checkpoint that holds it is whole.
    whole = [path.parent for path in Path(folder).glob("checkpoint-*/trainer_state.json") if path.stat().st_size]
    newest = max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    trainer.state.save_to_json(str(Path(folder) / "final.json"))

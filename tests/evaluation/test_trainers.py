"""The callback in the trainers of this ecosystem, with the real verifier where it judges the built-in problems."""

import logging

import pytest
import torch
from datasets import Dataset
from judging import HashJudge, make_problems
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from grpo_project.config import embedded_model_path
from grpo_project.evaluation.callback import EnhancedInferenceCallback
from grpo_project.record.evaluations import read_evaluations
from grpo_project.record.journal import Journal
from grpo_project.record.run_directory import Run
from grpo_project.tracking import manager as wandb_sync_manager
from grpo_project.tracking.manager import initialize_wandb_sync_manager

COMMON = {
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "disable_tqdm": True,
}
TEXTS = [f"def f{i}(x):\n    return x + {i}\n" for i in range(8)]


def evaluated(trainer):
    return [row["step"] for row in trainer.state.log_history if "eval_avg_test_pass_rate" in row]


def test_the_contract_in_a_plain_trainer_with_nothing_but_defaults(tmp_path):
    folder = embedded_model_path()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [ids[:20] for ids in tokenizer(TEXTS)["input_ids"]]
    dataset = Dataset.from_dict({"input_ids": rows, "labels": rows})
    arguments = TrainingArguments(str(tmp_path), **{**COMMON, "per_device_train_batch_size": 1})
    callback = EnhancedInferenceCallback(eval_every_n_steps=25, max_samples=8)
    trainer = Trainer(
        AutoModelForCausalLM.from_pretrained(folder),
        arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trainer.train()
    assert evaluated(trainer) == [0, 3]
    before, after = (row for row in trainer.state.log_history if "inference/step" in row)
    assert before["eval/source"] == "builtin"
    assert 0 < before["eval_avg_test_pass_rate"] <= 1  # the embedded model solves the easy ones
    assert after["eval/change_since_first"] == pytest.approx(
        after["eval_avg_test_pass_rate"] - before["eval_avg_test_pass_rate"]
    )
    kept = read_evaluations(tmp_path).to_pylist()
    assert len(kept) == 16
    assert all(len(row["tests"]) == row["total"] >= 6 for row in kept)
    summary = callback.get_evaluation_summary()
    assert (summary["source"], summary["last_step"], summary["failures"]) == ("builtin", 3, [])


def test_it_reports_to_wandb_through_the_sync_manager_where_there_is_no_journal(tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr(wandb_sync_manager, "_manager", None)  # one a process: leave none behind for the next test
    manager = initialize_wandb_sync_manager(str(tmp_path), "evaluation-test")
    try:
        run_sft(tmp_path, tiny_model, [make_callback()])
    finally:
        manager.finish()
    rows = [row for row in Run(tmp_path).metrics() if "eval_avg_test_pass_rate" in row]
    assert [row["step"] for row in rows] == [0, 2, 3] == [row["inference/step"] for row in rows]


def make_callback(**arguments):
    defaults = {"problems": make_problems(4), "verifier": HashJudge(), "max_new_tokens": 5, "num_samples": 2}
    return EnhancedInferenceCallback(2, 4, **{**defaults, **arguments})


def run_sft(folder, tiny_model, callbacks, **arguments):
    trainer = SFTTrainer(
        str(tiny_model),
        SFTConfig(str(folder), **{**COMMON, "max_length": 64, **arguments}),
        train_dataset=Dataset.from_dict({"text": TEXTS}),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
        callbacks=callbacks,
    )
    trainer.train()
    return trainer


def run_grpo(folder, tiny_model, callbacks, bind=False, peft_config=None, **arguments):
    settings = {"num_generations": 4, "max_completion_length": 8, "beta": 0.0, "temperature": 1.0}
    trainer = GRPOTrainer(
        str(tiny_model),
        reward_funcs=lambda completions, **_: [float(len(set(str(c)))) for c in completions],
        args=GRPOConfig(str(folder), **{**COMMON, **settings, **arguments}),
        train_dataset=Dataset.from_dict({"prompt": TEXTS}),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
        callbacks=callbacks,
        peft_config=peft_config,
    )
    if bind:
        callbacks[0].bind(trainer)
    trainer.train()
    return trainer


def trajectory(trainer):
    logged = [
        {name: row[name] for name in ("loss", "reward", "grad_norm") if name in row}
        for row in trainer.state.log_history
        if "loss" in row
    ]
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters() if p.requires_grad])
    return logged, weights


LORA = LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.1, task_type="CAUSAL_LM")


@pytest.mark.parametrize(
    ("run", "arguments"),
    [
        (run_sft, {}),
        (run_sft, {"gradient_checkpointing": True}),
        (run_grpo, {"gradient_checkpointing": False}),
        (run_grpo, {"gradient_checkpointing": True, "bind": True}),
        (run_grpo, {"peft_config": LORA, "gradient_checkpointing": True}),
        (run_grpo, {"peft_config": LORA, "bind": True, "bf16": True}),
    ],
    ids=["sft", "sft checkpointing", "grpo", "grpo bound", "grpo lora checkpointing", "grpo lora bf16 bound"],
)
def test_no_trainer_notices_it(tmp_path, tiny_model, run, arguments):
    bind = arguments.pop("bind", False)
    extra = {"bind": True} if bind else {}
    watched = run(tmp_path / "with", tiny_model, [make_callback()], **arguments, **extra)
    alone = run(tmp_path / "without", tiny_model, [], **arguments)
    assert evaluated(watched) == [0, 2, 3]
    (logged, weights), (logged_alone, weights_alone) = trajectory(watched), trajectory(alone)
    assert len(logged) == 3
    assert logged == logged_alone
    assert torch.equal(weights, weights_alone)


ROWS = [
    {"id": f"add-{i}", "prompt": f"Write f, which adds {i}.", "completion": f"def f(x):\n    return x + {i}\n"}
    | {"entry_point": "f", "tests": [{"args": [j], "expected": j + i} for j in range(3)]}
    for i in range(4)
]


def plain_trainer(folder, model, callbacks, dataset):
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = tokenizer(TEXTS)["input_ids"]
    train = Dataset.from_dict({"input_ids": rows, "labels": rows})
    arguments = TrainingArguments(str(folder), **{**COMMON, "per_device_train_batch_size": 1})
    return Trainer(
        AutoModelForCausalLM.from_pretrained(model),
        arguments,
        train_dataset=train,
        eval_dataset=dataset,
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def sft_trainer(folder, model, callbacks, dataset):
    return SFTTrainer(
        str(model),
        SFTConfig(str(folder), **{**COMMON, "max_length": 64}),
        train_dataset=Dataset.from_dict({"text": TEXTS}),
        eval_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=callbacks,
    )


def grpo_trainer(folder, model, callbacks, dataset):
    return GRPOTrainer(
        str(model),
        reward_funcs=lambda completions, **_: [float(len(str(c))) for c in completions],
        args=GRPOConfig(str(folder), **{**COMMON, "num_generations": 4, "max_completion_length": 8}),
        train_dataset=Dataset.from_dict({"prompt": TEXTS}),
        eval_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=callbacks,
    )


TRAINERS = pytest.mark.parametrize("build", [plain_trainer, sft_trainer, grpo_trainer])


@TRAINERS
def test_it_evaluates_on_the_trainers_own_set(tmp_path, tiny_model, build):
    sets = {"text": Dataset.from_list([{"prompt": "a", "completion": "b"}]), "code": Dataset.from_list(ROWS)}
    with Journal(tmp_path, 0) as journal:
        callback = EnhancedInferenceCallback(3, 3, verifier=HashJudge(), max_new_tokens=5, journal=journal)
        trainer = build(tmp_path, tiny_model, [callback], sets)
        callback.bind(trainer)
        trainer.train()
    assert evaluated(trainer) == [0, 3]
    assert set(read_evaluations(tmp_path)["problem_id"].to_pylist()) < {row["id"] for row in ROWS}
    assert callback.get_evaluation_summary()["source"] == "eval_dataset/code"
    (event,) = Run(tmp_path).events("evaluation_problems")
    assert event["reason"] == "the trainer's evaluation set"


@TRAINERS
def test_a_set_without_tests_is_said_to_be_one_and_the_built_in_problems_step_in(tmp_path, tiny_model, build, caplog):
    dataset = Dataset.from_list([{"prompt": "a", "completion": "b"}])
    with Journal(tmp_path, 0) as journal, caplog.at_level(logging.WARNING, "grpo_project"):
        callback = EnhancedInferenceCallback(3, 3, verifier=HashJudge(), max_new_tokens=5, journal=journal)
        trainer = build(tmp_path, tiny_model, [callback], dataset)
        callback.bind(trainer)
        trainer.train()
    assert evaluated(trainer) == [0, 3]
    assert callback.get_evaluation_summary()["source"] == "builtin"
    (event,) = Run(tmp_path).events("evaluation_problems")
    assert "has no rows with tests" in event["reason"]
    assert "evaluating on 3 problems: built-in: the trainer's evaluation set has no rows with tests" in caplog.text

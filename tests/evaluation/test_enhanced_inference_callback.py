import json
import logging
from collections import Counter

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    EarlyStoppingCallback,
    GenerationConfig,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from grpo_project.errors import ConfigError, SandboxError
from grpo_project.evaluation.callback import EnhancedInferenceCallback
from grpo_project.generation import probe
from grpo_project.problems.problem import CallTest, Problem
from grpo_project.record.evaluations import read_evaluations
from grpo_project.record.journal import Journal
from grpo_project.record.run_directory import Run
from grpo_project.verifier.verdict import Status, Verdict

STEPS = 6
LEVELS = ("foundation", "expert")


def make_problems(count=4):
    return [
        Problem(
            id=f"p{i}",
            prompt=f"Write a function f that adds {i}.",
            tests=(CallTest((0,), i), CallTest((1,), i + 1)),
            entry_point="f",
            level=LEVELS[i % 2],
            source="tests",
        )
        for i in range(count)
    ]


class LengthJudge:
    """A judge without a sandbox: passes as many tests as the length modulo 3.

    ``fail_on``: (problem, n) for the n-th time, from 1, that this problem comes up and can't be judged.
    """

    def __init__(self, fail_on=()):
        self.fail_on = frozenset(fail_on)
        self.times = Counter()

    @property
    def evaluations(self):
        """How often the first problem was judged."""
        return self.times["p0"]

    def stream(self, jobs):
        for job in jobs:
            self.times[job.problem.id] += 1
            if (job.problem.id, self.times[job.problem.id]) in self.fail_on:
                raise SandboxError("the sandbox did not start")
            yield self.judge(job)

    def judge(self, job):
        passed = len(job.completion) % 3
        status = Status.PASSED if passed == 2 else Status.FAILED
        return Verdict(job.id, job.problem.id, status, passed, 2, code=job.completion)


class ScriptedJudge(LengthJudge):
    """Passes both tests of every completion in the evaluations that ``scores`` marks with 1."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def judge(self, job):
        passed = 2 * self.scores[self.times[job.problem.id] - 1]
        status = Status.PASSED if passed else Status.FAILED
        return Verdict(job.id, job.problem.id, status, passed, 2, code="code")


def make_trainer(folder, model_path, callbacks, **arguments):
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    # Dropout draws from the random state that an evaluation must leave alone.
    model = AutoModelForCausalLM.from_pretrained(model_path, attention_dropout=0.2)
    rows = tokenizer([f"def f{i}(x): return x + {i}" for i in range(8)])["input_ids"]
    dataset = Dataset.from_dict({"input_ids": rows, "labels": rows})
    defaults = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 1,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "seed": 3,
    }
    return Trainer(
        model,
        TrainingArguments(str(folder), **{**defaults, **arguments}),
        train_dataset=dataset,
        eval_dataset=dataset if arguments.get("eval_strategy", "no") != "no" else None,
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def make_callback(eval_every_n_steps=2, max_samples=4, **arguments):
    defaults = {"problems": make_problems(), "verifier": LengthJudge(), "max_new_tokens": 5}
    return EnhancedInferenceCallback(eval_every_n_steps, max_samples, **{**defaults, **arguments})


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def evaluated(log_history):
    return [row["step"] for row in log_history if "eval_avg_test_pass_rate" in row]


def test_it_evaluates_before_training_every_n_steps_and_at_the_end(tmp_path, tiny_model):
    results: list = []
    callback = make_callback(4, num_samples=2, on_result=results.append)
    with Journal(tmp_path, 0) as journal:
        callback.journal = journal
        trainer = make_trainer(tmp_path, tiny_model, [callback])
        trainer.train()
    assert evaluated(trainer.state.log_history) == [0, 4, 6] == [result.step for result in results]
    rows = Run(tmp_path).metrics("eval")
    assert [row["step"] for row in rows] == [row["inference/step"] for row in rows] == [0, 4, 6]
    for row, result in zip(rows, results, strict=True):
        assert row["eval_avg_test_pass_rate"] == pytest.approx(result.pass_rate)
        assert row["eval/source"] == "tests"
        assert row["eval_avg_test_pass_rate_low"] <= result.pass_rate <= row["eval_avg_test_pass_rate_high"]
    kept = read_evaluations(tmp_path).to_pylist()
    assert Counter(row["step"] for row in kept) == {0: 8, 4: 8, 6: 8}
    for result in results:
        mine = [row for row in kept if row["step"] == result.step]
        assert sum(row["passed"] / row["total"] for row in mine) / 8 == pytest.approx(result.pass_rate)


def test_the_problems_are_fixed_and_on_record(tmp_path, tiny_model):
    with Journal(tmp_path, 0) as journal:
        callback = make_callback(3, 2, problems=make_problems(40), journal=journal, seed=5)
        make_trainer(tmp_path, tiny_model, [callback]).train()
    (event,) = Run(tmp_path).events("evaluation_problems")
    assert len(event["ids"]) == 2
    assert event["seed"] == 5
    assert set(read_evaluations(tmp_path)["problem_id"].to_pylist()) == set(event["ids"])


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_training_is_the_same_bit_for_bit_with_and_without_it(tmp_path, tiny_model, gradient_checkpointing):
    runs = {}
    for name, callbacks in {"with": [make_callback(2, num_samples=3)], "without": []}.items():
        trainer = make_trainer(tmp_path / name, tiny_model, callbacks, gradient_checkpointing=gradient_checkpointing)
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        runs[name] = losses, weights(trainer), torch.get_rng_state()
    assert runs["with"][0] == runs["without"][0]
    assert all(torch.equal(value, runs["without"][1][key]) for key, value in runs["with"][1].items())
    assert torch.equal(runs["with"][2], runs["without"][2])


def test_a_resumed_run_repeats_no_evaluation_and_loses_none(tmp_path, tiny_model):
    whole = make_trainer(tmp_path / "whole", tiny_model, [make_callback(2)], save_strategy="steps", save_steps=3)
    whole.train()

    resumed_callback = make_callback(2)
    resumed = make_trainer(tmp_path / "whole", tiny_model, [resumed_callback], save_strategy="steps", save_steps=3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert evaluated(resumed.state.log_history) == [0, 2, 4, 6]
    assert resumed_callback.verifier.evaluations == 2

    def numbers(trainer):
        return [
            (row["step"], row["eval_avg_test_pass_rate"], row.get("eval/change_since_first"))
            for row in trainer.state.log_history
            if "inference/step" in row
        ]

    assert numbers(resumed) == numbers(whole)
    assert Counter(read_evaluations(tmp_path / "whole")["step"].to_pylist()) == {0: 4, 2: 4, 4: 4, 6: 4}


@pytest.mark.parametrize(("with_record", "calls"), [(True, 2), (False, 3)])
def test_an_evaluation_of_the_resumed_step_is_redone_only_if_it_was_lost(tmp_path, tiny_model, with_record, calls):
    first = [make_callback(2)] if with_record else []
    make_trainer(tmp_path, tiny_model, first, save_strategy="steps", save_steps=2).train()
    callback = make_callback(2)
    resumed = make_trainer(tmp_path, tiny_model, [callback], save_strategy="steps", save_steps=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert callback.verifier.evaluations == calls
    assert evaluated(resumed.state.log_history) == ([0, 2, 4, 6] if with_record else [2, 4, 6])
    assert callback.get_evaluation_summary()["last_step"] == STEPS


def test_training_twice_with_one_callback_starts_anew(tmp_path, tiny_model):
    callback = make_callback(3)
    for name in ("first", "second"):
        trainer = make_trainer(tmp_path / name, tiny_model, [callback])
        trainer.train()
        assert evaluated(trainer.state.log_history) == [0, 3, 6]
    assert callback.get_evaluation_summary()["evaluation_count"] == 3


def test_its_state_travels_through_state_dict(tmp_path, tiny_model):
    callback = make_callback(3)
    make_trainer(tmp_path, tiny_model, [callback]).train()
    copy = make_callback(3)
    copy.load_state_dict(json.loads(json.dumps(callback.state_dict())))
    assert copy.get_evaluation_summary() == callback.get_evaluation_summary()


class StopAt(TrainerCallback):
    """Ends training early, as a pre-emption does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop |= state.global_step == self.step


def test_a_run_that_stops_early_has_no_evaluation_that_its_resume_would_not_have(tmp_path, tiny_model):
    trainer = make_trainer(tmp_path, tiny_model, [make_callback(2), StopAt(3)])
    trainer.train()
    assert trainer.state.global_step == 3
    assert evaluated(trainer.state.log_history) == [0, 2]


class StopSoon(LengthJudge):
    """Asks for a stop while it judges its second evaluation; a signal would come at such a moment."""

    stop = False

    def judge(self, job):
        self.stop |= self.times["p0"] == 4  # three samples an evaluation
        return super().judge(job)


class StopWhenAsked(TrainerCallback):
    """Ends training with a checkpoint, as the pre-emption callback does."""

    def __init__(self, asked):
        self.asked = asked

    def on_step_end(self, args, state, control, **_):
        control.should_save = control.should_training_stop = self.asked()


def test_a_pre_empted_evaluation_is_abandoned_and_made_by_the_resumed_run(tmp_path, tiny_model):
    whole = make_trainer(tmp_path / "whole", tiny_model, [make_callback(2, num_samples=3, batch_size=2)])
    whole.train()
    judge = StopSoon()
    arguments = {"num_samples": 3, "batch_size": 2}
    callback = make_callback(2, verifier=judge, stop_requested=lambda: judge.stop, **arguments)
    callbacks = [callback, StopWhenAsked(lambda: judge.stop)]
    first = make_trainer(tmp_path / "cut", tiny_model, callbacks, save_strategy="steps", save_steps=100)
    first.train()
    assert (first.state.global_step, evaluated(first.state.log_history)) == (2, [0])
    assert callback.get_evaluation_summary()["failures"] == []
    heard: list = []
    resumed = make_trainer(
        tmp_path / "cut", tiny_model, [make_callback(2, on_result=heard.append, **arguments)], save_strategy="no"
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    assert [result.step for result in heard] == [2, 4, 6]
    rates = [
        [row["eval_avg_test_pass_rate"] for row in trainer.state.log_history if "inference/step" in row]
        for trainer in (resumed, whole)
    ]
    assert rates[0] == rates[1]
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


def test_a_failing_verifier_is_said_aloud_and_no_number_appears(tmp_path, tiny_model, caplog):
    callback = make_callback(2, verifier=LengthJudge(fail_on=[("p0", 2), ("p0", 3)]))
    with Journal(tmp_path, 0) as journal, caplog.at_level(logging.WARNING, "grpo_project"):
        callback.journal = journal
        trainer = make_trainer(tmp_path, tiny_model, [callback])
        trainer.train()
    assert evaluated(trainer.state.log_history) == [0, 4, 6]
    assert "step 2: NO evaluation" in caplog.text
    (event,) = Run(tmp_path).events("evaluation_failed")
    assert (event["step"], "did not start" in event["reason"]) == (2, True)
    assert [failure["step"] for failure in callback.get_evaluation_summary()["failures"]] == [2]


def test_an_evaluation_that_failed_once_is_made_again_at_once_and_finds_the_same(tmp_path, tiny_model, caplog):
    histories = []
    for name, fail_on in {"faulty": [("p3", 2)], "sound": []}.items():
        callback = make_callback(2, num_samples=2, batch_size=3, verifier=LengthJudge())
        callback.verifier.fail_on = frozenset((problem, 2 * n) for problem, n in fail_on)  # two samples each time
        with Journal(tmp_path / name, 0) as journal, caplog.at_level(logging.WARNING, "grpo_project"):
            callback.journal = journal
            trainer = make_trainer(tmp_path / name, tiny_model, [callback])
            trainer.train()
        histories.append([line for line in callback.get_evaluation_summary()["history"]])
        assert callback.get_evaluation_summary()["failures"] == []
    assert histories[0] == histories[1]
    (event,) = Run(tmp_path / "faulty").events("evaluation_repeated")
    assert (event["step"], "did not start" in event["reason"]) == (2, True)
    assert "evaluating again" in caplog.text
    assert Run(tmp_path / "sound").events("evaluation_repeated") == []


def limit_memory(model, completions):
    """Lets the model run out of memory where it is given more than ``completions`` at once, by a real allocation."""

    def too_much(module, args, kwargs):
        if len(kwargs["input_ids"]) > completions and not module.training:
            torch.empty(2**50)

    return model.register_forward_pre_hook(too_much, with_kwargs=True)


def test_an_evaluation_that_runs_out_of_memory_goes_on_in_smaller_batches(tmp_path, tiny_model, caplog):
    callback = make_callback(3, num_samples=2)  # 8 completions
    with Journal(tmp_path, 0) as journal, caplog.at_level(logging.WARNING, "grpo_project"):
        callback.journal = journal
        trainer = make_trainer(tmp_path, tiny_model, [callback], gradient_checkpointing=True)
        callback.bind(trainer)
        # The sampler is chosen once in a model's life, on a few short sequences; that there is room for them is meant.
        probe.sampler(trainer.model, GenerationConfig(max_new_tokens=1, pad_token_id=0, eos_token_id=1))
        limit_memory(trainer.model, 2)
        trainer.train()
    assert evaluated(trainer.state.log_history) == [0, 3, 6]
    halved = Run(tmp_path).events("evaluation_batch_halved")
    assert [(event["step"], event["batch_size"]) for event in halved] == [(0, 4), (0, 2)]  # and so it stays
    assert "out of memory while generating 8 completions" in halved[0]["reason"]
    assert "going on with batches of 4" in caplog.text
    assert Counter(row["step"] for row in read_evaluations(tmp_path).to_pylist()) == {0: 8, 3: 8, 6: 8}
    assert trainer.model.is_gradient_checkpointing  # TRL's unwrapping alone leaves it off after an error

    small = make_callback(3, num_samples=2, batch_size=2)
    make_trainer(tmp_path / "small", tiny_model, [small]).train()
    assert [line["avg_test_pass_rate"] for line in small.get_evaluation_summary()["history"]] == [
        line["avg_test_pass_rate"] for line in callback.get_evaluation_summary()["history"]
    ]


def test_where_a_single_completion_is_too_much_training_goes_on_without_evaluations(tmp_path, tiny_model, caplog):
    callback = make_callback(3)
    trainer = make_trainer(tmp_path, tiny_model, [callback])
    limit_memory(trainer.model, 0)
    with caplog.at_level(logging.WARNING, "grpo_project"):
        trainer.train()
    assert trainer.state.global_step == STEPS
    assert evaluated(trainer.state.log_history) == []
    failures = callback.get_evaluation_summary()["failures"]
    assert [failure["step"] for failure in failures] == [0, 3, 6]
    assert all("lower batch_size or max_new_tokens" in failure["reason"] for failure in failures)
    assert "step 3: NO evaluation: out of memory" in caplog.text


def test_suspect_numbers_are_marked(tmp_path, tiny_model, caplog):
    with Journal(tmp_path, 0) as journal, caplog.at_level(logging.WARNING, "grpo_project"):
        make_trainer(tmp_path, tiny_model, [make_callback(6, journal=journal)]).train()
    assert "every completion was cut off" in caplog.text
    assert {event["step"] for event in Run(tmp_path).events("evaluation_suspect")} == {0, 6}


def test_debug_log_says_for_every_step_why_it_was_or_was_not_evaluated(tmp_path, tiny_model, caplog):
    with caplog.at_level(logging.DEBUG, "grpo_project"):
        make_trainer(tmp_path, tiny_model, [make_callback(4)]).train()
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG and r.name == "grpo_project"]
    assert [line for line in lines if "evaluating" in line] == [
        "step 0: evaluating (before training)",
        "step 4: evaluating (every 4 steps)",
        "step 6: evaluating (last step)",
    ]
    assert [line.split(":")[0] for line in lines if "no evaluation" in line] == [f"step {i}" for i in (1, 2, 3, 5)]


SCORES = [0, 0, 1, 0]  # evaluations of the steps 0, 2, 4, 6


@pytest.mark.parametrize(
    "strategy",
    [
        {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2},
        {"eval_strategy": "no", "save_strategy": "best"},
    ],
    ids=["the trainer evaluates", "only the callback evaluates"],
)
def test_it_chooses_the_best_model(tmp_path, tiny_model, strategy):
    seen = {}

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **_):
            seen[state.global_step] = model.lm_head.weight.detach().clone()

    callback = make_callback(2, verifier=ScriptedJudge(SCORES))
    trainer = make_trainer(
        tmp_path,
        tiny_model,
        [callback, Watch()],
        metric_for_best_model="eval_avg_test_pass_rate",
        load_best_model_at_end=True,
        **strategy,
    )
    trainer.train()
    assert trainer.state.best_metric == 1.0
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-4")
    assert torch.equal(trainer.model.lm_head.weight, seen[4])
    assert callback.verifier.evaluations == 4


def test_it_stops_early_and_the_trainer_gets_what_it_needs_at_its_own_steps(tmp_path, tiny_model):
    callback = make_callback(2, verifier=ScriptedJudge([0, 1, 0, 0, 0, 0]))
    trainer = make_trainer(
        tmp_path,
        tiny_model,
        [callback, EarlyStoppingCallback(2)],
        metric_for_best_model="pass@1",
        load_best_model_at_end=True,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
    )
    trainer.train()
    assert trainer.state.global_step == 3  # best at step 1, then twice no better
    assert evaluated(trainer.state.log_history) == [0, 1, 2, 3]
    assert trainer.state.best_global_step == 1


def test_a_failed_evaluation_does_not_end_a_run_that_needs_its_metric(tmp_path, tiny_model):
    callback = make_callback(2, verifier=LengthJudge(fail_on=[("p0", 3), ("p0", 4)]))
    trainer = make_trainer(
        tmp_path,
        tiny_model,
        [callback],
        metric_for_best_model="eval_avg_test_pass_rate",
        load_best_model_at_end=True,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
    )
    trainer.train()
    assert evaluated(trainer.state.log_history) == [0, 2, 6]


def test_a_trainer_without_a_tokenizer_is_told_what_to_do(tmp_path, tiny_model):
    trainer = make_trainer(tmp_path, tiny_model, [make_callback()])
    trainer.callback_handler.processing_class = None
    with pytest.raises(ConfigError, match="pass processing_class=TOKENIZER"):
        trainer.train()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eval_every_n_steps": -1}, "0 .never. or more"),
        ({"max_samples": 0}, "max_samples is 0"),
        ({"num_samples": 4, "temperature": 0.0}, "greedy"),
        ({"num_samples": 4, "ks": [5]}, "pass@5 needs"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_callback(**arguments)


def test_0_turns_it_off(tmp_path, tiny_model):
    callback = make_callback(0)
    make_trainer(tmp_path, tiny_model, [callback]).train()
    assert callback.verifier.evaluations == 0
    assert callback.get_evaluation_summary()["last_step"] is None


def test_the_summary_tells_the_trend_with_its_interval(tmp_path, tiny_model):
    callback = make_callback(3, verifier=ScriptedJudge([0, 1, 1]))
    make_trainer(tmp_path, tiny_model, [callback]).train()
    summary = callback.get_evaluation_summary()
    assert [line["avg_test_pass_rate"] for line in summary["history"]] == [0.0, 1.0, 1.0]
    assert summary["trend"]["change"] == 1.0
    assert 0 < summary["trend"]["low"] < summary["trend"]["high"] <= 1
    assert summary["source"] == "tests"
    assert summary["last_step"] == 6

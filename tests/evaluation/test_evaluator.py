import random

import numpy as np
import pytest
import torch
from judging import HashJudge, make_problems
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from grpo_project.errors import ConfigError, SandboxError
from grpo_project.evaluation.evaluator import Evaluator, in_order
from grpo_project.generation import probe
from grpo_project.generation.generator import Generator, generation_mode
from grpo_project.generation.random_state import preserved_random_state
from grpo_project.problems.prompt import prompt_for, prompt_text


@pytest.fixture
def model(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    probe.sampler(model, GenerationConfig())  # once in a model's life: before tests count its forward passes
    return model


@pytest.fixture
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def evaluate(model, tokenizer, problems=7, step=3, **arguments):
    names = ("rank", "world", "finished", "on_batch", "kept", "on_completion")
    run = {name: arguments.pop(name) for name in names if name in arguments}
    judge = arguments.pop("judge", None) or HashJudge()
    evaluator = Evaluator(make_problems(problems), tokenizer, judge, **{"max_new_tokens": 6, **arguments})
    with generation_mode(model) as ready:
        return evaluator.run(ready, step, **run).records


def test_the_same_evaluation_twice_is_the_same(model, tokenizer):
    first = evaluate(model, tokenizer, num_samples=3)
    assert first == evaluate(model, tokenizer, num_samples=3)
    assert len(first) == 21
    assert first != evaluate(model, tokenizer, num_samples=3, seed=1)
    assert first != evaluate(model, tokenizer, num_samples=3, step=4)


def test_samples_depend_neither_on_batches_nor_on_ranks(model, tokenizer):
    """In float64, so that another batch's rounding can't turn a token over."""
    model.double()
    whole = evaluate(model, tokenizer, num_samples=4)
    assert evaluate(model, tokenizer, num_samples=4, batch_size=3) == whole
    shared = [r for rank in (1, 0) for r in evaluate(model, tokenizer, num_samples=4, rank=rank, world=2)]
    assert list(in_order(shared, make_problems(7))) == whole


def test_completions_are_told_as_they_end_and_kept_ones_are_not_generated_again(model, tokenizer):
    model.double()  # as above: fewer rows in a batch must not turn a token over
    told = {}

    def interrupt(problem, sample, made):
        told[problem.id, sample] = made
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, tokenizer, temperature=1.0, on_completion=interrupt)
    kept, new = dict(told), []
    judge = HashJudge()
    after = evaluate(
        model, tokenizer, temperature=1.0, kept=kept, judge=judge, on_completion=lambda *found: new.append(found[0].id)
    )
    assert after == evaluate(model, tokenizer, temperature=1.0)
    assert sorted([*new, *(name for name, _ in kept)]) == [f"p{i}" for i in range(7)]
    assert judge.jobs == 7, "those that were kept are judged"


def test_what_generate_samples_as_a_whole_is_not_parted(model, tokenizer):
    """Its rows share one stream of random numbers: without some of them the others would be others."""
    model.generation_config.suppress_tokens = [0]
    whole = evaluate(model, tokenizer, temperature=1.0)
    told = {}
    evaluate(model, tokenizer, temperature=1.0, on_completion=lambda p, s, made: told.update({(p.id, s): made}))
    some = dict(list(told.items())[:3])
    assert evaluate(model, tokenizer, temperature=1.0, kept=some) == whole


def test_a_padding_token_that_ends_completions_does_not_hide_that_one_was_cut_off(model, tokenizer):
    tokenizer.pad_token = tokenizer.eos_token
    model.generation_config.eos_token_id = list(range(1, 60))
    generator = Generator(tokenizer, max_new_tokens=6, temperature=1.0)
    for settings in ({}, {"suppress_tokens": [0]}):  # our sampler's rows, and generate's, which are padded
        model.generation_config.update(**settings)
        made = generator.generate(model, ["abc", "a", "b"] * 8, range(24))
        assert {one.truncated for one in made} == {True, False}
        assert all(one.truncated == (one.tokens == 6) or one.tokens == 6 for one in made)
        assert any(one.truncated for one in made if one.tokens == 6)


def test_greedy_does_not_depend_on_batch_size_or_padding_side(model, tokenizer):
    together = evaluate(model, tokenizer, batch_size=64)
    tokenizer.padding_side = "right"
    assert [r.completion for r in together] == [r.completion for r in evaluate(model, tokenizer, batch_size=2)]


def test_samples_of_a_problem_differ(model, tokenizer):
    records = evaluate(model, tokenizer, problems=1, num_samples=4)
    assert [r.sample for r in records] == [0, 1, 2, 3]
    assert len({r.completion for r in records}) == 4


def test_several_greedy_completions_are_refused(tokenizer):
    with pytest.raises(ConfigError, match="greedy completions are all alike"):
        Evaluator(make_problems(1), tokenizer, HashJudge(), num_samples=2, temperature=0.0)


@pytest.mark.parametrize(("problems", "world"), [(7, 3), (1, 3), (6, 3), (7, 1)])
def test_ranks_share_the_work_and_generate_equally_often(tokenizer, problems, world):
    evaluator = Evaluator(make_problems(problems), tokenizer, HashJudge(), num_samples=2, batch_size=2)
    shares = [evaluator.batches(rank, world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    work = sorted((problem.id, sample) for share in shares for batch in share for problem, sample in batch)
    assert work == sorted((problem.id, sample) for problem in evaluator.problems for sample in (0, 1))


def test_a_rank_without_work_still_generates_and_records_nothing(model, tokenizer):
    assert evaluate(model, tokenizer, problems=1, rank=2, world=3) == []


def test_the_records_of_all_ranks_are_put_in_the_order_of_the_problems(model, tokenizer):
    alone = evaluate(model, tokenizer)
    shared = [r for rank in (1, 0) for r in evaluate(model, tokenizer, rank=rank, world=2)]
    assert list(in_order(shared, make_problems(7))) == alone


def test_finished_batches_are_not_done_again_and_the_rest_is_the_same(model, tokenizer):
    batches: dict[int, list] = {}
    whole = evaluate(model, tokenizer, num_samples=2, batch_size=3, on_batch=batches.__setitem__)
    judge = HashJudge()
    finished = {number: records for number, records in batches.items() if number in (0, 3)}
    rest = evaluate(model, tokenizer, num_samples=2, batch_size=3, judge=judge, finished=finished)
    assert rest == whole
    assert judge.jobs == len(whole) - sum(map(len, finished.values()))


class ReadyJudge(HashJudge):
    """Notes when a job comes in; as the verifier does, it begins at once and raises at once if it can't begin."""

    def __init__(self, broken=False):
        super().__init__()
        self.came_in = []
        self.clock = lambda: 0
        self.broken = broken

    def stream(self, jobs):
        self.came_in += [(job.problem.id, self.clock()) for job in jobs]
        if self.broken:
            raise SandboxError("the server is gone")
        return super().stream(jobs)


def test_a_completion_is_judged_while_others_of_its_batch_are_still_generated(model, tokenizer):
    passes = []

    def end_the_first_row(module, args, output):
        passes.append(output)
        output.logits[0, -1, tokenizer.eos_token_id] = 1e9

    model.register_forward_hook(end_the_first_row)
    judge = ReadyJudge()
    judge.clock = lambda: len(passes)
    records = evaluate(model, tokenizer, judge=judge)
    first = records[0]
    assert first.tokens == 1
    assert (first.problem_id, 1) in judge.came_in
    assert len(passes) == max(record.tokens for record in records) == 6


def test_a_judge_that_is_gone_fails_the_evaluation_only_once_the_batch_is_generated(model, tokenizer):
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(SandboxError, match="server is gone"):
        evaluate(model, tokenizer, judge=ReadyJudge(broken=True))
    assert len(passes) == 6


def test_rows_that_end_are_told_once_and_match_what_is_returned(model, tokenizer):
    model.generation_config.eos_token_id = list(range(60))  # padding is an end token too
    told = []
    generator = Generator(tokenizer, max_new_tokens=20, temperature=1.0)
    made = generator.generate(
        model, ["abc", "a", "abcdef", "b"] * 4, range(16), lambda row, one: told.append((row, one))
    )
    assert sorted(row for row, _ in told) == list(range(16))
    assert [one for _, one in sorted(told, key=lambda pair: pair[0])] == made
    assert [row for row, _ in told] != list(range(16))
    assert len({one.tokens for one in made}) > 2


def test_a_failing_judge_ends_the_evaluation(model, tokenizer):
    with pytest.raises(SandboxError, match="did not start"):
        evaluate(model, tokenizer, batch_size=2, judge=HashJudge(fail_on=[("p2", 1)]))


def test_the_model_is_left_as_it_was(model, tokenizer):
    model.train()
    model.model.layers[0].eval()  # a part that its owner keeps frozen
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.config.use_cache = False

    def state():
        configs = model.generation_config.to_dict(), model.config.to_dict()
        randomness = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
        return configs, [module.training for module in model.modules()], randomness

    before = state()
    evaluate(model, tokenizer, num_samples=2)
    assert state() == before
    assert model.is_gradient_checkpointing


def test_the_random_state_is_put_back_after_an_error_too():
    state = torch.get_rng_state()
    with pytest.raises(KeyError), preserved_random_state():
        torch.manual_seed(5)
        raise KeyError
    assert torch.equal(state, torch.get_rng_state())


def test_sampling_settings_of_the_model_folder_do_not_count(model, tokenizer):
    plain = Generator(tokenizer, max_new_tokens=6, temperature=1.0).generate(model, ["a"], [1])
    model.generation_config.update(top_k=1, repetition_penalty=9.0, temperature=0.01, do_sample=True)
    assert Generator(tokenizer, max_new_tokens=6, temperature=1.0).generate(model, ["a"], [1]) == plain


def test_truncation_and_length_are_those_of_the_tokens(model, tokenizer):
    generator = Generator(tokenizer, max_new_tokens=5)
    (cut,) = generator.generate(model, ["abc"], [0])
    assert (cut.tokens, cut.truncated) == (5, True)
    model.lm_head.weight.data.zero_()
    model.model.embed_tokens.weight.data[:, 0] = 1.0
    model.lm_head.weight.data[tokenizer.eos_token_id] = 1.0
    hidden = model.model(**tokenizer("abc", return_tensors="pt")).last_hidden_state[0, -1].sum()
    model.lm_head.weight.data[tokenizer.eos_token_id] = torch.sign(hidden)
    (ended,) = generator.generate(model, ["abc"], [0])
    assert (ended.text, ended.tokens, ended.truncated) == ("", 1, False)


@pytest.mark.parametrize("chat", [True, False])
def test_prompts_have_the_tokens_that_training_has(tiny_model, tiny_plain_model, chat):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model if chat else tiny_plain_model)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<eos> $A", special_tokens=[("<eos>", 1)])
    (problem,) = make_problems(1)
    prompt = prompt_for(problem, tokenizer)
    if chat:  # as TRL's GRPOTrainer tokenizes each kind
        expected = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)
    else:
        expected = tokenizer(text=prompt)
    encoded = Generator(tokenizer, max_new_tokens=1).encode([prompt_text(problem, tokenizer)])
    assert encoded == [expected["input_ids"]]


def test_the_context_of_the_model_limits_the_completion_and_a_prompt_that_fills_it_has_none(model, tokenizer):
    model.config.max_position_embeddings = 8
    generator = Generator(tokenizer, max_new_tokens=100)
    three, filling, one = generator.generate(model, ["abc", "abcdefgh", "a"], range(3))
    assert (three.tokens, one.tokens) == (5, 5)
    assert (filling.text, filling.tokens, filling.truncated) == ("", 0, True)
    assert generator.generate(model, ["abcdefgh"], [0]) == [filling]

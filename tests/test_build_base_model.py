"""The embedded base model: the shipped folder, and its recipe on a scaled-down model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from grpo_project.config import embedded_model_path
from grpo_project.problems.problem import LEVELS, Problem
from grpo_project.problems.prompt import messages, prompt_text
from grpo_project.problems.quickstart import builtin_problems
from grpo_project.verifier import Job, Verifier
from tools.build_base_model import WarmUp, build_base_model, main

SMALL = WarmUp(
    vocabulary=400, hidden=64, layers=2, heads=2, feed_forward=160, steps=60, batch=24, tokenizer_programs=2000
)
LONGEST = 64


@pytest.fixture(scope="module")
def shipped() -> tuple[Any, PreTrainedTokenizerFast]:
    path = embedded_model_path()
    return AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("base")
    return folder, build_base_model(folder, seed=3, recipe=SMALL)


@torch.no_grad()
def completions(model: Any, tokenizer: Any, problems: Sequence[Problem], sample: bool) -> list[str]:
    prompts = [prompt_text(problem, tokenizer) for problem in problems]
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0} if sample else {"do_sample": False}
    torch.manual_seed(0)
    rows = model.generate(**encoded, max_new_tokens=LONGEST, **how)
    return tokenizer.batch_decode(rows[:, encoded.input_ids.shape[1] :], skip_special_tokens=True)


def pass_rates(model: Any, tokenizer: Any, problems: Sequence[Problem], sample: bool = True) -> dict[str, float]:
    """Mean share of tests passed, by level."""
    jobs = [Job(*pair) for pair in zip(problems, completions(model, tokenizer, problems, sample), strict=True)]
    with Verifier(workers=1) as verifier:
        verdicts = verifier.verify_many(jobs)
    rates: dict[str, list[float]] = {level: [] for level in LEVELS}
    for problem, verdict in zip(problems, verdicts, strict=True):
        rates[problem.level].append(verdict.pass_rate)
    return {level: sum(values) / len(values) for level, values in rates.items()}


def test_the_shipped_model_is_small_and_in_float32(shipped: tuple[Any, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = shipped
    assert (embedded_model_path() / "model.safetensors").stat().st_size < 4_000_000
    assert 900_000 <= model.num_parameters() < 1_000_000
    assert model.dtype == torch.float32
    assert model.config.eos_token_id == tokenizer.eos_token_id != tokenizer.pad_token_id == model.config.pad_token_id


def test_the_tokenizer_takes_any_text_and_digits_one_by_one(shipped: tuple[Any, PreTrainedTokenizerFast]) -> None:
    _, tokenizer = shipped
    for text in ("    return [v for v in xs if v >= 10]\n", "naïve \t 问题 🙂\r\n"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer("1234").input_ids) == 4


def test_the_chat_template_leaves_the_system_message_out(shipped: tuple[Any, PreTrainedTokenizerFast]) -> None:
    _, tokenizer = shipped
    problem = builtin_problems("train", count=1)[0]
    assert prompt_text(problem, tokenizer) == f"<|user|>{problem.prompt}\n\n{problem.starter_code}<|assistant|>"
    turns = [*messages(problem), {"role": "assistant", "content": "    return 1"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False).endswith("<|assistant|>    return 1<|end|>")


def test_reference_solutions_fit_the_completion_length(shipped: tuple[Any, PreTrainedTokenizerFast]) -> None:
    _, tokenizer = shipped
    texts = [f"{(problem.solution or '').rstrip()}<|end|>" for problem in builtin_problems("train")]
    assert max(len(ids) for ids in tokenizer(texts).input_ids) <= LONGEST


def test_the_shipped_model_is_right_some_of_the_time(shipped: tuple[Any, PreTrainedTokenizerFast]) -> None:
    """The starting point of the embedded run: sampled at temperature 1 on held-out problems."""
    rates = pass_rates(*shipped, builtin_problems("heldout", count=400))
    assert 0.33 < sum(rates.values()) / len(rates) < 0.47
    assert rates["foundation"] > rates["intermediate"] > rates["expert"] > 0.05


def test_greedy_decoding_does_not_solve_the_upper_levels(shipped: tuple[Any, PreTrainedTokenizerFast]) -> None:
    rates = pass_rates(*shipped, builtin_problems("heldout", count=200), sample=False)
    assert max(rates["intermediate"], rates["advanced"], rates["expert"]) < 0.75


def test_a_small_warm_up_learns(small: tuple[Path, list[float]]) -> None:
    folder, losses = small
    assert len(losses) == SMALL.steps
    assert sum(losses[-10:]) / 10 < 0.5 * losses[0]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer) == SMALL.vocabulary


def test_the_same_seed_gives_the_same_bytes(small: tuple[Path, list[float]], tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    build_base_model(tmp_path, seed=3, recipe=SMALL)
    for name in ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (small[0] / name).read_bytes()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_another_seed_gives_other_weights(small: tuple[Path, list[float]], tmp_path: Path) -> None:
    assert main(["--output", str(tmp_path), "--seed", "4", "--steps", "1"]) == 0
    assert (tmp_path / "model.safetensors").read_bytes() != (small[0] / "model.safetensors").read_bytes()
    assert AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters() > 900_000


def test_no_steps_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(tmp_path), "--steps", "0"])
    assert "--steps is 0; it must be at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_scaled_down_model_reaches_the_pass_rates_of_unreliable_text(tmp_path: Path) -> None:
    """A tenth of the steps: the easiest level is already answered like the text that was read."""
    recipe = WarmUp(hidden=96, layers=3, heads=3, feed_forward=240, steps=700, batch=48)
    build_base_model(tmp_path, seed=5, recipe=recipe)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    rates = pass_rates(model, tokenizer, builtin_problems("heldout", count=400))
    assert 0.5 < rates["foundation"] < 0.9
    assert rates["foundation"] > rates["elementary"] > rates["expert"]

"""``--reward``: what its words mean, and that nothing wrong gets as far as a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from grpo_project.errors import ConfigError
from grpo_project.problems.problem import CallTest, Problem
from grpo_project.rewards import weighted
from grpo_project.rewards.choice import Choice, choose
from grpo_project.verifier import Status, TestResult, Verdict

PROBLEM = Problem("p", "Add 1 to x.", (CallTest((1,), 2), CallTest((2,), 3)), entry_point="f")
USERS = """
def brevity(completions, problem, verdict, **columns):
    assert [p.id for p in problem] == [v.problem_id for v in verdict]
    return [-len(text) for text in completions]

async def slowly(completions, **columns):
    return [None for _ in completions]

def narrow(completions):
    return [0.0 for _ in completions]

number = 3
"""


def chosen(*specs: str) -> Choice:
    return choose(specs, max_completion_length=10)


def verdict_of(*passed: bool) -> Verdict:
    tests = tuple(TestResult(Status.PASSED if ok else Status.FAILED) for ok in passed)
    return Verdict("j", "p", Status.PASSED if all(passed) else Status.FAILED, sum(passed), len(passed), tests)


def test_names_and_weights() -> None:
    assert chosen("pass_rate").weights is None
    choice = chosen("pass_rate", "soft_overlong_punishment:0.25", "length(limit=4):1e-1")
    assert choice.names == ("pass_rate", "soft_overlong_punishment", "length")
    assert choice.weights == (1.0, 0.25, 0.1)


def test_rewards_of_texts_and_lengths() -> None:
    ids = [[1], [1] * 9, [2] * 10, [3] * 12]
    lengths, punishments, repetition = (
        choice.functions[0](completion_ids=ids, completions=[""] * 4, prompts=[""] * 4)
        for choice in map(chosen, ("length", "soft_overlong_punishment", "repetition_penalty(ngram_size=1)"))
    )
    assert lengths == [-0.1, -0.9, -1.0, -1.0]
    assert punishments == [0.0, -0.5, -1.0, -1.0]  # of 10 tokens the last 2 are punished
    assert repetition == pytest.approx([0.0, -8 / 9, -0.9, -11 / 12])
    found = chosen("format(pattern=r'^<think>.*</think>')").functions[0]
    texts = ["<think>a\nb</think> x", "x", [{"role": "assistant", "content": "<think></think>"}]]
    assert found(completions=texts) == [1.0, 0.0, 1.0]


def test_functions_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rewards.py").write_text(USERS)
    monkeypatch.chdir(tmp_path)
    choice = chosen("own_rewards:brevity:0.5", "own_rewards:slowly", "mixed")
    assert choice.names == ("brevity", "slowly", "mixed")
    assert choice.weights == (0.5, 1.0, 1.0)
    assert choice.functions[0](completions=["abc"], problem=[PROBLEM], verdict=[verdict_of(True)]) == [-3]
    for spec, text in {
        "own_rewards:narrow": r"is called with prompts.*def narrow\(completions, \*\*columns\)",
        "own_rewards:nothing": "has no nothing",
        "own_rewards:number": "is called with",
        "no_such_module:f": "can't be imported",
    }.items():
        with pytest.raises(ConfigError, match=text):
            chosen(spec)


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        (["pass_rat"], "known are pass_rate"),
        (["pass_rate", "pass_rate:2"], "each name once"),
        (["pass_rate(x=1)"], "takes no arguments"),
        (["format"], "pattern"),
        (["format(pattern='(')"], "unterminated"),
        (["format(pattern=open('x'))"], "can't be read"),
        (["length(limit=0)"], "at least 1"),
        (["repetition_penalty(max_penalty=1)"], "must not be positive"),
        (["len gth"], "can't be read"),
    ],
)
def test_what_can_not_be_meant_is_refused(specs: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        chosen(*specs)


def test_weighted_pays_for_tests_that_few_of_the_group_pass() -> None:
    easy, hard, both, none = (verdict_of(*o) for o in ((True, False), (False, True), (True, True), (False, False)))
    group = [easy, easy, hard, none]  # the first test is passed by 2 of 4, the second by 1
    rewards = weighted.of_group(group)
    share = (1 - 1.5 / 5) / ((1 - 1.5 / 5) + (1 - 2.5 / 5))
    assert rewards == pytest.approx([0.5 * (1 - share), 0.5 * (1 - share), 0.5 * share, 0.0])
    assert weighted.of_group([both, both]) == [1.0, 1.0]
    assert weighted.of_group([both, easy])[0] == 1.0
    fault = Verdict("j", "p", Status.INFRASTRUCTURE, 0, 2, (TestResult(Status.INFRASTRUCTURE),) * 2)
    first, second = weighted.of_group([easy, hard])
    assert weighted.of_group([easy, fault, hard]) == [first, None, second]


def test_groups_by_size_and_by_neighbourhood() -> None:
    rows = [verdict_of(True, False), verdict_of(False, False), verdict_of(True, False), verdict_of(True, True)]
    by_size = weighted(completions=[""] * 4, problem=[PROBLEM] * 4, verdict=rows, num_generations=2)
    assert by_size == [*weighted.of_group(rows[:2]), *weighted.of_group(rows[2:])]
    assert weighted(completions=[""] * 4, problem=[PROBLEM] * 4, verdict=rows) == weighted.of_group(rows)

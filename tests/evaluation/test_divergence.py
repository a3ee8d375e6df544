"""Reward up, held-out flat: raised when it is so, with its evidence, and not for what only looks like it."""

from __future__ import annotations

import random

import pytest

from grpo_project.curriculum import Alarm, GroupResult
from grpo_project.evaluation.divergence import KIND, Divergence
from grpo_project.evaluation.result import EvaluationResult
from grpo_project.record.evaluations import CompletionRecord
from grpo_project.verifier.verdict import Status, Verdict

LEVELS = ("easy", "hard")
TRAINING = {f"{level}-{i}": level for level in LEVELS for i in range(200)}
PROBLEMS = 60


def record_of(problem: str, level: str, *, passed: bool) -> CompletionRecord:
    status = Status.PASSED if passed else Status.FAILED
    verdict = Verdict("job", problem, status, int(passed), 1, code="x")
    return CompletionRecord(problem, level, "tests", 0, "prompt", "x", 1, False, verdict)


class Bench:
    """Rollouts and evaluations with given true pass rates."""

    def __init__(self, seed: int = 0) -> None:
        self.divergence = Divergence(TRAINING)
        self.random = random.Random(seed)
        self.step = 0
        self.skills = [self.random.random() for _ in range(PROBLEMS)]

    def train(self, rate: float, *, easy_share: float = 0.5, hard_rate: float | None = None, groups: int = 200) -> None:
        """``groups`` groups of four, some of easy problems."""
        results = []
        for _ in range(groups):
            level = "easy" if self.random.random() < easy_share else "hard"
            chance = rate if level == "easy" or hard_rate is None else hard_rate
            passed = [self.random.random() < chance for _ in range(4)]
            statuses = [Status.PASSED if good else Status.TIMEOUT for good in passed]
            name = f"{level}-{self.random.randrange(200)}"
            results.append(GroupResult(name, [float(good) for good in passed], statuses))
        self.divergence.observe_rollouts(results)

    def evaluate(self, rate: float) -> Alarm | None:
        """A fixed difficulty a problem; the share ``rate`` of them is solved, and a few answers waver."""
        self.step += 25
        records = tuple(
            record_of(f"held-{i}", LEVELS[i % 2], passed=(skill < rate) != (self.random.random() < 0.02))
            for i, skill in enumerate(self.skills)
        )
        return self.divergence.observe_evaluation(EvaluationResult(self.step, records, 0.0, 0.0, 0.0))


def alarms(bench: Bench, training: list[float], held_out: list[float]) -> list[Alarm]:
    found = []
    for trained, rate in zip(training, held_out, strict=True):
        bench.train(trained)
        found.append(bench.evaluate(rate))
    return [alarm for alarm in found if alarm is not None]


def test_training_that_leaves_the_held_out_rate_behind_is_named_once_with_its_evidence() -> None:
    found = alarms(Bench(), [0.5, 0.6, 0.7, 0.8, 0.9, 0.95], [0.5] * 6)
    assert [alarm.kind for alarm in found] == [KIND]
    cause = found[0].cause
    assert found[0].step == 100 and cause.startswith("From step 25 to 100 the pass rate in training rose from 0.")
    assert f"over {PROBLEMS} problems of easy, hard" in cause
    assert "passed 48% to 80%, timeout 52% to 20%" in cause, "which outcomes changed"


@pytest.mark.parametrize(
    ("training", "held_out"),
    [
        ([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]),  # it learns
        ([0.5] * 6, [0.5] * 6),  # nothing happens
        ([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.9] * 6),  # held-out greedy answers were good all along
    ],
)
def test_nothing_is_said_of_other_courses(training: list[float], held_out: list[float]) -> None:
    for seed in range(5):
        assert alarms(Bench(seed), training, held_out) == []


def test_a_change_of_the_mixture_alone_is_no_rise() -> None:
    bench = Bench()
    for easy_share in (0.2, 0.4, 0.6, 0.8):
        bench.train(0.9, easy_share=easy_share, hard_rate=0.2)
        assert bench.evaluate(0.5) is None


def test_it_is_raised_again_only_after_it_had_ended() -> None:
    rates = [0.5, 0.6, 0.7, 0.9, 0.95, 0.95, 0.95, 0.95, 0.5, 0.5, 0.5, 0.5, 0.6, 0.8, 0.95]
    assert [alarm.step for alarm in alarms(Bench(), rates, [0.4] * len(rates))] == [100, 350]


def test_with_its_state_it_goes_on_as_if_nothing_had_happened() -> None:
    whole, parted = Bench(), Bench()
    training, held_out = [0.5, 0.6, 0.7, 0.9], [0.5] * 4
    assert alarms(whole, training[:2], held_out[:2]) == alarms(parted, training[:2], held_out[:2]) == []
    parted.train(0.7, groups=50)
    whole.train(0.7, groups=50)
    state = parted.divergence.state_dict()
    parted.train(0.1)  # lost with the process
    parted.random.setstate(whole.random.getstate())
    parted.divergence = Divergence(TRAINING)
    parted.divergence.load_state_dict(state)
    after = [alarms(bench, training[2:], held_out[2:]) for bench in (whole, parted)]
    assert after[0] == after[1] and len(after[0]) == 1


def test_other_problems_can_not_be_compared() -> None:
    bench = Bench()
    for rate in (0.5, 0.6, 0.8):
        bench.train(rate)
        bench.evaluate(0.5)
    bench.train(0.95)
    records = tuple(record_of(f"new-{i}", "easy", passed=False) for i in range(PROBLEMS))
    result = EvaluationResult(100, records, 0.0, 0.0, 0.0)
    assert bench.divergence.observe_evaluation(result) is None

"""A run directory as training leaves it, written through the real journal and stores, without training anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_project.evaluation.result import EvaluationResult
from grpo_project.record.evaluations import CompletionRecord, EvaluationStore
from grpo_project.record.journal import Journal
from grpo_project.record.run_record import RunRecord
from grpo_project.record.samples import SampleStore
from grpo_project.verifier.verdict import Status, TestResult, Verdict

LEVELS = ("foundation", "expert")


def record_run(
    folder: Path,
    starts: Sequence[tuple[int, int]] = ((0, 20),),
    *,
    every: int = 5,
    skill: float = 0.0,
    code: str = "def f(x):\n    return x + 1",
    prompt: str = "Add 1 to x.",
    config: Mapping[str, Any] | None = None,
    samples: bool = True,
    expected: Sequence[str] = ("42",),
) -> Path:
    """A run of two problems a level.

    Args:
        starts: for each process start, the step that it goes on from and the last step that it comes to. All but the
            last are killed.
        every: steps between evaluations; 0 makes none.
        skill: shifts every pass rate.
        config: ``grpo`` flags beside the usual ones.
        expected: what the tests of each training completion expect, one a test.
    """
    last = starts[-1][1]
    grpo = {"max_steps": last, "num_generations": 4, "logging_steps": 1, "seed": 1, **(config or {})}
    record = RunRecord.create(
        folder,
        {"run": {"model_name": None, "reward": "pass_rate"}, "grpo": grpo, "model": {}},
        {name: {"source": "builtin", "count": 4, "fingerprint": "f" * 64} for name in ("train", "heldout")},
    )
    seen = 0
    for attempt, (begin, end) in enumerate(starts):
        record.begin_attempt(
            attempt,
            begin if attempt else None,
            seen,
            isolation="landlock",
            world_size=1,
            command=["grpo", "train", "--seed", "1"],
        )
        with Journal(folder, attempt) as journal, SampleStore(folder, attempt) as store:
            journal.event("resumed" if attempt else "started", step=begin, run_id=record.run_id)
            evaluations = EvaluationStore(folder, attempt)
            for step in range(begin if begin == 0 else begin + 1, end + 1):
                if step:
                    journal.metrics(step, "train", training_row(step, attempt))
                    if samples:
                        store.append(step, group(step, code, prompt, expected))
                if every and step % every == 0:
                    result = evaluation(step, last, skill, code, prompt)
                    evaluations.write(step, result.records)
                    journal.metrics(step, "eval", result.metrics())
                    journal.event("stage_decision", **decision(step, last))
        seen = max(seen, end)
    record.end_attempt("finished", last)
    return folder


def training_row(step: int, attempt: int) -> dict[str, float]:
    return {
        "loss": 0.1 / step,
        "reward": min(1.0, 0.2 + 0.03 * step),
        "grad_norm": 0.1 + 0.01 * (step % 3) + attempt,
        "entropy": 1 / step,
        "num_tokens": 1000.0 * step,
        "step_time": 2.0,
        "completions/mean_length": 10.0,
        "completions/clipped_ratio": 0.0,
        "frac_reward_zero_std": 0.5,
        'a name with <script>alert(1)</script> & "quotes"': float(step),
    }


def group(step: int, code: str, prompt: str, expected: Sequence[str]) -> list[dict[str, Any]]:
    """Four completions of one problem: all wrong at first, then some right, then all."""
    right = min(4, step // 4)
    level = LEVELS[step % 2]
    return [sample(f"{level}-{step % 4}", level, i < right, code, prompt, expected) for i in range(4)]


def sample(problem: str, level: str, passed: bool, code: str, prompt: str, expected: Sequence[str]) -> dict[str, Any]:
    status = "passed" if passed else "failed"
    tests = [
        {"status": status, "message": "", "input": f"f({i})", "expected": text, "got": text if passed else "41"}
        for i, text in enumerate(expected, start=41)
    ]
    return {
        "problem_id": problem,
        "level": level,
        "prompt": prompt,
        "completion": code,
        "code": code,
        "status": status,
        "passed": len(tests) if passed else 0,
        "total": len(tests),
        "tests": [{**test, "cpu_s": 0.0} for test in tests],
        "reward": float(passed),
        "advantage": 0.5 if passed else -0.5,
    }


def evaluation(step: int, last: int, skill: float, code: str, prompt: str) -> EvaluationResult:
    """Four tests a problem, of which more pass as the steps go on."""
    records = []
    for level in LEVELS:
        for number in range(2):
            passed = max(0, min(4, round(4 * (step / last + skill)) - number))
            records.append(evaluated(f"{level}-{number}", level, passed, code, prompt))
    first = evaluation(0, last, skill, code, prompt).rates if step else None
    return EvaluationResult(step, tuple(records), 1.0, 0.5, 1.5, first=first)


def evaluated(problem: str, level: str, passed: int, code: str, prompt: str) -> CompletionRecord:
    tests = tuple(
        TestResult(Status.PASSED if i < passed else Status.FAILED, input=f"f({i})", expected=str(i + 1), got=str(i))
        for i in range(4)
    )
    status = Status.PASSED if passed == 4 else Status.FAILED
    verdict = Verdict("job", problem, status, passed, 4, tests, code=code)
    return CompletionRecord(problem, level, "builtin", 0, prompt, code, 9, False, verdict)


def decision(step: int, last: int) -> dict[str, Any]:
    advances = step == last // 2
    return {
        "action": "advance" if advances else "hold",
        "step": step,
        "stage": "foundation" if step <= last // 2 else "elementary",
        "next_stage": "elementary" if step >= last // 2 else "foundation",
        "evidence": 0.5,
        "interval": [0.4, 0.6],
        "count": 20.0,
        "threshold": 0.7,
        "reason": "the pass rate is above its threshold" if advances else "missing to advance: a higher lower bound",
        "missing": "" if advances else "a higher lower bound",
        "cause": "gate",
    }

"""What an evaluation found: one record a completion, one score a problem, metrics with intervals.

Letters: P problems, S completions of each (``num_samples``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from grpo_project.evaluation.estimators import Estimate, mean_interval, paired_change, pass_at_k
from grpo_project.problems.problem import LEVELS
from grpo_project.record.evaluations import CompletionRecord
from grpo_project.record.run_directory import MAIN_METRIC
from grpo_project.verifier.verdict import Status, Verdict

Metrics = dict[str, float | str]


@dataclass(frozen=True, slots=True)
class ProblemScore:
    """One problem's S completions together."""

    problem_id: str
    level: str
    pass_rate: float
    """Mean share of the tests passed."""
    solved: int
    samples: int


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation of one model.

    ``previous`` and ``first`` are pass rates by problem id of earlier evaluations, for the paired changes.
    """

    step: int
    records: tuple[CompletionRecord, ...]
    generation_s: float
    verification_s: float
    """Seconds that the verifier's workers were busy, most of them while other completions were generated."""
    seconds: float
    ks: tuple[int, ...] = (1,)
    first: Mapping[str, float] | None = None
    previous: Mapping[str, float] | None = None

    @cached_property
    def scores(self) -> tuple[ProblemScore, ...]:
        by_problem: dict[str, list[CompletionRecord]] = {}
        for record in self.records:
            by_problem.setdefault(record.problem_id, []).append(record)
        return tuple(
            ProblemScore(
                problem_id,
                records[0].level,
                fmean(r.verdict.pass_rate for r in records),
                sum(r.verdict.solved for r in records),
                len(records),
            )
            for problem_id, records in by_problem.items()
        )

    @property
    def rates(self) -> dict[str, float]:
        """Mean share of tests passed by problem id."""
        return {score.problem_id: score.pass_rate for score in self.scores}

    @property
    def n(self) -> int:
        """How many problems."""
        return len(self.scores)

    @property
    def source(self) -> str:
        """Where the problems come from: ``"builtin"``, a file; several are joined with ``+``."""
        return "+".join(sorted({record.source for record in self.records}))

    @property
    def pass_rate(self) -> float:
        """Mean share of tests passed, over problems."""
        return self.intervals["test_pass_rate"].mean

    @cached_property
    def by_level(self) -> dict[str, tuple[float, int]]:
        """Level -> (mean share of tests passed, number of problems)."""
        return {
            level: (fmean(score.pass_rate for score in scores), len(scores))
            for level, scores in self.scores_by_level().items()
        }

    def scores_by_level(self) -> dict[str, list[ProblemScore]]:
        groups: dict[str, list[ProblemScore]] = {}
        for score in self.scores:
            groups.setdefault(score.level, []).append(score)
        return groups

    @cached_property
    def intervals(self) -> dict[str, Estimate]:
        """``test_pass_rate`` and each ``pass@k`` with 95% intervals."""
        return estimates(self.scores, self.ks)

    @cached_property
    def changes(self) -> dict[str, Estimate]:
        """Paired change of the mean test pass rate since the ``first`` and the ``previous`` evaluation."""
        earlier = {"first": self.first, "previous": self.previous}
        return {
            since: paired_change([rates[i] for i in self.rates], list(self.rates.values()))
            for since, rates in earlier.items()
            if rates is not None and rates.keys() >= self.rates.keys()
        }

    def warnings(self) -> list[str]:
        """What makes these numbers suspect, in words; empty if nothing does."""
        if not self.records:
            return ["nothing was evaluated"]
        texts = {
            "every completion was cut off by the token limit; raise max_new_tokens": lambda r: r.truncated,
            "no completion held code in a known format": lambda r: r.verdict.status is Status.WRONG_FORMAT,
            "every completion ran out of time": lambda r: r.verdict.status is Status.TIMEOUT,
            "every completion is empty": lambda r: not r.completion.strip(),
        }
        found = [text for text, holds in texts.items() if all(map(holds, self.records))]
        unanswered = len({record.problem_id for record in self.records if record.tokens == 0})
        if unanswered:
            found.append(f"{unanswered} of {self.n} prompts do not fit the model's context and count as not solved")
        return found

    def metrics(self) -> Metrics:
        """Everything as flat names, ready for a journal row.

        Rates are shares of completions or of tests (0 to 1), lengths are tokens, times are seconds.
        """
        main = self.intervals["test_pass_rate"]
        values: Metrics = {
            MAIN_METRIC: main.mean,
            f"{MAIN_METRIC}_low": main.low,
            f"{MAIN_METRIC}_high": main.high,
            "inference/step": self.step,
            "eval/problems": self.n,
            "eval/completions": len(self.records),
            "eval/source": self.source,
            "eval/seconds": self.seconds,
            "eval/generation_seconds": self.generation_s,
            "eval/verification_seconds": self.verification_s,
        }
        for k in self.ks:
            estimate = self.intervals[f"pass@{k}"]
            values |= {f"eval/pass@{k}": estimate.mean}
            values |= {f"eval/pass@{k}_low": estimate.low, f"eval/pass@{k}_high": estimate.high}
        values |= {f"eval/{name}": value for name, value in rates_of(self.records).items()}
        for since, change in self.changes.items():
            name = f"eval/change_since_{since}"
            values |= {name: change.mean, f"{name}_low": change.low, f"{name}_high": change.high}
        return values | self._level_metrics()

    def _level_metrics(self) -> Metrics:
        values: Metrics = {}
        for level, scores in self.scores_by_level().items():
            ids = {score.problem_id for score in scores}
            found = {name: e.mean for name, e in estimates(scores, self.ks).items()}
            found |= rates_of([r for r in self.records if r.problem_id in ids])
            values |= {f"eval/{level}/{name}": value for name, value in found.items()}
            values[f"eval/{level}/problems"] = len(scores)
        return values


def estimates(scores: Sequence[ProblemScore], ks: Iterable[int]) -> dict[str, Estimate]:
    """Interval estimates over problems: the mean test pass rate and each pass@k."""
    found = {"test_pass_rate": mean_interval([score.pass_rate for score in scores])}
    for k in ks:
        found[f"pass@{k}"] = mean_interval([pass_at_k(score.samples, score.solved, k) for score in scores])
    return found


def rates_of(records: Sequence[CompletionRecord]) -> dict[str, float]:
    """Shares of completions that compile, time out, are cut off or hold no code, and the mean length in tokens."""

    def share(holds: Callable[[CompletionRecord], bool]) -> float:
        return fmean(float(holds(record)) for record in records)

    return {
        "compile_rate": share(lambda r: compiled(r.verdict)),
        "timeout_rate": share(lambda r: r.verdict.status is Status.TIMEOUT),
        "wrong_format_rate": share(lambda r: r.verdict.status is Status.WRONG_FORMAT),
        "truncated_rate": share(lambda r: r.truncated),
        "mean_tokens": fmean(record.tokens for record in records),
    }


NOT_COMPILED = (Status.SYNTAX_ERROR, Status.ELABORATION_ERROR)


def compiled(verdict: Verdict) -> bool:
    """Code was found and it compiles, as the verifier says: compiling it here would not be safe."""
    return verdict.code is not None and verdict.status not in NOT_COMPILED


def levels_of(row: Mapping[str, object]) -> list[str]:
    """The levels that a row of the journal covers, easiest first, then others by name."""
    parts = [name.split("/") for name in row]
    found = {part[1] for part in parts if len(part) == 3 and part[0] == "eval" and part[2] == "problems"}
    return [level for level in LEVELS if level in found] + sorted(found - set(LEVELS))

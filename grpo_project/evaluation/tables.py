"""Evaluations as tables for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from grpo_project.evaluation.estimators import Estimate, paired_change, paired_p_value, pass_at_k
from grpo_project.evaluation.result import EvaluationResult, ProblemScore, estimates


def result_table(result: EvaluationResult, title: str) -> Table:
    """One line a level and one for all: problems, pass rates with 95% intervals."""
    table = Table(title=title, title_justify="left")
    table.add_column("level")
    table.add_column("problems", justify="right")
    for name in result.intervals:
        table.add_column(label(name), justify="right")
    groups = result.scores_by_level()
    for level, scores in groups.items() if len(groups) > 1 else ():
        table.add_row(level, str(len(scores)), *map(interval, estimates(scores, result.ks).values()))
    if len(groups) > 1:
        table.add_section()
    table.add_row("all", str(result.n), *map(interval, result.intervals.values()), style="bold")
    return table


def comparison_table(first: EvaluationResult, second: EvaluationResult, names: Sequence[str]) -> Table:
    """Two models on the same problems: each one's rates, the paired change and its p-value."""
    table = Table(title="the same problems, side by side", title_justify="left")
    for heading in ("", *names, "change (95%)", "p"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name in first.intervals:
        before, after = values(first, name), values(second, name)
        change = paired_change(list(before.values()), [after[key] for key in before])
        p_value = paired_p_value(list(before.values()), [after[key] for key in before])
        sides = (interval(result.intervals[name]) for result in (first, second))
        table.add_row(label(name), *sides, signed(change), probability(p_value))
    return table


def status_line(result: EvaluationResult) -> str:
    """How the completions ended, most frequent first."""
    counts = Counter(record.verdict.status.value for record in result.records)
    truncated = sum(record.truncated for record in result.records)
    parts = [f"{count} {status}" for status, count in counts.most_common()]
    return ", ".join(parts) + (f"; {truncated} cut off by the token limit" if truncated else "")


def values(result: EvaluationResult, name: str) -> dict[str, float]:
    """One value a problem, by its id: the share of tests passed, or pass@k."""

    def value(score: ProblemScore) -> float:
        if name == "test_pass_rate":
            return score.pass_rate
        return pass_at_k(score.samples, score.solved, int(name.removeprefix("pass@")))

    return {score.problem_id: value(score) for score in result.scores}


def label(name: str) -> str:
    return "tests passed" if name == "test_pass_rate" else name


def interval(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def signed(estimate: Estimate) -> str:
    return f"{estimate.mean:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def probability(p_value: float) -> str:
    return "< 0.001" if p_value < 0.0005 else f"{p_value:.3f}"

"""Run a problem file's reference solutions, or given completions, through the verifier.

Exit code 1 where a reference solution fails or a self-test promise does not hold.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_project.commands import problem_flags
from grpo_project.errors import ConfigError, DataError
from grpo_project.problems.verilog_published import KNOWN_FAULTY
from grpo_project.problems.verilog_text import hollow

if TYPE_CHECKING:
    from grpo_project.problems.problem import Problem
    from grpo_project.verifier import Verdict, Verifier

RUNS = 3
SLOW_SHARE = 0.5
"""A test that takes more than this share of its time limit is slow: on a slower machine it would fail."""
NO_SOLUTION = "no_solution"


@dataclass(slots=True)
class Row:
    """One line of the table: a problem, what was run for it, and what to say about it."""

    problem: Problem
    completion: str | None
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        return self.verdicts[0].status.value if self.verdicts else NO_SOLUTION

    def as_json(self) -> dict[str, Any]:
        content: dict[str, Any] = {"id": self.problem.id, "status": self.status}
        if self.problem.language != "python":
            content["remarks"] = self.notes
        if not self.verdicts:
            nothing = {"passed": 0, "total": len(self.problem.tests), "weak": False, "cpu_s": 0.0, "wall_s": 0.0}
            return content | nothing
        verdict = self.verdicts[0]
        numbers: dict[str, Any] = {"passed": verdict.passed, "total": verdict.total, "weak": verdict.weak}
        if verdict.method:
            numbers["method"] = verdict.method
        return content | numbers | {"cpu_s": round(verdict.cpu_s, 6), "wall_s": round(verdict.wall_s, 6)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", nargs="?", metavar="DATASET", help=problem_flags.DATASET)
    problem_flags.add_arguments(parser)
    parser.add_argument("--solutions", metavar="FILE", help='JSON Lines of {"id", "completion"} to judge instead')
    parser.add_argument("--json", action="store_true", help="one JSON line for each row, and nothing else on stdout")
    parser.add_argument("--selftest", action="store_true", help="show what the sandbox holds on this machine")
    parser.add_argument(
        "--verifier_workers", type=int, metavar="N", help="programs run at a time (default: one a core)"
    )
    parser.add_argument(
        "--verifier_address", metavar="ADDRESS", help="judge on a Ray cluster: ray, auto, HOST:PORT or ray://HOST:PORT"
    )
    parser.add_argument(
        "--verifier_isolation", metavar="LEVEL", help="namespaces, landlock or rlimits (default: the strongest here)"
    )


def run(args: argparse.Namespace) -> int:
    from grpo_project.verifier import Verifier

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a program gives back may hold half a surrogate pair
    if args.dataset is None and not args.selftest:
        raise ConfigError("name a problem file (grpo verify DATASET), or ask for --selftest")
    fault = False
    # No cache: three runs are made to be compared.
    options = {"workers": args.verifier_workers, "isolation": args.verifier_isolation, "address": args.verifier_address}
    with Verifier(**options, cache=False) as verifier:
        if args.selftest:
            fault = not _selftest(verifier, as_json=args.json)
        if args.dataset is not None:
            problems = problem_flags.problems(args, args.dataset, "train")
            rows = _given(problems, Path(args.solutions)) if args.solutions else _references(problems)
            _judge(verifier, rows, flags=not args.solutions)
            _print_json(rows) if args.json else _print_table(rows, verifier)
            fault = fault or (not args.solutions and any(row.status not in ("passed", NO_SOLUTION) for row in rows))
    return int(fault)


def _references(problems: Sequence[Problem]) -> list[Row]:
    return [
        Row(problem, None if problem.solution is None else fenced(problem.solution, problem.language))
        for problem in problems
    ]


def fenced(code: str, language: str = "python") -> str:
    """The code as a completion that is code and nothing else, whatever it contains."""
    return f"~~~~~~{language}\n{code}\n~~~~~~\n"


def _given(problems: Sequence[Problem], path: Path) -> list[Row]:
    """Raises ``DataError`` that lists every wrong row."""
    by_id = {problem.id: problem for problem in problems}
    rows, faults = [], []
    for number, line in _lines(path):
        try:
            content = json.loads(line)
        except ValueError as error:
            faults.append(f"line {number}: no JSON ({error})")
            continue
        if not isinstance(content, dict) or not isinstance(content.get("completion"), str) or "id" not in content:
            faults.append(f'line {number}: has to be an object with "id" and "completion", both text')
        elif content["id"] not in by_id:
            faults.append(f"line {number}: the data set has no problem {content['id']!r}")
        else:
            rows.append(Row(by_id[content["id"]], content["completion"]))
    if faults:
        raise DataError(f"{path}: " + "; ".join(faults))
    return rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read ({error})") from None
    return ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def _judge(verifier: Verifier, rows: Sequence[Row], *, flags: bool) -> None:
    """Run every row, and what the flags need: each reference three times, each problem with an empty solution."""
    from grpo_project.verifier import Job

    runnable = [(row, row.completion) for row in rows if row.completion is not None]
    for _ in range(RUNS if flags else 1):
        # With one secret all three would draw the same: the flaky ones would not show.
        jobs = [Job(row.problem, completion) for row, completion in runnable]
        verdicts = verifier.verify_many(jobs, secret=os.urandom(32), keep_unusable=True)
        for (row, _), verdict in zip(runnable, verdicts, strict=True):
            row.verdicts.append(verdict)
    for row in rows:
        row.notes += _notes_of(row)
    if flags:
        _flag_duplicates(rows)
        worthless = [(row, what, code) for row in rows for what, code in worthless_solutions(row.problem).items()]
        jobs = [Job(row.problem, fenced(code, row.problem.language)) for row, _, code in worthless]
        verdicts = verifier.verify_many(jobs, keep_unusable=True)
        for (row, what, _), verdict in zip(worthless, verdicts, strict=True):
            if verdict.solved:
                row.notes.append(f"trivial: {what} passes")


def _notes_of(row: Row) -> list[str]:
    notes = []
    if len({(verdict.status, verdict.passed) for verdict in row.verdicts}) > 1:
        notes.append("flaky: " + ", ".join(f"{verdict.passed}/{verdict.total}" for verdict in row.verdicts))
    if row.verdicts and row.verdicts[0].weak:
        notes.append(_weak_note(row.verdicts[0]))
    slowest = max((test.cpu_s for verdict in row.verdicts for test in verdict.tests), default=0.0)
    if slowest > SLOW_SHARE * row.problem.time_limit_s:
        notes.append(f"slow: {slowest:.2g} of {row.problem.time_limit_s:g} s")
    if row.verdicts:
        notes += row.verdicts[0].remarks
    if "verilog-eval" in row.problem.tags and row.problem.id in KNOWN_FAULTY:
        notes.append(f"known to be faulty: {KNOWN_FAULTY[row.problem.id]}")
    if row.verdicts and not row.verdicts[0].solved:
        notes.append(_first_failure(row.verdicts[0]))
    return notes


def _weak_note(verdict: Verdict) -> str:
    count = sum(test.weak for test in verdict.tests)
    earns = ", so nothing earns a reward without --weak_tests allow" if count == len(verdict.tests) else ""
    return f"weak: {count} of {verdict.total} tests left to the program's own objects{earns}"


def _first_failure(verdict: Verdict) -> str:
    test = next(test for test in verdict.tests if not test.passed)
    if test.message:
        return test.message
    return f"{test.input} gave {test.got}, not {test.expected}"


def _flag_duplicates(rows: Sequence[Row]) -> None:
    from grpo_project.problems.identity import normalised_prompt

    first: dict[str, str] = {}
    for row in rows:
        prompt = normalised_prompt(row.problem)
        if prompt in first:
            row.notes.append(f"duplicate of {first[prompt]}")
        first.setdefault(prompt, row.problem.id)


def worthless_solutions(problem: Problem) -> dict[str, str]:
    """What should pass no problem, by its name: a program that does nothing, a module whose outputs never change."""
    if problem.language == "verilog":
        if problem.solution is None or problem.entry_point is None:
            return {}
        values = {"an empty module": None, "constant 0": "0", "constant 1": "-1"}
        return {what: hollow(problem.solution, problem.entry_point, value) for what, value in values.items()}
    if problem.entry_point is None:
        return {"an empty solution": "pass"}
    return {"an empty solution": f"def {problem.entry_point}(*args, **kwargs):\n    pass"}


def _print_json(rows: Sequence[Row]) -> None:
    for row in rows:
        print(json.dumps(row.as_json(), ensure_ascii=False))


def _print_table(rows: Sequence[Row], verifier: Verifier) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("problem", "status", "tests", "CPU s", "remarks", box=None, pad_edge=False)
    for row in rows:
        style = {"passed": "green", NO_SOLUTION: "dim"}.get(row.status, "red")
        content = row.as_json()
        tests = f"{content['passed']}/{content['total']}"
        cells = (row.problem.id, Text(row.status, style=style), tests, f"{content['cpu_s']:.3f}", "; ".join(row.notes))
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
    console = Console(file=sys.stdout, soft_wrap=True)
    console.print(table)
    for line in summary(rows, verifier.isolation):
        console.print(line, highlight=False, markup=False)


def summary(rows: Sequence[Row], isolation: str) -> list[str]:
    """What the table comes to, in lines of text."""
    judged = [row for row in rows if row.verdicts]
    passed = sum(row.status == "passed" for row in judged)
    lines = [f"{passed} of {len(judged)} passed (isolation: {isolation})"]
    if len(judged) < len(rows):
        lines.append(f"{len(rows) - len(judged)} without a solution to run")
    for flag in ("weak", "flaky", "slow", "trivial", "duplicate"):
        count = sum(any(note.startswith(flag) for note in row.notes) for row in rows)
        if count or flag == "weak":
            lines.append(f"{count} {flag}")
    return lines


def _selftest(verifier: Verifier, *, as_json: bool) -> bool:
    """Print what holds; ``False`` when a promise of the level in force does not."""
    from rich.console import Console

    from grpo_project.verifier.selftest import available_levels, run_probes

    console = Console(file=sys.stderr if as_json else sys.stdout, soft_wrap=True)
    for level, reason in available_levels().items():
        console.print(f"isolation {level}: {reason or 'available'}", highlight=False, markup=False)
    console.print(f"in force: {verifier.isolation}, {verifier.workers} workers", highlight=False, markup=False)
    probes = run_probes(verifier)
    for probe, status in probes:
        word = "holds" if status in probe.expected else f"BROKEN ({status.value})"
        console.print(f"  {word:8} {probe.promise}", highlight=False, markup=False)
    return all(status in probe.expected for probe, status in probes)

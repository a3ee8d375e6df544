"""Forged records: what a candidate writes into its link is a claim. None raises on our side, none passes a test."""

import json
import random

import pytest

from grpo_project.problems.problem import AssertTest, CallTest, CheckTest, Problem, StdioTest
from grpo_project.verifier import Job, Verifier

SOLUTION = "class Stack:\n    pass\n"
CHECKER = "def check(args, kwargs, got, expected):\n    return sorted(got)[0] + 1 == expected"
TESTS = {
    "calls": {"tests": tuple(CallTest((n,), ["never", n]) for n in range(40))},
    "checker": {"tests": tuple(CallTest((n,), 10**12) for n in range(40)), "checker": CHECKER},
    "asserts": {"tests": tuple(AssertTest(f"assert f({n}) == ['never', {n}]") for n in range(40))},
    "changes": {"tests": tuple(AssertTest(f"xs = [3, {n}]\nf(xs)\nassert xs == [{n}, 3, 3]") for n in range(4, 44))},
    "exceptions": {
        "tests": tuple(
            AssertTest(f"try:\n    f({n})\n    assert False\nexcept ValueError as e:\n    assert 'never' in str(e)")
            for n in range(40)
        )
    },
    "check": {
        "tests": (
            CheckTest(
                "def check(c):\n    for n in range(40):\n        try:\n            got = c(n)\n"
                "            assert got == ['never'] or abs(got - 3) < 1e-6 and len(got)\n"
                "        except (TypeError, ValueError): pass\n    assert c(41) == 'never'"
            ),
        )
    },
    "objects": {
        "tests": tuple(AssertTest(f"s = Stack()\ns.push({n})\nassert s.peek() == 'never'") for n in range(20)),
        "entry_point": "Stack",
        "solution": SOLUTION,
    },
}
LEAVES = [None, True, False, 0, 1, -1, 2.5, float("nan"), float("inf"), "", "value", "ValueError", "\ud800", 10**4000]
LEAVES += [1e308, "0x" + "f" * 4500, "1/0", "sNaN", "1e999999999", "__class__", "ExceptionGroup", "SystemExit"]
LEAVES += [{"i": "0x" + "f" * 5000}] * 3  # an integer that Python does not write out


CHAINS = [
    "E",
    "coroutine",
    "function",
    3,
    [],
    [["E", 1]],
    [["E", 1], ["ValueError", 0]],
    [["SystemExit", 0]],
    [["E", -1]],
]
OPERATIONS = ["call", "next", "getattr", "setattr", "eq", "len", "__class__", "eval", 3]


def forged_value(rng: random.Random, depth: int = 0):
    if depth > 3 or rng.random() < 0.35:
        return rng.choice(LEAVES)
    if rng.random() < 0.4:
        return [forged_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    tag = rng.choice("tsfdiycnqxzhlrkmpa")
    deeper = [forged_value(rng, depth + 1) for _ in range(2)]
    content = {
        "d": [deeper],
        "i": rng.choice(["0x" + "f" * 5000, "-0x1", "zz", 5]),
        "y": rng.choice(["00ff", "0", 3]),
        "n": [rng.choice(["Fraction", "Decimal", "x"]), rng.choice(["1/0", "1/3", "NaN", "sNaN", "1e9999999", 5])],
        "q": [deeper[0], [deeper[1]]],
        "h": [rng.choice([0, 1, 7, -1, 10**30]), rng.choice(["object", "class", "exception", 3]), rng.choice(CHAINS)],
        "l": rng.choice([0, 1, 10**30, deeper[0]]),
        "r": [rng.choice([0, 5, 10**300, deeper[0]]) for _ in range(3)],
        "k": [rng.choice([None, 1, -1, deeper[0]]), [deeper[1]]],
        "m": [
            rng.choice(["date", "timedelta", "tzinfo"]),
            rng.choice(["2020-01-01", [1, 2, 3], [10**30] * 3, deeper[0]]),
        ],
        "p": ["P", rng.choice([["x"], ["x", "y"], ["__class__", 3]]), deeper],
        "a": [rng.choice(["int64", "object", "float64"]), rng.choice([[2], [10**9], [-1], deeper]), deeper],
    }.get(tag, deeper)
    return {tag: deeper[0] if rng.random() < 0.15 else content}


def forged_record(rng: random.Random):
    kind = rng.random()
    if kind < 0.45:
        return ["value", forged_value(rng), *([[forged_value(rng)]] if rng.random() < 0.3 else [])]
    if kind < 0.85:
        names = rng.choice([[forged_value(rng) for _ in range(3)], ["ValueError"], [], forged_value(rng)])
        line = rng.choice([1, -1, True, 10**30, {"i": "0x" + "f" * 5000}, forged_value(rng)])
        record = ["raised", names, rng.choice(["text", forged_value(rng), "\ud800"]), line]
        more = [forged_value(rng), rng.choice([[1, 0], [2], forged_value(rng)]), rng.choice([1, forged_value(rng)])]
        return record + more[: rng.choice([0, 0, 1, 2, 3])]
    if kind < 0.92:
        number, operation = rng.choice([0, 1, -1, 10**30]), rng.choice(OPERATIONS)
        return ["ask", number, operation, [forged_value(rng)], rng.choice([{"d": []}, {"d": [["x", 1]]}, 3])]
    return forged_value(rng)


def forged_frames(rng: random.Random, records: int) -> list[bytes]:
    frames = [json.dumps(["loaded", True]).encode()] if rng.random() < 0.9 else []
    for _ in range(records):
        frame = json.dumps(forged_record(rng)).encode()
        if rng.random() < 0.03:  # not even text, or cut short
            frame = bytes(rng.randrange(256) for _ in range(40)) if rng.random() < 0.5 else frame[:-1]
        frames.append(frame)
    return frames


def program_of(frames: list[bytes], code: int) -> str:
    return (
        f"import os, struct\nfor b in {frames!r}:\n    b = struct.pack('!I', len(b)) + b\n"
        f"    while b: b = b[os.write(3, b):]\nos._exit({code})\n"
    )


def judge_forgeries(level: str, records: int, seed: int) -> None:
    rng = random.Random(seed)
    problems = [Problem(n, "", **{"entry_point": "f", "time_limit_s": 5.0} | t) for n, t in TESTS.items()]
    stdio = Problem("stdio", "", (StdioTest("1\n", "2\n"),), time_limit_s=5.0)
    jobs, forged = [], 0
    while forged < records:
        problem = problems[len(jobs) % len(problems)]
        jobs.append(Job(problem, program_of(forged_frames(rng, 45), rng.choice([0, 1])), str(len(jobs))))
        forged += 45
        if len(jobs) % 10 == 0:
            jobs.append(Job(stdio, program_of([json.dumps(forged_record(rng)).encode()], 1), str(len(jobs))))
    with Verifier(workers=2, isolation=level, cache=False) as verifier:
        verdicts = list(verifier.stream(jobs))  # a judge that died of one three times would raise
    assert len(verdicts) == len(jobs)
    names = {job.id: job.problem.id for job in jobs}
    assert [(names[verdict.job_id], verdict.passed) for verdict in verdicts if verdict.passed] == []


@pytest.mark.parametrize("level", ["namespaces", "landlock"])
def test_five_thousand_forged_records_raise_nothing_and_pass_nothing(level):
    judge_forgeries(level, 2_500, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["namespaces", "landlock"])
def test_a_hundred_thousand_forged_records_raise_nothing_and_pass_nothing(level):
    judge_forgeries(level, 50_000, seed=2)

"""Verification on a Ray cluster of one node against the local engine: jobs a second, overhead a job, time to start.

    python benchmarks/bench_cluster.py [--jobs 400] [--rounds 3]

Both have two workers of this machine, take the same jobs in turn, and keep no verdicts. The null jobs are programs that
do next to nothing: what a job costs beside its own work.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from grpo_project.problems.problem import CallTest, Problem
from grpo_project.verifier import Job, Verifier

BUSY = "def f(x):\n    total = 0\n    for i in range({turns}):\n        total += i % 7\n    return x + 1\n# {number}\n"


def jobs(count: int, turns: int, start: int) -> list[Job]:
    problems = [Problem(f"p{n}", "p", (CallTest((1,), 2),), entry_point="f") for n in range(32)]
    return [Job(problems[n % 32], BUSY.format(turns=turns, number=start + n), str(n)) for n in range(count)]


def rate(verifier: Verifier, asked: list[Job]) -> float:
    """Jobs a second."""
    started = time.perf_counter()
    assert all(verdict.solved for verdict in verifier.stream(asked))
    return len(asked) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with Verifier(workers=2, cache=False) as local, Verifier(workers=2, cache=False, address="ray") as cluster:
        rate(local, jobs(20, 10, 0))
        started = time.perf_counter()
        rate(cluster, jobs(1, 10, 0))
        print(f"start of the cluster and its node: {time.perf_counter() - started:.1f} s")
        for name, turns in (("null jobs", 10), ("jobs of about 20 ms", 400_000)):
            pairs = []
            for number in range(args.rounds):
                asked = jobs(args.jobs, turns, (number + 1) * 10_000_000)
                pairs.append((rate(local, asked), rate(cluster, asked)))
            ratio = median(there / here for here, there in pairs)
            more_us = median(1e6 / there - 1e6 / here for here, there in pairs)
            here, there = (median(side) for side in zip(*pairs, strict=True))
            print(f"{name}: local {here:.0f}/s, cluster {there:.0f}/s, ratio {ratio:.2f}, {more_us:+.0f} us a job")


if __name__ == "__main__":
    main()

"""Verification on a Ray cluster of several raylets on this machine: every verdict once, and the local engine's own."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from grpo_project.errors import ConfigError, SandboxError
from grpo_project.problems.problem import CallTest, Problem, StdioTest
from grpo_project.verifier import Job, Status, Verifier

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = [pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore")]
SECRET = b"one secret for all nodes"


def jobs(count: int) -> list[Job]:
    """Calls and programs with input and output; right, wrong, random by the run's secret, broken, endless."""
    found = []
    for number in range(count):
        if number % 2:
            tests: tuple[Any, ...] = tuple(StdioTest(f"{i}\n", f"{i + number}\n") for i in range(3))
            problem = Problem(f"io-{number % 40}", "p", tests, time_limit_s=0.5)
            good = f"print(int(input()) + {number})"
        else:
            tests = tuple(CallTest((i,), i + number) for i in range(3))
            problem = Problem(f"call-{number % 40}", "p", tests, entry_point="f", time_limit_s=0.5)
            good = f"def f(x):\n    return x + {number}"
        bad = "import random\ndef f(x):\n    return random.random()\nprint(random.random())"
        program = (good, good, good, bad, "def f(:", good)[number % 6]
        found.append(Job(problem, f"```python\n{program}\n# {number}\n```", f"job-{number}"))
    return found


def told(verdict: Any) -> tuple[Any, ...]:
    """All but what differs from one run to the next on one machine too: times, and which worker was asked first."""
    tests = tuple((test.status, test.input, test.expected, test.got) for test in verdict.tests)
    return verdict.job_id, verdict.status, verdict.passed, verdict.code, tests


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=node(0))
    try:
        yield made
    finally:
        if ray.is_initialized():
            ray.shutdown()
        made.shutdown()


def node(cores: int = 1) -> dict[str, Any]:
    return {"num_cpus": cores, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.mark.parametrize(("count", "kills"), [(240, 1), pytest.param(20_000, 6, marks=pytest.mark.slow)])
def test_every_verdict_once_and_equal_to_the_local_engines(cluster: Any, count: int, kills: int) -> None:
    asked = jobs(count)
    with Verifier(workers=2, secret=SECRET, cache=False) as local:
        expected = {told(verdict) for verdict in local.stream(asked)}
    raylets = [cluster.add_node(**node()) for _ in range(2)]
    with Verifier(address=cluster.address, secret=SECRET, cache=False) as verifier:
        assert set(verifier.nodes.values()) == {verifier.isolation}
        found = []
        for number, verdict in enumerate(verifier.stream(asked), start=1):
            found.append(verdict)
            if number % (count // (kills + 1)) == 0 and number < count:  # one joins, one is killed, in mid-work
                raylets.append(cluster.add_node(**node()))
                cluster.remove_node(raylets.pop(0), allow_graceful=False)
        engine = verifier._engine
        assert engine is not None and engine.lost_nodes >= 1
    assert len(found) == count == len({verdict.job_id for verdict in found})
    assert {told(verdict) for verdict in found} == expected
    assert not any(verdict.status is Status.INFRASTRUCTURE for verdict in found)


@pytest.mark.slow
def test_without_any_node(cluster: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from grpo_project.verifier.engine import cluster as module

    monkeypatch.setattr(module.ClusterEngine.__init__, "__defaults__", (3.0,))
    asked = jobs(12)
    raylet = cluster.add_node(**node())
    for fallback in (None, "local"):
        with Verifier(address=cluster.address, fallback=fallback, cache=False) as verifier:
            assert len(list(verifier.stream(asked))) == 12
            cluster.remove_node(raylet, allow_graceful=False)
            while any(found["Alive"] and found["Resources"].get("CPU") for found in ray.nodes()):
                time.sleep(0.2)  # until then it may still answer
            caplog.set_level(logging.WARNING)
            if fallback is None:
                started = time.monotonic()
                with pytest.raises(SandboxError, match="has had no node"):
                    list(verifier.stream(asked))
                assert time.monotonic() - started > 3.0  # it waited
            else:
                assert len(list(verifier.stream(asked))) == 12
                assert "this machine's own workers" in caplog.text
        raylet = cluster.add_node(**node())


def test_a_wrong_address_is_one_line() -> None:
    with pytest.raises(ConfigError, match="no Ray cluster answers there"), Verifier(address="127.0.0.1:1") as verifier:
        verifier.verify(jobs(1)[0])

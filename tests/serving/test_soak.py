"""Many clients at once while workers are killed: every request answered, every answer right."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from served_verifier import descendants, increments, serve

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
httpx = pytest.importorskip("httpx2")

CLIENTS = 32


@pytest.mark.parametrize(
    ("requests", "kill_every_s"),
    [(200, 0.5), pytest.param(10_000, 2.0, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])],
)
def test_no_request_is_lost_or_wrong(requests: int, kill_every_s: float) -> None:
    over = threading.Event()
    kills = 0

    with serve() as (url, process):

        def kill() -> None:
            nonlocal kills
            while not over.wait(kill_every_s):
                judges = descendants(process.pid, "grpo-judge")
                if judges:
                    os.kill(judges[kills % len(judges)], signal.SIGKILL)
                    kills += 1

        killer = threading.Thread(target=kill)
        with httpx.Client(base_url=url, timeout=120, limits=httpx.Limits(max_connections=CLIENTS)) as client:

            def ask(number: int) -> tuple[float, float, float]:
                row, completion, expected = increments(number)
                started = time.perf_counter()
                answer = client.post("/verify", json={"problem": row, "completions": [completion]})
                assert answer.status_code == 200, answer.text
                (verdict,) = answer.json()["verdicts"]
                return verdict["pass_rate"], expected, time.perf_counter() - started

            killer.start()
            try:
                with ThreadPoolExecutor(CLIENTS) as pool:
                    found = list(pool.map(ask, range(requests)))
            finally:
                over.set()
                killer.join()
    wrong = [(got, expected) for got, expected, _ in found if got != expected]
    seconds = sorted(taken for _, _, taken in found)
    p50, p99 = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]
    print(f"{requests} requests, {kills} kills, p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, {len(wrong)} wrong")
    assert len(found) == requests and not wrong and kills

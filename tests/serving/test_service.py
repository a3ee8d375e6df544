"""``grpo serve``: the same verdicts as in process, described, bounded, with a token, and never an invented failure."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from served_verifier import increments, serve

from grpo_project.cli import main

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
httpx = pytest.importorskip("httpx2")

SLOW = {"id": "slow", "prompt": "p", "entry_point": "f", "time_limit_s": 5, "tests": [{"args": [1], "expected": 1}]}
SLEEP = "import time\ndef f(x):\n    time.sleep({})\n    return x\n"


def test_verdicts_errors_and_description(tmp_path: Path) -> None:
    rows = [increments(number)[0] for number in range(3)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--dataset", str(tmp_path / "problems.jsonl"), "--queue", "3", "--verifier_workers", "1")
    with (
        serve(*flags, token="sesame") as (url, _),
        httpx.Client(base_url=url, headers={"Authorization": "Bearer sesame"}, timeout=60) as client,
    ):
        for problem in ("add-0", rows[0]):
            answer = client.post(
                "/verify", json={"problem": problem, "completions": [increments(0)[1], "no code at all("]}
            )
            assert answer.status_code == 200, answer.text
            right, wrong = answer.json()["verdicts"]
            assert (right["status"], right["passed"], right["reward"], right["solved"]) == ("passed", 2, 1.0, True)
            assert wrong["pass_rate"] == 0.0 and wrong["status"] != "passed"
        weighted = client.post(
            "/verify", json={"problem": "add-1", "completions": [increments(1)[1], "x"], "reward": "weighted"}
        )
        assert weighted.json()["verdicts"][0]["reward"] == pytest.approx(0.5 * 0.5 / (0.5 + 1 - 0.5 / 3))

        for body, text in (
            ({"problem": "nobody", "completions": ["x"]}, "no problem 'nobody'"),
            ({"problem": {"id": "x"}, "completions": ["x"]}, "prompt"),
            ({"problem": "add-0", "completions": []}, "too_short"),
            ({"problem": "add-0", "completions": ["x"], "reward": "best"}, "known are pass_rate"),
            ({"problem": "add-0", "completions": ["x"], "rewards": []}, "extra"),
        ):
            refused = client.post("/verify", json=body)
            assert refused.status_code == 422 and text in refused.text, refused.text
        assert httpx.get(f"{url}/health").status_code == 401
        assert httpx.post(f"{url}/verify", json={}, headers={"Authorization": "Bearer x"}).status_code == 401
        described = client.get("/openapi.json").json()
        statuses = described["paths"]["/verify"]["post"]["responses"]
        assert sorted(statuses) == ["200", "401", "413", "422", "500", "503", "504"]

        with ThreadPoolExecutor(2) as pool:  # one that takes its time, and one that finds the queue full
            first = pool.submit(client.post, "/verify", json={"problem": SLOW, "completions": [SLEEP.format(1.5)]})
            while client.get("/health").json()["waiting"] == 0:
                time.sleep(0.01)
            full = client.post("/verify", json={"problem": "add-0", "completions": ["a", "b", "c"]})
            assert full.status_code == 503 and full.headers["retry-after"] == "1"
            late = client.post("/verify", json={"problem": SLOW, "completions": [SLEEP.format(2)], "timeout_s": 0.1})
            assert late.status_code == 504
            assert first.result().json()["verdicts"][0]["solved"]
        while (health := client.get("/health").json())["waiting"]:
            time.sleep(0.01)
        assert health["isolation"] in ("namespaces", "landlock")


def test_other_addresses_need_a_token(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPO_SERVE_TOKEN", raising=False)
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "GRPO_SERVE_TOKEN" in capsys.readouterr().err
    assert main(["serve", "--queue", "0"]) == 2

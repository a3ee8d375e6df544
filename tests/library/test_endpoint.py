"""A served model is evaluated like one in this process: retries, concurrency, resumption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai_server import serving

import grpo_project
from grpo_project.cli import main
from grpo_project.errors import ConfigError
from grpo_project.generation.endpoint import Endpoint, EndpointError
from grpo_project.generation.request import Request
from grpo_project.problems.prompt import messages
from grpo_project.problems.quickstart import builtin_problems

PROBLEMS = builtin_problems("heldout")[:12]


def command(folder: Path, url: str, *more: str) -> list[str]:
    flags = ["--endpoint", url, "--model", "known", "--max_problems", "12", "--output", str(folder)]
    return ["evaluate", *flags, *more]


def test_an_endpoint_is_evaluated_through_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    statuses = {0: 503, 3: 429, 5: 0, 8: 500}
    with serving(builtin_problems("heldout"), lambda number: statuses.get(number, 200)) as served:
        assert main(command(tmp_path, served.url, "--num_samples", "2", "--concurrency", "4")) == 0
    (result,) = [json.loads(path.read_text()) for path in tmp_path.glob("*/result.json")]
    assert result["eval_avg_test_pass_rate"] == 1.0 and result["eval/completions"] == 24
    assert result["eval/mean_tokens"] == 7
    assert len(served.requests) == 24 + len(statuses) and served.most_at_once <= 4
    assert len({request["seed"] for request in served.requests}) == 24  # a request that is made again is the same
    assert served.keys == {"Bearer secret-key"}
    assert not any("secret-key" in path.read_text() for path in tmp_path.glob("*/*.json*"))


def test_an_interrupted_evaluation_asks_only_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("grpo_project.generation.endpoint.LONGEST_WAIT_S", 0.01)
    healthy = [5]
    with serving(builtin_problems("heldout"), lambda number: 200 if number < healthy[0] else 503) as served:
        assert main(command(tmp_path, served.url, "--concurrency", "1")) == 70
        assert "no completion after 7 attempts: status 503" in capsys.readouterr().err
        asked = len(served.requests)
        healthy[0] = 10**9
        assert main(command(tmp_path, served.url)) == 0
        assert len(served.requests) - asked == 12 - 5
        assert "going on after 5 completions" in capsys.readouterr().out
        assert main(command(tmp_path, served.url)) == 0
        assert len(served.requests) - asked == 12 - 5  # read, not asked again


def test_what_the_server_refuses_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(builtin_problems("heldout")) as served:
        flags = ["--endpoint", served.url, "--max_problems", "4", "--output", str(tmp_path)]
        assert main(["evaluate", *flags, "--model", "unknown"]) == 2
        assert "model unknown: status 404" in capsys.readouterr().err
        assert main(["evaluate", *flags]) == 2
        assert "--endpoint needs --model NAME" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="http://"):
        Endpoint("127.0.0.1:8000", "m")


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint("http://127.0.0.1:9", "m", retries=1)
    request = Request(PROBLEMS[0], tuple(messages(PROBLEMS[0])), 1, 0.0, 8)
    with pytest.raises(EndpointError, match="after 2 attempts: ConnectError"):
        list(endpoint([request]))


def test_evaluate_takes_an_endpoint_or_any_function() -> None:
    with serving(PROBLEMS) as served:
        result = grpo_project.evaluate(Endpoint(served.url, "known"), PROBLEMS)
    assert result.pass_rate == 1.0 and result.n == 12

    def backwards(requests):
        for place in reversed(range(len(requests))):
            text = requests[place].problem.solution if place % 2 else "no idea"
            yield place, grpo_project.generation.request.Generation(f"```python\n{text}\n```", 3, False)

    assert grpo_project.evaluate(backwards, PROBLEMS).intervals["pass@1"].mean == 0.5
    with pytest.raises(ValueError, match="no completion for 12 of 12"):
        grpo_project.evaluate(lambda requests: [], PROBLEMS)

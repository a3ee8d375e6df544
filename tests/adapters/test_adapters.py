"""Each adapter on the real package: a right and a wrong program through its own machinery."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from grpo_project.problems.formats import load_problems

ROWS = [
    {
        "id": "inc",
        "prompt": "Add 1.",
        "entry_point": "f",
        "tests": [{"args": [1], "expected": 2}, {"args": [0], "expected": 1}],
    },
    {
        "id": "dec",
        "prompt": "Subtract 1.",
        "entry_point": "g",
        "tests": [{"args": [1], "expected": 0}, {"args": [2], "expected": 3}],
    },
]
ANSWERS = {"Add 1.": "def f(x):\n    return x + 1", "Subtract 1.": "def g(x):\n    return x - 1"}
"""Right, and right in one of two tests."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def answer(prompt: str) -> str:
    (found,) = [code for text, code in ANSWERS.items() if text in prompt]
    return f"```python\n{found}\n```"


def test_verl(file: Path) -> None:
    """The signature and row layout as verl 0.9.1 calls and reads them; the package itself is not needed."""
    from grpo_project.adapters.verl import compute_score, compute_score_async, row

    rows = [row(problem) for problem in load_problems(file)]
    asked = [
        {
            "data_source": r["data_source"],
            "solution_str": answer(r["prompt"][-1]["content"]),
            "ground_truth": r["reward_model"]["ground_truth"],
            "extra_info": r["extra_info"],
        }
        for r in rows
    ]
    assert [compute_score(**a)["score"] for a in asked] == [1.0, 0.5]
    assert compute_score(**asked[1], reward="all_or_nothing")["score"] == 0.0
    assert asyncio.run(compute_score_async(**asked[0], reward_router_address=None))["solved"] == 1.0


def test_inspect_ai(file: Path, tmp_path: Path) -> None:
    inspect_ai = pytest.importorskip("inspect_ai", reason="inspect-ai is not installed")
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    from grpo_project.adapters.inspect_ai import samples, tests_passed

    def served(input: Any, *_: Any) -> ModelOutput:
        output = ModelOutput.from_content("mockllm/model", answer(input[-1].text))
        output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it fetches a tokenizer
        return output

    task = inspect_ai.Task(dataset=samples(load_problems(file)), scorer=tests_passed())
    model = get_model("mockllm/model", custom_outputs=served)
    (log,) = inspect_ai.eval(task, model=model, log_dir=str(tmp_path / "logs"), display="none")
    assert log.status == "success", log.error
    found = {s.name: s.metrics for s in log.results.scores}
    assert found["pass_rate"]["mean"].value == 0.75 and found["solved"]["accuracy"].value == 0.5


def test_lm_eval(file: Path) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    from lm_eval.api.model import LM

    from grpo_project.adapters.lm_eval import task

    class Scripted(LM):
        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            return [answer(request.args[0]) for request in requests]

        def loglikelihood(self, requests: Any) -> Any:
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    found = lm_eval.simple_evaluate(model=Scripted(), tasks=[task("mine", load_problems(file))], bootstrap_iters=0)
    assert found["results"]["mine"]["pass_rate,none"] == 0.75
    assert found["results"]["mine"]["solved,none"] == 0.5


def test_verifiers(file: Path) -> None:
    pytest.importorskip("verifiers", reason="verifiers is not installed")
    import verifiers.v1 as vf
    from verifiers.v1.trace import AgentInfo

    from grpo_project.adapters.verifiers import CodeConfig, CodeTaskset

    tasks = list(CodeTaskset(CodeConfig(dataset_path=str(file))))
    rewards = []
    for task in tasks:
        trace = vf.Trace(
            task=vf.TraceTask(type=type(task).__name__, data=task.data), agent=AgentInfo(config=vf.AgentConfig())
        )
        trace.root_reply = answer(task.data.prompt_text)
        asyncio.run(task.score(trace))
        rewards.append(trace.rewards["pass_rate"].score)
    assert rewards == [1.0, 0.5]

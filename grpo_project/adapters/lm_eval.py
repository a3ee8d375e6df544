"""lm-eval: a set of problems as a task.

::

    lm_eval.simple_evaluate(model="hf", model_args={...}, tasks=[task("my_problems", problems)])
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask

from grpo_project.library.verify import verify
from grpo_project.problems.native_writer import native_row
from grpo_project.problems.problem import Problem
from grpo_project.problems.prompt import user_text


def task(name: str, problems: Sequence[Problem], *, max_gen_toks: int = 512, until: Sequence[str] = ()) -> Any:
    """A ``generate_until`` task with the metrics ``pass_rate`` and ``solved``, greedy.

    Args:
        until: texts that end a completion, for base models; chat models end by themselves.
    """
    rows = [
        {"prompt": user_text(problem), "problem": json.dumps(native_row(problem), ensure_ascii=False)}
        for problem in problems
    ]
    metrics = ("pass_rate", "solved")
    return ConfigurableTask(
        config={
            "task": name,
            "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": lambda row: row["prompt"] + "\n",
            "doc_to_target": lambda row: "",
            "process_results": judged,
            "generation_kwargs": {"until": list(until), "max_gen_toks": max_gen_toks, "do_sample": False},
            "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in metrics],
            "metadata": {"version": 1.0},
        }
    )


def judged(row: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's ``process_results``. Raises ``SandboxError`` where our own side failed."""
    verdict = verify(row["problem"], results[0])
    return {"pass_rate": verdict.pass_rate, "solved": float(verdict.solved)}

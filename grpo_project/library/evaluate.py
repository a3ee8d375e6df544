"""``grpo_project.evaluate``: pass rates of any model with intervals, in a call."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from grpo_project.errors import ConfigError
from grpo_project.problems.problem import Problem
from grpo_project.verifier import Verifier

if TYPE_CHECKING:
    from grpo_project.evaluation.result import EvaluationResult
    from grpo_project.generation.request import Generate
    from grpo_project.verifier.verdict import Judge


def evaluate(
    model: str | os.PathLike[str] | Generate | Any,
    problems: Sequence[Problem],
    *,
    tokenizer: Any = None,
    num_samples: int = 1,
    temperature: float | None = None,
    ks: Sequence[int] | None = None,
    max_new_tokens: int = 512,
    batch_size: int = 64,
    seed: int = 0,
    system_prompt: str | None = None,
    verifier: Judge | None = None,
) -> EvaluationResult:
    """Generate, judge, and count, with 95% intervals. The same arguments give the same completions.

    Args:
        model: a hub id or folder; a loaded ``torch.nn.Module`` with its ``tokenizer``; or a ``generate`` of one's own,
            such as an ``Endpoint``.
        num_samples: completions of each problem.
        temperature: 0 is greedy. Default: greedy for one completion, 0.8 for several.
        ks: which pass@k. Default: those of 1, 5, 10 that ``num_samples`` allows.
        max_new_tokens: length limit of a completion.
        batch_size: completions generated at once.
        verifier: default: one for this call.

    Raises:
        ConfigError: arguments that contradict each other, or a model that can't be loaded.
        InfrastructureError: the verifier, or the endpoint, failed for good.
    """
    import torch

    from grpo_project.evaluation.evaluator import Evaluator, resolve_ks
    from grpo_project.evaluation.result import EvaluationResult
    from grpo_project.generation.generator import generation_mode

    started = time.perf_counter()
    chosen_ks = resolve_ks(num_samples, ks)
    generate = None
    if isinstance(model, str | os.PathLike):
        from grpo_project.evaluation.models import load_model

        model, tokenizer = load_model(os.fspath(model))
    elif not isinstance(model, torch.nn.Module):
        model, generate = None, model
    elif tokenizer is None:
        raise ConfigError("evaluate: a loaded model needs its tokenizer (tokenizer=...)")
    with ExitStack() as stack:
        evaluator = Evaluator(
            problems,
            tokenizer,
            verifier or stack.enter_context(Verifier()),
            num_samples=num_samples,
            temperature=temperature,
            seed=seed,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            system_prompt=system_prompt,
            generate=generate,
        )
        ready = None if model is None else stack.enter_context(generation_mode(model))
        found = evaluator.run(ready, 0)
    seconds = time.perf_counter() - started
    return EvaluationResult(0, tuple(found.records), found.generation_s, found.verification_s, seconds, chosen_ks)

"""GRPO training for code models that survives being killed.

As a library (docs/library.md)::

    import grpo_project

    problems = grpo_project.load_problems("problems.jsonl")
    verdict = grpo_project.verify(problems[0], completion)

The names below are the public ones. Each is imported when it is first used: importing this package loads nothing heavy.

The package has one direction: ``errors``, ``problems``, ``verifier``, ``rewards`` and ``curriculum`` know neither
torch nor wandb; ``training`` and ``evaluation`` build on them; ``library``, ``commands`` and ``cli`` sit on top.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpo_project.curriculum import Curriculum
    from grpo_project.generation.endpoint import Endpoint
    from grpo_project.library.curriculum_sampler import CurriculumSampler
    from grpo_project.library.dataset import as_dataset
    from grpo_project.library.evaluate import evaluate
    from grpo_project.library.run import Run
    from grpo_project.library.train import train
    from grpo_project.library.verify import verify
    from grpo_project.problems.formats import load_problems
    from grpo_project.problems.problem import Problem
    from grpo_project.verifier import Job, Verdict, Verifier

__version__ = "0.2.0"

_PLACES = {
    "Curriculum": "curriculum",
    "CurriculumSampler": "library.curriculum_sampler",
    "Endpoint": "generation.endpoint",
    "Job": "verifier",
    "Problem": "problems.problem",
    "Run": "library.run",
    "Verdict": "verifier",
    "Verifier": "verifier",
    "as_dataset": "library.dataset",
    "evaluate": "library.evaluate",
    "load_problems": "problems.formats",
    "train": "library.train",
    "verify": "library.verify",
}
_MODULES = ("errors", "rewards")

__all__ = [
    "Curriculum",
    "CurriculumSampler",
    "Endpoint",
    "Job",
    "Problem",
    "Run",
    "Verdict",
    "Verifier",
    "__version__",
    "as_dataset",
    "evaluate",
    "load_problems",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"grpo_project.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'grpo_project' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"grpo_project.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])

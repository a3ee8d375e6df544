"""How often a problem will be solved, predicted from what it says: most problems of a large set are met only once.

Logistic regression on the words of the prompt, pairs of neighbouring words, tags and level, learned as groups come in.
Features are hashed into a fixed table (Weinberger et al., arXiv 0902.2206), so nothing has to be read in advance.
"""

from __future__ import annotations

import math
import re
import zlib
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from grpo_project.problems.problem import Problem

BUCKETS = 1 << 14
MAX_WORDS = 64
"""Words read of a prompt, from its start."""
RATE = 1.3
"""How far a group moves the log odds of its own problem, for a surprise of 1. High: the model it describes changes."""
_WORD = re.compile(r"[a-z]+|[^\x00-\x7f]")  # scripts without spaces go by character
_KEPT = 1 << 15


class PassRateModel:
    """Predicts pass rates of ``problems``, by index. Before the first group it says 1/2 for each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._problems = problems
        self._weights = array("d", bytes(8 * BUCKETS))
        self._features: dict[int, tuple[int, ...]] = {}

    def predict(self, problem: int) -> float:
        """The pass rate to be expected, between 0 and 1."""
        features = self._features_of(problem)
        score = sum(map(self._weights.__getitem__, features)) / math.sqrt(len(features))
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, score))))

    def observe(self, problem: int, pass_rate: float) -> None:
        """A group of completions of ``problem`` had this pass rate."""
        features = self._features_of(problem)
        change = RATE * (pass_rate - self.predict(problem)) / math.sqrt(len(features))
        for feature in features:
            self._weights[feature] += change

    def _features_of(self, problem: int) -> tuple[int, ...]:
        if problem not in self._features:
            if len(self._features) >= _KEPT:
                self._features.clear()
            self._features[problem] = features(self._problems[problem])
        return self._features[problem]

    def state_dict(self) -> dict[str, Any]:
        known = [bucket for bucket, weight in enumerate(self._weights) if weight]
        return {"buckets": known, "weights": [self._weights[bucket] for bucket in known]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._weights = array("d", bytes(8 * BUCKETS))
        for bucket, weight in zip(state["buckets"], state["weights"], strict=True):
            self._weights[bucket] = weight


def features(problem: Problem) -> tuple[int, ...]:
    """The table's places that a problem's features hash to; at least one."""
    words = ["^", *_WORD.findall(problem.prompt.lower())[:MAX_WORDS], "$"]
    names = {*words, *map(" ".join, pairwise(words))}
    names |= {f"tag:{tag}" for tag in problem.tags} | {f"level:{problem.level}"}
    return tuple(sorted({zlib.crc32(name.encode()) % BUCKETS for name in names}))

"""Completions from somewhere else than a model in this process: what is asked, and what a ``generate`` of one's own is.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grpo_project.problems.problem import Problem
from grpo_project.problems.prompt import Message


@dataclass(frozen=True, slots=True)
class Generation:
    """One completion. ``truncated``: the token limit came before an end token."""

    text: str
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Request:
    """One completion that is wanted. The same request has the same seed, whatever else is asked at the time."""

    problem: Problem
    messages: tuple[Message, ...]
    seed: int
    """Of 63 bits; a server that takes one repeats itself where its arithmetic does."""
    temperature: float
    max_new_tokens: int


class Generate(Protocol):
    """Any served model: ``(place, completion)`` for each request, as they end, in any order."""

    def __call__(self, requests: Sequence[Request]) -> Iterable[tuple[int, Generation]]: ...


class ServedGenerator:
    """A ``Generate`` in the place of ``generator.Generator``. The model that it is handed plays no part."""

    def __init__(
        self,
        generate: Generate,
        *,
        max_new_tokens: int,
        temperature: float,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._generate = generate
        self._max_new_tokens = max_new_tokens
        self._temperature = temperature
        self._should_stop = should_stop

    def generate(
        self,
        model: Any,
        prompts: Sequence[tuple[Problem, tuple[Message, ...]]],
        keys: Sequence[int],
        on_end: Callable[[int, Generation], None] = lambda row, made: None,
        *,
        in_lockstep: bool = False,
    ) -> None:
        """Ask for all completions; ``on_end`` is called as ``(row, completion)`` once for each.

        Raises:
            ValueError: the ``generate`` left requests without a completion.
        """
        requests = [
            Request(problem, messages, key >> 1, self._temperature, self._max_new_tokens)
            for (problem, messages), key in zip(prompts, keys, strict=True)
        ]
        missing = set(range(len(requests)))
        for place, made in self._generate(requests):
            if place in missing:
                missing.remove(place)
                on_end(place, made)
            if self._should_stop is not None and self._should_stop():
                return
        if missing:
            raise ValueError(f"generate gave no completion for {len(missing)} of {len(requests)} requests")

    def is_independent(self, model: Any) -> bool:
        """Each request is a completion of its own."""
        return True

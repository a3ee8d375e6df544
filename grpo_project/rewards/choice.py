"""What ``--reward NAME[:WEIGHT] ...`` means: names to functions and weights, checked before a model is loaded.

A name is one of ours, one of TRL's, or a user's ``module:function``. Ours and TRL's take arguments in brackets, as in
``"format(pattern=r'```python')":0.2``.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from grpo_project.errors import ConfigError
from grpo_project.rewards.function import OURS
from grpo_project.rewards.judging import text_of

RewardFunction = Callable[..., Any]
"""As TRL calls it; beside TRL's columns it gets ``problem`` and ``verdict``, one of each for every completion."""

CALLED_WITH = ("prompts", "completions", "completion_ids", "problem", "verdict", "trainer_state", "log_metric")
_WEIGHT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Choice:
    """The rewards of a run: functions with ``__name__``, each name once, and a weight for each."""

    functions: tuple[RewardFunction, ...]
    weights: tuple[float, ...] | None = None
    """``None`` where no weight was given: TRL's ``reward_weights`` hold, or 1 for each."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(function.__name__ for function in self.functions)


def choose(specs: Sequence[str], *, weak_tests: str = "ignore", max_completion_length: int) -> Choice:
    """The rewards that ``specs`` name.

    Args:
        max_completion_length: tokens, for rewards that look at the length.

    Raises:
        ConfigError: an unknown name, a weight or an argument that can't be meant, a function that can't be called as
            TRL does, or one name twice.
    """
    functions, weights = [], []
    for spec in specs:
        name, weight = split_weight(spec)
        weights.append(weight)
        if ":" in name and "(" not in name:
            functions.append(users(name))
        else:
            functions.append(built_in(name, weak_tests, max_completion_length))
    choice = Choice(
        tuple(functions), None if set(weights) == {None} else tuple(1.0 if w is None else w for w in weights)
    )
    if len(set(choice.names)) < len(choice.names):
        raise ConfigError(f"--reward {' '.join(specs)}: each name once; they tell the rewards apart in the journal")
    return choice


def split_weight(spec: str) -> tuple[str, float | None]:
    """``NAME:WEIGHT`` in two; without a weight, ``None``."""
    name, _, last = spec.rpartition(":")
    return (name, float(last)) if name and _WEIGHT.fullmatch(last) else (spec, None)


def built_in(call: str, weak_tests: str, max_completion_length: int) -> RewardFunction:
    """``NAME`` or ``NAME(argument=value, ...)``, one of ours or of TRL's. Raises ``ConfigError``."""
    name, arguments = parse_call(call)
    if name in OURS:
        if arguments:
            raise ConfigError(f"--reward {call}: {name} takes no arguments")
        return OURS[name].with_weak_tests(weak_tests)
    if name not in MAKERS:
        known = ", ".join([*OURS, *MAKERS])
        raise ConfigError(f"--reward {call}: known are {known}, and functions of your own as module:function")
    try:
        return named(name, MAKERS[name](max_completion_length, **arguments))
    except (TypeError, ValueError, re.error) as error:
        raise ConfigError(f"--reward {call}: {error}") from error


def parse_call(call: str) -> tuple[str, dict[str, Any]]:
    """A name and its keyword arguments, which are literals. Raises ``ConfigError``."""
    try:
        node = ast.parse(call.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            return node.func.id, {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"--reward {call}: can't be read ({error}); write NAME or NAME(argument=value)") from error
    raise ConfigError(f"--reward {call}: can't be read; write NAME, NAME(argument=value) or module:function")


def users(path: str) -> RewardFunction:
    """The function of ``module:function``; the working directory is searched too. Raises ``ConfigError``."""
    module_name, _, name = path.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:  # the console script's own path is the folder it lies in
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"--reward {path}: module {module_name} can't be imported ({error})") from error
    except AttributeError as error:
        raise ConfigError(f"--reward {path}: module {module_name} has no {name}") from error
    try:
        inspect.signature(function).bind(**dict.fromkeys(CALLED_WITH), anything_else=None)
    except TypeError as error:
        raise ConfigError(
            f"--reward {path}: it is called with {', '.join(CALLED_WITH)} and more by keyword, as TRL does ({error}); "
            f"write def {name}(completions, **columns)"
        ) from error
    return named(getattr(function, "__name__", name), function)


def named(name: str, function: RewardFunction) -> RewardFunction:
    """The function under the name that metrics and samples have."""
    if inspect.iscoroutinefunction(function):

        async def awaited(**columns: Any) -> Any:
            return await function(**columns)

        awaited.__name__ = name
        return awaited

    def called(**columns: Any) -> Any:
        return function(**columns)

    called.__name__ = name
    return called


def _soft_overlong_punishment(
    max_completion_length: int, max_completion_len: int | None = None, soft_punish_cache: int | None = None
) -> RewardFunction:
    """TRL's. The last fifth of the length is punished more and more, as in DAPO (arXiv 2503.14476)."""
    longest = max_completion_len or max_completion_length
    return _of_trl(
        "get_soft_overlong_punishment", longest, longest // 5 if soft_punish_cache is None else soft_punish_cache
    )


def _repetition_penalty(_: int, ngram_size: int = 3, max_penalty: float = -1.0) -> RewardFunction:
    """TRL's: repeated n-grams of tokens."""
    if max_penalty > 0:
        raise ValueError(f"max_penalty is {max_penalty}; it must not be positive")
    return _of_trl("get_repetition_penalty_reward", ngram_size, max_penalty)


def _of_trl(maker: str, *arguments: Any) -> RewardFunction:
    """A reward of ``trl.rewards``, made when it is first called: names are checked before TRL is imported."""

    @functools.cache
    def made() -> RewardFunction:
        import trl.rewards

        return getattr(trl.rewards, maker)(*arguments)

    return lambda **columns: made()(**columns)


def _length(max_completion_length: int, limit: int | None = None) -> RewardFunction:
    """From 0 for no token to -1 for ``limit`` tokens or more."""
    longest = max_completion_length if limit is None else limit
    if longest < 1:
        raise ValueError(f"limit is {longest}; it must be at least 1 token")

    def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [-min(1.0, len(ids) / longest) for ids in completion_ids]

    return reward


def _format(_: int, pattern: str) -> RewardFunction:
    """1 where the regular expression is found in the completion's text (``.`` takes line ends too), else 0."""
    wanted = re.compile(pattern, re.DOTALL)

    def reward(completions: Sequence[Any], **_: Any) -> list[float]:
        return [float(wanted.search(text_of(completion)) is not None) for completion in completions]

    return reward


MAKERS: dict[str, Callable[..., RewardFunction]] = {
    "soft_overlong_punishment": _soft_overlong_punishment,
    "repetition_penalty": _repetition_penalty,
    "length": _length,
    "format": _format,
}

"""Built-in problems in plain English, for a real pretrained model (``docs/real-models.md``): kinds with constants.

No kind of task is in both splits, and neither a prompt nor a program. ``solution`` is the body that continues
``starter_code``.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from grpo_project.problems.builtin.kinds import TAKES, Kind, kinds_of
from grpo_project.problems.problem import BUILTIN_EVERYDAY, LEVELS, CallTest, Problem

EACH = {"train": 8, "heldout": 4}
"""Problems of one kind: 400 and 140 in all, fewer where a kind has no more constants."""
TESTS = 8
MIN_DISTINCT = 3
"""Different expected values among the tests, at least; for a yes or no there are two."""
ATTEMPTS = 40

WORDS = (
    *("apple", "river", "stone", "cloud", "tiger", "lamp", "green", "old", "sea", "winter", "ten", "orange"),
    *("salt", "moon", "garden", "letter", "tea", "rail"),
)
SHAPES = (
    "Write a Python function `{name}` that takes {takes} and returns {what}.",
    "Given {takes}, return {what}.",
    "Complete the function: it takes {takes} and must return {what}.",
)


def everyday_problems(split: str = "train", seed: int = 0) -> tuple[Problem, ...]:
    """The problems of a split (``train`` or ``heldout``), levels in turn. The same seed gives the same problems."""
    if split not in EACH:
        raise ValueError(f"split must be one of {', '.join(EACH)}, not {split!r}")
    return _problems(split, seed)


@lru_cache(maxsize=4)
def _problems(split: str, seed: int) -> tuple[Problem, ...]:
    levels = [list(_of_level(level, split, seed)) for level in range(len(LEVELS))]
    longest = max(map(len, levels))
    return tuple(level[i] for i in range(longest) for level in levels if i < len(level))


def _of_level(level: int, split: str, seed: int) -> Iterator[Problem]:
    """Kinds in turn, each with other constants each time."""
    kinds = kinds_of(split, LEVELS[level])
    streams = [_of_kind(level, kind, random.Random(f"everyday-{seed}-{kind.name}")) for kind in kinds]
    for _ in range(EACH[split]):
        for stream in streams:
            if (problem := next(stream, None)) is not None:
                yield problem


def _of_kind(level: int, kind: Kind, rng: random.Random) -> Iterator[Problem]:
    seen: set[str] = set()
    for _ in range(ATTEMPTS):
        constants = _constants(kind, rng)
        solution = body_of(kind, constants)
        if solution in seen:
            continue
        if (examples := _examples(kind, solution, constants, rng)) is not None:
            seen.add(solution)
            yield _problem(level, kind, solution, constants, examples, rng)


def _constants(kind: Kind, rng: random.Random) -> dict[str, Any]:
    return {
        "k": rng.randint(kind.low, kind.high),
        "j": rng.randint(2, 9),
        "c": rng.choice("aeilnorst"),
        "w": rng.choice(WORDS),
    }


def body_of(kind: Kind, constants: dict[str, Any]) -> str:
    """The function's body with its constants."""
    lines = [line.strip() for line in kind.body.format(**constants).split(";")]
    if "return " not in lines[-1]:
        lines[-1] = f"return {lines[-1]}"
    indented = []
    for line in lines:
        code = line.lstrip(">")
        indented.append("    " * (1 + len(line) - len(code)) + code + "\n")
    return "".join(indented)


def _examples(
    kind: Kind, solution: str, constants: dict[str, Any], rng: random.Random
) -> list[tuple[tuple[Any, ...], Any]] | None:
    """``TESTS`` pairs of arguments and expected value, or ``None`` if they say too little."""
    namespace: dict[str, Any] = {}
    exec(f"def f({TAKES[kind.takes][0]}):\n{solution}", namespace)  # our own source, from the table of kinds
    arguments = [_arguments(kind, constants, rng) for _ in range(TESTS)]
    examples = [(each, namespace["f"](*each)) for each in arguments]
    counts = Counter(repr(expected) for _, expected in examples)
    enough = counts.keys() == {"True", "False"} or len(counts) >= MIN_DISTINCT
    commonest = max(counts.values())  # what a constant answer passes
    echoed = sum(each == (got,) for each, got in examples)  # what returning the argument passes
    return examples if enough and commonest <= TESTS * 5 // 8 and echoed <= TESTS // 4 else None


def _arguments(kind: Kind, constants: dict[str, Any], rng: random.Random) -> tuple[Any, ...]:
    """Arguments among which the kind's constants occur."""
    k, word = constants["k"], constants["w"]
    if kind.takes == "n":
        return (
            rng.choice([rng.randint(0, 99), k * rng.randint(1, 12), rng.randint(100, 400), k + rng.randint(-1, 1)]),
        )
    if kind.takes == "ab":
        return rng.randint(-9, 40), rng.randint(-9, 40)
    if kind.takes == "numbers":
        return ([rng.choice([rng.randint(-5, 30), k, 2 * k, k + 1, k - 1]) for _ in range(rng.randint(6, 9))],)
    words = rng.choices(WORDS, k=rng.randint(2, 4))
    if kind.takes == "words":
        return (words + rng.sample(WORDS, 3),)
    words[rng.choice([0, -1])] = word if rng.random() < 0.6 else words[0]
    return (" ".join(words),)


def _problem(
    level: int,
    kind: Kind,
    solution: str,
    constants: dict[str, Any],
    examples: list[tuple[tuple[Any, ...], Any]],
    rng: random.Random,
) -> Problem:
    parameters, spoken = TAKES[kind.takes]
    what = kind.what.format(**constants)
    prompt = rng.choice(SHAPES).format(name=kind.name, takes=spoken, what=what)
    return Problem(
        id=f"builtin-everyday-{LEVELS[level]}-{hashlib.sha256(f'{kind.name}{solution}'.encode()).hexdigest()[:10]}",
        prompt=prompt,
        tests=tuple(CallTest(args=arguments, expected=expected) for arguments, expected in examples),
        level=LEVELS[level],
        complexity=2.0 * level + 1,
        entry_point=kind.name,
        starter_code=f"def {kind.name}({parameters}):\n",
        solution=solution,
        tags=(kind.name,),
        source=BUILTIN_EVERYDAY,
    )

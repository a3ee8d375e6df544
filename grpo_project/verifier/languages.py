"""The languages that can be judged: one folder and one entry here each.

A language brings three modules: how code is found in a completion (``extract_code``), what the judges get to know of a
problem and which kinds of cages they need (``content_of``, ``profiles``), and how they judge (``room.Room``). They are
imported when the first problem of it is met.
"""

from __future__ import annotations

import hashlib
import importlib
import marshal
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

from grpo_project.errors import DataError
from grpo_project.verifier.cage.launch import Launcher
from grpo_project.verifier.cage.profile import Profile

if TYPE_CHECKING:
    from grpo_project.problems.problem import Problem  # not for the judges, which import this module too


class Language(NamedTuple):
    """Modules below ``grpo_project.verifier``."""

    extract: str
    spec: str
    room: str


LANGUAGES = {
    "python": Language("extract", "python.spec", "python.room"),
    "verilog": Language("verilog.extract", "verilog.spec", "verilog.room"),
}


class Spec(NamedTuple):
    """One problem as the judges read it."""

    key: bytes
    """Hash of the content."""
    payload: bytes
    stuck_s: float
    """Wall seconds after which a worker that still judges it has failed: far above every limit of the candidate's."""
    profiles: dict[str, Profile]
    """By name, what kinds of cages its language's room asks for beside the one that every launcher knows."""


def extract_code(completion: str, problem: Problem) -> str | None:
    """The whole program to run, or ``None`` where the completion holds no code."""
    return _module(_language(problem).extract).extract_code(completion, problem)


def spec_of(problem: Problem, *, stop_early: bool = False) -> Spec:
    """Raises ``DataError`` where the problem's tests can't be run, ``ConfigError`` where this machine lacks a tool."""
    content, stuck_s = _module(_language(problem).spec).content_of(problem, stop_early=stop_early)
    content["language"] = problem.language
    # Not of the pickle: that says which values are one object, too, and so differs from one process to the next.
    # Version 2 has no back references, and writes sets in one order.
    key = hashlib.sha256(marshal.dumps(content, 2)).digest()
    return Spec(key, pickle.dumps(content), stuck_s, _module(_language(problem).spec).profiles())


def room_of(language: str, launcher: Launcher) -> Any:
    """The judges' side of a language: a ``room.Room``."""
    return _module(LANGUAGES[language].room).Room(launcher)


def _language(problem: Problem) -> Language:
    if problem.language not in LANGUAGES:
        raise DataError(f"problem {problem.id}: language {problem.language!r}; known are {', '.join(LANGUAGES)}")
    return LANGUAGES[problem.language]


def _module(name: str) -> Any:
    return importlib.import_module(f"grpo_project.verifier.{name}")

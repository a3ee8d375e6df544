"""Which language the terminal speaks: ``--lang`` before all, then the environment as gettext reads it, else English."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from grpo_project.locale.catalogue import Catalogue, Translator

FOLDER = Path(__file__).resolve().parent
VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
"""In the order of gettext: the first that is set decides."""
FLAG = "--lang"

_translator: Translator | None = None


def available() -> list[str]:
    """The languages that there are: English, which needs no catalogue, and the others."""
    return ["en", *sorted(path.parents[1].name for path in FOLDER.glob("*/LC_MESSAGES/messages.po"))]


def from_environment(environment: Mapping[str, str] = os.environ) -> str:
    """``zh`` for ``LANG=zh_CN.UTF-8``; ``en`` where no language is named that there is a catalogue for."""
    value = next((environment[name] for name in VARIABLES if environment.get(name)), "")
    language = value.split(":")[0].replace("-", "_").split("_")[0].split(".")[0].lower()
    return language if language in available() else "en"


def take_flag(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """``argv`` without ``--lang LANGUAGE`` (or ``--lang=LANGUAGE``), and the language. It is of no part of a run.

    Raises:
        ValueError: there is no such language; the message names those that there are.
    """
    rest: list[str] = []
    language = None
    words = iter(argv)
    for word in words:
        if word == FLAG or word.startswith(f"{FLAG}="):
            language = word.partition("=")[2] or next(words, "")
        else:
            rest.append(word)
    if language is not None:
        short = language.replace("-", "_").split("_")[0].lower()
        if short not in available():
            raise ValueError(f"--lang is {language!r}; it can be {' or '.join(available())}")
        language = short
    return rest, language


def use(language: str) -> None:
    """From now on ``shown`` translates into ``language``."""
    global _translator
    path = FOLDER / language / "LC_MESSAGES" / "messages.po"
    _translator = None if language == "en" else Translator(Catalogue.read(path))


def shown(text: str) -> str:
    """``text`` as the terminal's language has it."""
    return text if _translator is None else _translator(text)

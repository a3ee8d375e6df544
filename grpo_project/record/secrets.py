"""Takes secrets out of what is written down: by the name of a field at any depth, and by value wherever they stand.

A configuration is a description of a run that people share. ``--model_init_kwargs '{"token": ...}'``, a key in the
command line or in a URL, a variable of the environment: none of them may reach ``run.json``, the journal or W&B.
"""

from __future__ import annotations

import contextlib
import itertools
import netrc
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

REDACTED = "[redacted]"
SHORTEST = 8
"""Shorter values are taken out where their field's name says so, but not searched for elsewhere: they are words."""

_SECRET_WORDS = frozenset({"passphrase", "authorization", "apikey", "accesskey", "privatekey", "bearer", "cookie"})
_SECRET_PARTS = re.compile(r"secret|password|passwd|credential|_pwd$", re.IGNORECASE)  # PGPASSWORD, MYSQL_PWD, not PWD
_SECRET_PAIRS = frozenset({("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key"), ("auth", "key")})
# `token` is a secret in `hub_token` and `HF_TOKEN`, and a word of the vocabulary in `pad_token` and `token_id`.
_TOKENS_OF_TEXT = frozenset(
    {"pad", "eos", "bos", "unk", "mask", "sep", "cls", "sot", "eot", "image", "video", "audio", "vision", "special"}
    | {
        "id",
        "ids",
        "type",
        "types",
        "count",
        "level",
        "limit",
        "length",
        "entropy",
        "per",
        "added",
        "decoder",
        "forced",
    }
    | {"classifier", "importance", "think", "end", "start", "first", "last", "next", "stop"}
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Forms that say themselves what they are.
_SECRET_FORMS = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bglpat-[\w-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[\w-]{10,}|\bwandb_v\d_\w{16,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
# A name and its value within a text: JSON, a command line, a connection string.
_NAMED_IN_TEXT = re.compile(r"""(?P<name>[A-Za-z][\w.-]*)["']?\s*(?:[:=]\s*|\s)["']?(?P<value>[^\s"',;}&]+)""")


def is_secret_name(name: str) -> bool:
    """Whether a field, flag or variable of this name holds a secret: ``hub_token`` does, ``pad_token`` does not."""
    words = [word.lower() for word in _WORD.findall(name)]
    if (
        _SECRET_PARTS.search(name)
        or _SECRET_WORDS.intersection(words)
        or _SECRET_PAIRS.intersection(itertools.pairwise(words))
    ):
        return True
    return "token" in words and not _TOKENS_OF_TEXT.intersection(words)


def redact(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """A copy of ``value`` (JSON's types; other objects stay) without secrets.

    What a field of a secret's name holds is replaced there, and wherever else the same text stands; so are the secrets
    of the environment and of netrc, and texts of a form that says what they are.
    """
    known = {found for found in _held_by_names(value) if len(found) >= SHORTEST} | known_secrets(environment)
    return _without(value, sorted(known, key=len, reverse=True))


def redact_text(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """``text`` without the secrets of the environment, should some library have put them there."""
    return _clean(text, sorted(known_secrets(environment), key=len, reverse=True))


def known_secrets(environment: Mapping[str, str] = os.environ) -> set[str]:
    """Values of the environment's secrets, and the passwords of the user's netrc."""
    found = {value for name, value in environment.items() if is_secret_name(name)}
    path = Path(environment.get("NETRC") or Path(environment.get("HOME") or Path.home(), ".netrc")).expanduser()
    with contextlib.suppress(OSError, netrc.NetrcParseError, UnicodeDecodeError):  # none, or nothing to be used in it
        found |= {entry[2] for entry in netrc.netrc(path).hosts.values() if entry[2]}
    return {value for value in found if len(value) >= SHORTEST}


def _held_by_names(value: Any) -> Iterator[str]:
    """The texts that fields of a secret's name hold, in nested values and within texts."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if is_secret_name(str(name)):
                yield from _texts(item)
            else:
                yield from _held_by_names(item)
    elif isinstance(value, list | tuple):
        for before, item in zip([None, *value], value, strict=False):
            if isinstance(before, str) and before.startswith("--") and "=" not in before and is_secret_name(before):
                yield from _texts(item)  # a command line
            else:
                yield from _held_by_names(item)
    elif isinstance(value, str):
        for found in _NAMED_IN_TEXT.finditer(value):
            assigned = value[found.end("name") : found.start("value")].strip("\"' ") != ""
            if is_secret_name(found["name"]) and (assigned or value[: found.start("name")].endswith("--")):
                yield found["value"]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _without(value: Any, known: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            _clean(name, known) if isinstance(name, str) else name: (
                _hidden(item) if is_secret_name(str(name)) else _without(item, known)
            )
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without(item, known) for item in value]
    return _clean(value, known) if isinstance(value, str) else value


def _hidden(value: Any) -> Any:
    """What stands for a secret; that there is none, or only a switch (``token=True``), stays visible."""
    if value is None or isinstance(value, bool) or value in ("", [], {}):
        return value
    return REDACTED


def _clean(text: str, known: list[str]) -> str:
    for secret in known:
        text = text.replace(secret, REDACTED)
    return _SECRET_FORMS.sub(REDACTED, text)

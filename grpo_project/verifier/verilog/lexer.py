"""Verilog text as tokens: enough to find modules and directives and to rename. Linear in the text, whatever it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

# Order matters: comments and strings hide what is in them. An unterminated one runs to the end of the text (a string:
# of the line), as it does for the compiler.
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<string>"(?:[^"\\\n]|\\.|\\\n)*(?:"|(?=\n)|\Z))
      | (?P<directive>`\s*[A-Za-z_]\w*|`)
      | (?P<system>\$[A-Za-z0-9_$]+)
      | (?P<escaped>\\\S+)
      | (?P<number>(?:\d[\d_]*)?\s*'[sS]?[bBoOdDhH]\s*[0-9a-fA-FxXzZ?_]+|'[01xXzZ]|\d[\d_.]*(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_][\w$]*)
      | (?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """``kind``: space, comment, string, directive, system, escaped, number, name or sign."""

    kind: str
    text: str


def tokens(text: str) -> Iterator[Token]:
    """Every token of the text in turn; joined they give the text again."""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        assert kind is not None
        yield Token(kind, match[0])


def code_tokens(text: str) -> list[Token]:
    """Without white space and comments."""
    return [token for token in tokens(text) if token.kind not in ("space", "comment")]


def modules_in(text: str) -> list[str]:
    """Names of the modules that the text defines, in order."""
    found, previous = [], ""
    for kind, word in code_tokens(text):
        if kind == "name" and previous in ("module", "macromodule") and word not in ("automatic", "static"):
            found.append(word)
        if not (previous in ("module", "macromodule") and word in ("automatic", "static")):
            previous = word if kind == "name" else ""
    return found


def directives_in(text: str) -> set[str]:
    """Names after a backtick outside of comments and strings: directives and uses of macros. ``""`` for a bare one."""
    return {word[1:].strip() for kind, word in tokens(text) if kind == "directive"}


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with identifiers replaced; members after a dot (ports, hierarchical names) stay as they are."""
    parts: list[str] = []
    previous = ""
    for kind, word in tokens(text):
        parts.append(names.get(word, word) if kind == "name" and previous != "." else word)
        if kind not in ("space", "comment"):
            previous = word
    return "".join(parts)

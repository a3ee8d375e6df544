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


def words_in(text: str) -> set[str]:
    """Every identifier outside of comments and strings."""
    return {word for kind, word in tokens(text) if kind == "name"}


def strings_in(text: str) -> set[str]:
    """What stands between quotes, outside of comments."""
    return {word.strip('"') for kind, word in tokens(text) if kind == "string"}


def output_names(text: str, module: str) -> list[str]:
    """The outputs of a module, from its header or from its body's declarations, in order."""
    names: list[str] = []
    inside, direction = False, ""
    code = code_tokens(text)
    depth = 0
    for position, (kind, word) in enumerate(code):
        before = code[position - 1].text if position else ""
        if not inside:
            inside = kind == "name" and word == module and before in ("module", "macromodule", "automatic")
            continue
        if kind == "name" and word == "endmodule":
            break
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(word, 0) if kind == "sign" else 0
        if kind == "name" and word in ("input", "output", "inout"):
            direction = word
        elif word in (";", "=") or (word == ")" and depth == 0):
            direction = ""
        elif direction == "output" and depth == 0 and kind in ("name", "escaped"):
            following = code[position + 1].text if position + 1 < len(code) else ""
            if following in (",", ")", ";", "=") and word not in names:
                names.append(word)
    return names


def instantiated_in(text: str) -> set[str]:
    """Names that stand where an instantiated module's does (``name instance (``, ``name #(``); some are no modules."""
    found, keywords = set(), set(_KEYWORDS.split())
    code = code_tokens(text)
    for first, second, third in zip(code, code[1:], code[2:], strict=False):
        named = second.kind == "name" and third.text in ("(", "[") and second.text not in keywords
        if (
            first.kind == "name"
            and first.text not in keywords
            and (named or (second.text == "#" and third.text == "("))
        ):
            found.add(first.text)
    return found


_KEYWORDS = """module macromodule task function input output inout wire reg logic integer real begin end if else while
    for repeat case casex casez initial always assign automatic posedge negedge or and not nand nor xor xnor buf wait
    forever return void static int bit byte parameter localparam always_comb always_ff always_latch final typedef
    genvar generate endgenerate foreach do signed unsigned unique priority time supply0 supply1 tri"""


def hollow(text: str, module: str, value: str | None) -> str:
    """The module without what it does: its outputs undriven, or all of them at the constant ``value``."""
    parts: list[str] = []
    inside, depth, header, kept = False, 0, True, False
    previous = direction = ""
    for kind, word in tokens(text):
        if not inside:
            inside = kind == "name" and word == module and previous in ("module", "macromodule", "automatic")
            if inside:
                parts.append(f"module {module}")
        elif kind == "name" and word == "endmodule":
            break
        elif kind != "comment":
            depth += {"(": 1, ")": -1}.get(word, 0) if kind == "sign" else 0
            if kind == "name" and word in ("input", "output", "inout", "parameter", "localparam"):
                direction = word
                kept = True
            if (header or kept) and not (direction == "output" and word in ("reg", "logic", "bit")):
                parts.append(word)
            if word == ";" and depth == 0:
                header = kept = False
                direction = ""
        if kind not in ("space", "comment"):
            previous = word
    if value is not None:
        parts += [f"\nassign {name} = {value};" for name in output_names(text, module)]
    return "".join(parts) + "\nendmodule\n"

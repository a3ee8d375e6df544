"""What a design must not say, told by its words alone: system tasks, the simulator's own modules, foreign files.

The verdict does not hang on it where a design is simulated on its own (there is nothing to read or to forge there): it
gives a clear status in place of a puzzling one, and it is a second wall for the cage.
"""

from __future__ import annotations

from collections.abc import Iterator

from grpo_project.problems.verilog_text import Token, code_tokens, directives_in

_PURE = """$bits $clog2 $signed $unsigned $size $left $right $low $high $increment $dimensions $unpacked_dimensions
    $countones $countbits $onehot $onehot0 $isunknown $rtoi $itor $realtobits $bitstoreal $shortrealtobits
    $bitstoshortreal $cast $ln $log10 $exp $sqrt $pow $floor $ceil $sin $cos $tan $asin $acos $atan $atan2 $hypot
    $sinh $cosh $tanh $asinh $acosh $atanh $abs $min $max"""
PURE_FUNCTIONS = frozenset(_PURE.split())
"""System functions of their arguments alone: all that a design may call."""
_PASSED = """timescale default_nettype resetall celldefine endcelldefine unconnected_drive nounconnected_drive
    begin_keywords end_keywords line"""
PASSED_THROUGH = frozenset(_PASSED.split())
"""Directives that are the compiler's: a text with no others does not have to be preprocessed."""
_CONSTRUCTS = frozenset(("bind", "config", "export", "alias", "program", "force", "release", "defparam"))


def needs_preprocessing(text: str) -> bool:
    return not directives_in(text) <= PASSED_THROUGH


def refused_directive(text: str) -> str | None:
    """Of the raw text: ``include`` would read a file, and there is none that a design needs."""
    return "`include" if "include" in directives_in(text) else None


def refused_words(text: str) -> list[str]:
    """Of the preprocessed text: what is not allowed in it, in the order in which it is found, each once."""
    return list(dict.fromkeys(token.text for token in code_tokens(text) if _is_refused(token)))


def _is_refused(token: Token) -> bool:
    if token.kind == "system":
        return token.text not in PURE_FUNCTIONS
    if token.kind == "directive":
        return token.text[1:].strip() not in PASSED_THROUGH
    return token.kind == "name" and token.text in _CONSTRUCTS


def has_dotted_names(text: str) -> bool:
    """Whether the text names a member of something (``a.b``): its own structure, or a place outside of it.

    Connections (``.a(b)`` after a bracket or a comma) are no such names.
    """
    return any(_dotted(code_tokens(text)))


def _dotted(words: list[Token]) -> Iterator[bool]:
    for before, dot, after in zip(words, words[1:], words[2:], strict=False):
        if dot.text == "." and after.kind in ("name", "escaped"):
            yield before.kind in ("name", "escaped", "system") or before.text in ("]", ")")

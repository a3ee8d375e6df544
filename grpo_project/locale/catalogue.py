"""Message catalogues, and the matching of finished texts against their templates."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOLE = re.compile(r"\{(\d+)\}")
DEEPEST = 5
"""How far places within places are translated: a note of a reason of a bound is the deepest that occurs."""
FEW = 8
"""A template of fewer letters (``{1} of {2}``) is for numbers and names: its places take no spaces."""
FULL_WIDTH = ("。", "，", "；", "：", "！", "？")
"""Signs that hold their own space."""
SENTENCE_END = re.compile(r"(?<=[.:!?]) +(?=\S)")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Templates and their translations; an empty translation is none."""

    entries: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Catalogue:
        """Read a ``.po`` file without plural forms or contexts.

        Raises:
            ValueError: a line is none of msgid, msgstr, a quoted continuation, a comment.
        """
        entries: dict[str, str] = {}
        texts = {"msgid": "", "msgstr": ""}
        kind = ""
        for line in [*path.read_text(encoding="utf-8").splitlines(), "msgid"]:
            word, _, quoted = line.strip().partition(" ")
            if word in texts:
                if word == "msgid":
                    if texts["msgid"]:
                        entries[texts["msgid"]] = texts["msgstr"]
                    texts = {"msgid": "", "msgstr": ""}
                kind = word
            elif line.startswith('"') and kind:
                quoted = line
            elif line and not line.startswith("#"):
                raise ValueError(f"{path}: not a line of a catalogue: {line}")
            if quoted.startswith('"') and not line.startswith("#"):
                texts[kind] += ast.literal_eval(quoted)
        return cls(entries)

    def write(self, path: Path, places: Mapping[str, str]) -> None:
        """Write the entries in the order of the files that their templates stand in (``places``)."""
        header = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
        blocks = [header]
        for text, translation in self.entries.items():
            blocks.append(f"#: {places[text]}\nmsgid {quote(text)}\nmsgstr {quote(translation)}\n")
        path.write_text("\n".join(blocks), encoding="utf-8")


def quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


class Translator:
    """Translates finished texts by a catalogue. What does not fit any template comes back as it is."""

    def __init__(self, catalogue: Catalogue) -> None:
        known = {text: translation for text, translation in catalogue.entries.items() if translation}
        self._exact = {text: translation for text, translation in known.items() if not HOLE.search(text)}
        templates = [Template.of(text, translation) for text, translation in known.items() if HOLE.search(text)]
        # The one that says most of the sentence in its own words fits best.
        self._templates = sorted(templates, key=lambda template: -template.weight)
        self._cached = functools.lru_cache(4096)(self._translate)

    def __call__(self, text: str) -> str:
        """``text`` translated line by line."""
        return "\n".join(self._cached(line, 0) for line in text.split("\n"))

    def _translate(self, text: str, depth: int) -> str:
        bare = text.strip()
        if not bare or depth > DEEPEST:
            return text
        found = self._exact.get(bare) or self._by_template(bare, depth) or self._by_sentence(bare, depth)
        if found is None:
            return text
        start = text.index(bare)
        return text[:start] + found + ("" if found.endswith(FULL_WIDTH) else text[start + len(bare) :])

    def _by_template(self, text: str, depth: int) -> str | None:
        for template in self._templates:
            if template.longest in text and (match := template.pattern.fullmatch(text)):
                values = {name[1:]: self._cached(value, depth + 1) for name, value in match.groupdict().items()}
                pieces = HOLE.split(template.translation)
                return "".join(values[piece] if i % 2 else piece for i, piece in enumerate(pieces))
        return None

    def _by_sentence(self, text: str, depth: int) -> str | None:
        """Several sentences one after the other, each translated where it can be; the most at once first."""
        pieces = SENTENCE_END.split(text)
        if len(pieces) == 1 or depth == DEEPEST:
            return None
        for parts in range(len(pieces) - 1, 0, -1):
            head = " ".join(pieces[:parts])
            if found := self._exact.get(head) or self._by_template(head, depth + 1):
                space = "" if found.endswith(FULL_WIDTH) else " "
                return f"{found}{space}{self._cached(' '.join(pieces[parts:]), depth + 1)}"
        rest = " ".join(pieces[1:])
        translated = self._cached(rest, depth + 1)
        return f"{pieces[0]} {translated}" if translated != rest else None


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places, ready to be matched. ``longest``: its longest own words, a quick first test."""

    pattern: re.Pattern[str]
    translation: str
    longest: str
    weight: int

    @classmethod
    def of(cls, text: str, translation: str) -> Template:
        own = HOLE.split(text)[::2]
        weight = len("".join(own).strip())
        value = ".*?" if weight >= FEW else r"\S*?"
        pieces = enumerate(HOLE.split(text))
        pattern = "".join(f"(?P<_{piece}>{value})" if i % 2 else re.escape(piece) for i, piece in pieces)
        return cls(re.compile(pattern, re.S), translation, max(own, key=len), weight)

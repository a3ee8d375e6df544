"""Find the Verilog in what a model wrote: fences, ``[BEGIN]`` and ``[DONE]``, ``<answer>``, bare modules.

In linear time, and without parsing: whether the text compiles is found out in the cage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from grpo_project.problems.problem import Problem
from grpo_project.problems.verilog_text import modules_in

_FENCE = re.compile(r"^[ \t]{0,3}(```+|~~~+)[ \t]*([^\s`]*)[^`\n]*$")
_LANGUAGES = ("verilog", "systemverilog", "sv", "v", "svh", "vh", "")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_MARKED = (
    (re.compile(r"<answer>", re.I), re.compile(r"</answer>", re.I)),
    (re.compile(r"\[BEGIN\]"), re.compile(r"\[DONE\]")),
)
_FIRST = re.compile(r"^[ \t]*(?:`\w|module\b|macromodule\b|package\b|typedef\b|//|/\*)", re.M)
_LAST = re.compile(r"\b(?:endmodule|endpackage)\b[^\n]*")


def extract_code(completion: str, problem: Problem) -> str | None:
    """The text to compile, or ``None`` where the completion holds no module.

    What is thought aloud does not count. Of several blocks the last one that defines the problem's module wins, with
    modules of earlier blocks that it lacks left out; where none defines it, all blocks with modules are put together.
    A continuation of the starter code, which is the module's head, is put behind it.
    """
    text = completion.replace("\r\n", "\n").replace("\r", "\n")
    text = _THOUGHT.sub("", text) if "<think>" in text.lower() else text.rpartition("</think>")[2]
    module = problem.entry_point or ""
    parts = list(_marked(text)) or [text]
    for part in reversed(parts):
        if (code := _code_in(part, module, problem.starter_code)) is not None:
            return code
    return None


def _marked(text: str) -> Iterator[str]:
    """What stands between marks; the last one may lack its end."""
    for begin, end in _MARKED:
        starts = list(begin.finditer(text))
        if starts:
            for start in starts:
                stop = end.search(text, start.end())
                yield text[start.end() : stop.start() if stop else len(text)]
            return
    # [DONE] alone: the prompt ended with [BEGIN].
    if (found := re.search(r"\[DONE\]", text)) is not None:
        yield text[: found.start()]


def _code_in(text: str, module: str, starter: str | None) -> str | None:
    blocks = [code for language, code in _fenced(text) if language in _LANGUAGES]
    defining = [code for code in blocks if module in modules_in(code)]
    if defining:
        return defining[-1]
    with_modules = [code for code in blocks if modules_in(code)]
    if with_modules:
        return "\n".join(with_modules)
    bare = "\n".join(blocks) if blocks else text
    if starter and not modules_in(bare) and re.search(r"\bendmodule\b", bare):
        return starter.rstrip("\n") + "\n" + bare[: list(_LAST.finditer(bare))[-1].end()] + "\n"
    return _bare(bare)


def _bare(text: str) -> str | None:
    """From the first line that begins a module, or a directive before it, to the last that ends one."""
    if not modules_in(text):
        return None
    module = re.search(r"^[ \t]*(?:macro)?module\b", text, re.M)
    first = next((match.start() for match in _FIRST.finditer(text)), 0)
    if module is None:
        return None
    head = text[first : module.start()]
    if any(line.strip() and not _FIRST.match(line) and ";" not in line for line in head.split("\n")):
        first = module.start()  # prose stands between: the first match was a word of it
    ends = list(_LAST.finditer(text, module.start()))
    return text[first : ends[-1].end() if ends else len(text)] + "\n"


def _fenced(text: str) -> list[tuple[str, str]]:
    """(language, content) of each fenced block; the last one may lack its closing fence."""
    blocks: list[tuple[str, str]] = []
    fence = language = ""
    lines: list[str] = []
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if not fence and match:
            fence, language, lines = match[1], match[2].lower(), []
        elif fence and match and match[1].startswith(fence) and not match[2]:
            blocks.append((language, "\n".join(lines) + "\n"))
            fence = ""
        elif fence:
            lines.append(line)
    if fence:
        blocks.append((language, "\n".join(lines) + "\n"))
    return [(language, content) for language, content in blocks if content.strip()]

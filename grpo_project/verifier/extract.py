"""Find the program in what a model wrote: fenced blocks, bare code, a continuation of the starter code, chatter around.

Line by line and in linear time, without parsing: the text is hostile until it is in the cage, and Python's own parser
can be made to take minutes, or to crash. Whether the program compiles is found out in the cage.
"""

from __future__ import annotations

import re

from grpo_project.problems.problem import Problem

_PYTHON = ("python", "py", "python3", "py3")
# A line at the margin that starts a statement; a sentence of prose does not look like this. No two neighbouring repeats
# match the same characters: else a failed match would take quadratic or cubic time.
_STATEMENT = re.compile(
    r"""(?: (?:async\s+)?def\s+\w+\s*[\(\[] | class\s+\w+\s*[\(:\[] | @\w | import\s+\w[\w., ]*$
      | from\s+[\w.]+\s+import\s
      | if\s.*:\s*(?:\#.*)?$ | (?:if|elif|while|for|with|async\s+with|async\s+for)\s.+:\s*\S* | (?:else|try|finally)\s*:
      | except\b.*:| match\s.+:\s*$ | return\b(?:$|\s+[\w\(\[\{\-'"]) | raise\s+\w | assert\s | del\s+\w | pass\s*$
      | global\s+\w | [A-Za-z_][\w.]*(?:\[[^\]]*\])*\s*(?:=|\+=|-=|\*=|/=|//=|%=|\|=|&=|\^=|>>=|<<=)[^=]?
      | [A-Za-z_]\w*(?:\s*,\s*\*?[A-Za-z_]\w*)+\s*=[^=] | [A-Za-z_]\w*\s?:\s?[\w\["'][\w\[\], .|"']*=\s
      | [A-Za-z_][\w.]*\( | \# | [\)\]\}] | \"\"\" | ''' )""",
    re.VERBOSE,
)
_TRIPLE = re.compile(r'"""|' + r"'''")


def extract_code(completion: str, problem: Problem) -> str | None:
    """The whole program to run, or ``None`` where the completion holds no code.

    The last fenced block that defines the entry point wins, then the last Python block. What defines the entry point
    itself is put behind the imports and helpers of the starter code; an indented body is put behind all of it.
    """
    text = completion.replace("\r\n", "\n").replace("\r", "\n")
    scaffold = scaffold_of(problem)
    blocks = _fenced(text)
    code = _best_block(blocks, problem) if blocks else _bare(text, problem, scaffold)
    if code is None or not code.strip():
        return None
    return _assemble(code, problem, scaffold)


def scaffold_of(problem: Problem) -> str | None:
    """The code that a completion goes on from: the starter code, or a prompt that is itself the head of a program."""
    if problem.starter_code:
        return problem.starter_code
    if problem.entry_point and _defines(problem.prompt, problem.entry_point):
        first = next((line for line in problem.prompt.split("\n") if line.strip()), "")
        if _starts_statement(first):
            return problem.prompt
    return None


def _starts_statement(line: str) -> bool:
    return _STATEMENT.match(line[:400]) is not None  # bounded: a hostile line may be megabytes long


def _defines(code: str, name: str) -> bool:
    pattern = rf"^(?:(?:async\s+)?def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*(?::[^=\n]*)?=[^=]"
    return re.search(pattern, code, re.MULTILINE) is not None


def _fenced(text: str) -> list[tuple[str, str]]:
    """(language, content) of each fenced block; the last one may lack its closing fence."""
    blocks: list[tuple[str, str]] = []
    fence = language = ""
    lines: list[str] = []
    for line in text.split("\n"):
        mark, info = _fence(line)
        if not fence and mark:
            fence, language, lines = mark, info, []
        elif fence and mark.startswith(fence) and not info:
            blocks.append((language, "\n".join(lines)))
            fence = ""
        elif fence:
            lines.append(line)
    if fence:
        blocks.append((language, "\n".join(lines)))
    return [(language, content) for language, content in blocks if content.strip()]


def _fence(line: str) -> tuple[str, str]:
    """The mark of a fence and its language; two empty strings where the line is none.

    Without a regular expression: several of its parts would match the same characters, in cubic time.
    """
    rest = line.lstrip()
    if len(line) - len(rest) > 3 or not rest.startswith(("```", "~~~")):
        return "", ""
    info = rest.lstrip(rest[0])
    if "`" in info:
        return "", ""
    words = info.split(maxsplit=1)
    return rest[: len(rest) - len(info)], words[0].lower() if words else ""


def _best_block(blocks: list[tuple[str, str]], problem: Problem) -> str | None:
    usable = [(language, code) for language, code in blocks if language in (*_PYTHON, "")]
    if problem.entry_point:
        defining = [code for _, code in usable if _defines(code, problem.entry_point)]
        if defining:
            return defining[-1]
    tagged = [code for language, code in usable if language]
    if tagged:
        return tagged[-1]
    return usable[-1][1] if usable else None


def _bare(text: str, problem: Problem, scaffold: str | None) -> str | None:
    lines = text.split("\n")
    if scaffold is not None and not (problem.entry_point and _defines(text, problem.entry_point)):
        first = next((line for line in lines if line.strip()), "")
        if first[:1] in (" ", "\t"):
            return _body(lines)
    start = next((i for i, line in enumerate(lines) if _starts_statement(line) and line[0] != "#"), None)
    if start is None:
        return None
    return "\n".join(_while_code(lines[start:]))


def _body(lines: list[str]) -> str:
    """An indented continuation, up to the first line at the margin that is no code."""
    return "\n".join(_while_code(lines))


def _while_code(lines: list[str]) -> list[str]:
    """Lines up to the first that is prose. Inside a bracket or a triple-quoted string every line is code."""
    kept: list[str] = []
    quote = ""
    depth = 0
    for line in lines:
        inside = quote or depth > 0
        if not inside and line.strip() and line[0] not in " \t" and not _starts_statement(line):
            break
        kept.append(line)
        quote = _open_quote(line, quote)
        if not quote:
            plain = re.sub(r"'[^'\n]*'|\"[^\"\n]*\"|#.*", "", line)
            depth = max(0, depth + sum(plain.count(c) for c in "([{") - sum(plain.count(c) for c in ")]}"))
    return kept


def _open_quote(line: str, quote: str) -> str:
    """The triple quote that is open after this line."""
    for match in _TRIPLE.finditer(line):
        if not quote:
            quote = match[0]
        elif match[0] == quote:
            quote = ""
    return quote


def _assemble(code: str, problem: Problem, scaffold: str | None) -> str:
    if scaffold is None:
        return code
    name = problem.entry_point
    first = next(line for line in code.split("\n") if line.strip())
    if first[:1] in (" ", "\t") and not (name and _defines(code, name)):
        return scaffold.rstrip("\n") + "\n" + code
    if name is None:
        return code
    return _before_entry_point(scaffold, name) + code


def _before_entry_point(scaffold: str, name: str) -> str:
    """The scaffold's imports and helpers: what stands before the definition of the entry point."""
    match = re.search(rf"^(?:@.*\n)*(?:(?:async\s+)?def|class)\s+{re.escape(name)}\b", scaffold, re.MULTILINE)
    return scaffold[: match.start()] if match else ""

"""The message templates of the program, out of its source, and the catalogue that translates them.

    python tools/messages.py            adds what the catalogues lack (untranslated), and says how many there are
    python tools/messages.py --list     prints the templates

A template is an English text with ``{1}``, ``{2}``, ... where the program puts values. It is taken from the
places where texts for people are made: errors that a user can fix, warnings and notes, alarms, reasons of stage
decisions, status. Where a text has several lines, each is a template.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from grpo_project.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "grpo_project"
CATALOGUES = PACKAGE / "locale"

ERRORS = {"UserError", "ConfigError", "DataError", "CheckpointError", "TrackingError", "DiskFullError"}
SINKS = ERRORS | {
    "raise_alarm",
    "set_condition",
    "Alarm",
    "Decision",
    "warning",
    "error",
    "info",
    "say",
    "print",
    "add",
}
"""Functions and methods that are handed what people read."""
NAMES = {
    "cause",
    "remedy",
    "found",
    "reason",
    "note",
    "notes",
    "where",
    "goes_on",
    "message",
    "advice",
    "hint",
    "fix",
    "text",
    "wrong",
}
"""Names that hold parts of it."""
WHOLE = ("curriculum/progress.py", "curriculum/gate.py", "reports/status.py", "evaluation/divergence.py")
"""Files whose every sentence is for people."""
MAKERS = {"foreign_evaluations", "unused_flags", "fit_to_processes", "announce", "step_line", "how_long"}
"""Functions, beside those called ``..._text``, ``..._note``, that make sentences."""
MORE = {
    "internal failure: {1}": "cli.py",
    "interrupted": "cli.py",
    "Stopped {1}.": "commands/train.py",
    "[bold red]error:[/] {1}": "commands/train.py",
    "[yellow]warning:[/] {1}": "commands/train.py",
    "[yellow]note:[/] {1}": "commands/train.py",
    "step {1}: {2} -> {3}: {4}": "training/observer.py",
    "did you mean {1}?": "problems/faults.py",
    "{1}: {2} faults in {3} rows, nothing was loaded": "problems/faults.py",
    "... and {1} more": "problems/faults.py",
    "{1}: row {2}, field {3}: {4}; {5}": "problems/faults.py",
    "row {1}, field {2}: {3}; {4}": "problems/faults.py",
    "row {1}: {2}; {3}": "problems/faults.py",
    "{1}; {2} [{3}, {4}] since the first one": "reports/status.py",
    "{1}; {2} [{3}, {4}] since the first one; {5} [{6}, {7}] since the previous one": "reports/status.py",
    "step {1}: {2}: {3}": "reports/status.py",
    "{1} steps": "commands/train.py",
    "{1} epochs": "commands/train.py",
    "no API key was found": "tracking/settings.py",
    "evaluating on {1} problems: {2}": "evaluation/callback.py",
    "chosen from the held-out problems": "evaluation/trainer_set.py",
    "{1} s a step": "reports/status.py",
    "{1} s a step, {2} tokens a second": "reports/status.py",
    "{1} s a step, {2} tokens a second, {3} left": "reports/status.py",
    "at most {1} MB host": "reports/status.py",
    "at most {1} MB host, {2} MB device": "reports/status.py",
    "{1} of {2}": "reports/status.py",
    "In stage {1} at step {2}: {3}, threshold {4}; missing to advance: {5}": "curriculum/progress.py",
    "{1} to {2},": "curriculum/progress.py",
}
"""Frames that are too short to be found by the rules below."""
LABELS = (
    "run",
    "status",
    "step",
    "speed",
    "reward",
    "held out",
    "stage",
    "memory",
    "starts",
    "sandbox",
    "trouble",
    "history",
)
LABELS += (
    "journal",
    "to go on",
    "none yet",
    "running",
    "finished",
    "killed",
    "failed",
    "offline",
    "complete",
    "uploading",
)
LABELS += ("incomplete", "disabled")
SKIPPED = (
    "verifier/cage",
    "verifier/python",
    "verifier/verilog/",
    "tracking/delivery.py",
    "tracking/self_check.py",
    "assets",
    "locale",
    "problems/prompt.py",
    "commands/resume.py",
)


def templates() -> dict[str, str]:
    """Every template, and the file that it stands in first, in a stable order."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith(SKIPPED):
            continue
        for text in of_source(path.read_text(encoding="utf-8"), whole=place in WHOLE):
            found.setdefault(text, place)
    for text, place in MORE.items():
        found.setdefault(text, place)
    for text in COMMANDS.values():
        found.setdefault(text, "cli.py")
    for text in LABELS:
        found.setdefault(text, "reports/status.py")
    return found


def of_source(source: str, *, whole: bool = False) -> Iterator[str]:
    """The templates of one module. ``whole``: all its sentences, not only what goes into a sink."""
    tree = ast.parse(source)
    roots: list[ast.AST] = [tree] if whole else list(sinks(tree))
    ignored = set(docstrings(tree))
    for root in roots:
        for text in texts(root, ignored):
            yield from (line for line in map(renumbered, text.split("\n")) if is_sentence(line))


def sinks(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in SINKS:
            yield from node.args
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(name_of(target) in NAMES for target in targets):
                yield node.value
        elif isinstance(node, ast.FunctionDef) and (
            node.name in MAKERS or node.name.strip("_").endswith(("_text", "_note", "_notes", "advice"))
        ):
            yield node


def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def docstrings(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)


def texts(node: ast.AST, ignored: set[int]) -> Iterator[str]:
    """The longest pieces of text below ``node``; what an f-string puts in is looked at as well."""
    if id(node) in ignored or isinstance(node, ast.Dict):
        return
    if (text := template(node)) is not None:
        yield text
        holes = [part.value for part in ast.walk(node) if isinstance(part, ast.FormattedValue)]
        for hole in holes:
            yield from texts(hole, ignored)
        return
    for child in ast.iter_child_nodes(node):
        yield from texts(child, ignored)


def template(node: ast.AST) -> str | None:
    """``node`` as a template with numbered holes; ``None`` where it is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        parts: list[str | None] = re.split(r"(%(?:\.\d+)?[sdrfg])", node.value.replace("%%", "%"))
        parts = [None if part and re.fullmatch(r"%(?:\.\d+)?[sdrfg]", part) else part for part in parts]
    elif isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
    else:
        return None
    numbers = iter(range(1, 100))
    return "".join(f"{{{next(numbers)}}}" if part is None else part for part in parts).strip()


def renumbered(line: str) -> str:
    """One line of a template, its places counted from 1."""
    numbers = iter(range(1, 100))
    return re.sub(r"\{\d+\}", lambda _: f"{{{next(numbers)}}}", line).strip()


def is_sentence(text: str) -> bool:
    words = re.sub(r"\{\d+\}|\[/?[a-z ]*\]", " ", text)
    if set("\\$") & set(text):  # a pattern, source code
        return False
    return " " in words.strip() and len(re.findall(r"[A-Za-z]{2,}", words)) >= 2


def main() -> int:
    from grpo_project.locale import Catalogue

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    found = templates()
    if args.list:
        for text, place in found.items():
            print(f"{place}: {text!r}")
        return 0
    for path in sorted(CATALOGUES.glob("*/LC_MESSAGES/*.po")):
        catalogue = Catalogue.read(path)
        lacking = [text for text in found if text not in catalogue.entries]
        gone = [text for text in catalogue.entries if text not in found]
        Catalogue({text: catalogue.entries.get(text, "") for text in found}).write(path, found)
        empty = sum(not catalogue.entries.get(text) for text in found)
        counts = f"{len(found)} messages, {len(lacking)} new, {len(gone)} gone, {empty} to translate"
        print(f"{path.relative_to(ROOT)}: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What published benches print, read as results of test cases.

A bench speaks one of three dialects, told by what it prints for its own reference:

``cases``        the guide's: ``Test Case 3: PASS``, or no more than ``Passed: 3, Failed: 5``
``failures``     RTLLM's: ``Your Design Passed``, ``Test completed with 3 /100 failures``
``mismatches``   VerilogEval's: ``Mismatches: 0 in 99 samples``, ``Hint: Output 'q' has 3 mismatches``
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CASE = re.compile(r"^[ \t]*Test\s*Case\s*#?(\d+)\s*[:\-]?\s*\b(PASS(?:ED)?|FAIL(?:ED)?)\b(.*)$", re.M | re.I)
_COUNTS = re.compile(r"\bPassed\s*[:=]\s*(\d+)\s*,?\s*Failed\s*[:=]\s*(\d+)", re.I)
_OVERALL = re.compile(r"\bOVERALL[_ ](PASS|FAIL)", re.I)
_RTLLM = re.compile(r"\bYour Design Passed\b|\bTest completed with\s+(?:\d+\s*)?(?:/\s*\d+\s*)?failures", re.I)
_FAILURES = re.compile(r"\b(\d+)\s*/\s*(\d+)\s*failures", re.I)
_PASS = re.compile(r"\bPass|\bpass")
_MISMATCHES = re.compile(r"^Mismatches: (\d+) in (\d+) samples$", re.M)
_HINT = re.compile(r"^Hint: Output '([^']+)' has (\d+) mismatches", re.M)


@dataclass(frozen=True, slots=True)
class Report:
    """What a bench said. ``passed`` holds one entry a case; ``messages`` their own words, where there are any."""

    dialect: str
    passed: tuple[bool, ...]
    messages: tuple[str, ...] = ()
    hints: tuple[tuple[str, int], ...] = ()
    """(output, mismatches) as VerilogEval counts them."""

    @property
    def solved(self) -> bool:
        return bool(self.passed) and all(self.passed)


def read_report(text: str) -> Report | None:
    """``None`` where the bench gave no verdict."""
    if (found := list(_MISMATCHES.finditer(text))) and "TIMEOUT" not in text:
        wrong, samples = int(found[-1][1]), int(found[-1][2])
        hints = tuple((name, int(count)) for name, count in _HINT.findall(text))
        return Report("mismatches", (wrong == 0 and samples > 0,), (found[-1][0],), hints)
    return _cases(text) or _failures(text)


def _cases(text: str) -> Report | None:
    words: dict[int, tuple[bool, str]] = {}
    for number, word, rest in _CASE.findall(text):
        good = word.upper().startswith("PASS")
        before = words.get(int(number))
        if before is None or before[0]:  # a case that is told twice has to pass twice
            words[int(number)] = (good, rest.strip(" -:\t\r"))
    counts = _COUNTS.search(text)
    overall = _OVERALL.search(text)
    if words:
        passed = [words[number][0] for number in sorted(words)]
        messages = [words[number][1] for number in sorted(words)]
        if counts is None or int(counts[1]) == sum(passed):
            return Report("cases", tuple(passed), tuple(messages))
    if counts is not None:
        good, bad = int(counts[1]), int(counts[2])
        return Report("cases", (True,) * good + (False,) * bad) if good + bad <= 1_000_000 else None
    if overall is not None:
        return Report("cases", (overall[1].upper() == "PASS",), (overall[0],))
    return None


def _failures(text: str) -> Report | None:
    found = _FAILURES.search(text)
    if found and 0 < int(found[2]) <= 1_000_000:
        wrong, total = min(int(found[1]), int(found[2])), int(found[2])
        if "Your Design Passed" in text or wrong:
            return Report("failures", (True,) * (total - wrong) + (False,) * wrong, (found[0],))
    if _RTLLM.search(text) or _PASS.search(text):
        return Report("failures", (_PASS.search(text) is not None,))
    return None

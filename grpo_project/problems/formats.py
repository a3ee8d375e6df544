"""Reads problem files: the native format, HumanEval, MBPP, the guide's manifest and CodeV-R1, each plain or gzipped,
and folders or archives of VerilogEval and RTLLM.

A file is taken whole or not at all. Every fault of every row is collected and reported in one ``DataError``, so that
a data set is repaired in one go; nothing is skipped, guessed or corrected silently. What the fields mean is
``docs/problem-format.md``; ``native`` and ``published`` turn one row into a ``Problem``.
"""

from __future__ import annotations

import functools
import gzip
import json
import logging
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_project.errors import DataError
from grpo_project.problems.contests import (
    is_apps,
    is_code_contests,
    is_leetcode,
    read_apps,
    read_code_contests,
    read_leetcode,
)
from grpo_project.problems.faults import Faults, json_type
from grpo_project.problems.native import read_native
from grpo_project.problems.problem import Problem
from grpo_project.problems.published import (
    is_bigcodebench,
    is_humaneval,
    is_humaneval_plus,
    is_mbpp,
    read_bigcodebench,
    read_humaneval,
    read_humaneval_plus,
    read_mbpp,
)
from grpo_project.problems.published_files import published_files
from grpo_project.problems.rows import renamed
from grpo_project.problems.tables import table_rows
from grpo_project.problems.verilog import Sources
from grpo_project.problems.verilog_published import (
    is_codev,
    is_guide,
    is_rtllm,
    is_verilog_eval,
    read_codev,
    read_guide,
    read_rtllm,
    read_verilog_eval,
)

logger = logging.getLogger("grpo_project")

RowReader = Callable[[dict[str, Any], Faults], Problem | None]
_PUBLISHED: tuple[tuple[Callable[[dict[str, Any]], bool], RowReader], ...] = (
    (is_humaneval_plus, read_humaneval_plus),
    (is_bigcodebench, read_bigcodebench),
    (is_humaneval, read_humaneval),
    (is_mbpp, read_mbpp),
    (is_leetcode, read_leetcode),
    (is_apps, read_apps),
    (is_code_contests, read_code_contests),
)
"""The first that fits a file's first row reads it."""

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_SPACE = re.compile(r"[ \t\n\r]*")


def load_problems(
    path: str | Path, base_path: str | Path | None = None, columns: Mapping[str, str] | None = None
) -> list[Problem]:
    """Read and check a problem file, folder or hub data set (``hub:org/name``); the format is told by its content.

    ``columns`` gives columns their native names (``rows.parse_columns``). Paths that a row names start from
    ``base_path``, by default from the file's own folder. Every problem's ``source`` is the path. A missing level is
    inferred from the complexity, and the log says how often.

    Raises:
        DataError: the file can't be read, holds no problem, or some row is wrong. Lists every wrong row with its
            number (JSON Lines: the line's), field, what is wrong and how to fix it.
    """
    faults = Faults(str(path))
    rows = table_rows(str(path))
    path = Path(path)
    if rows is None and (files := published_files(path)) is not None:
        return _read_files(files, faults)
    if rows is None:
        rows = _iter_rows(_read_text(path), faults)
    sources = Sources(path.parent if base_path is None else Path(base_path), faults)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns about odd escapes in the tests' source: not this file's fault
        problems = _read_rows(rows, faults, sources, columns or {})
    faults.raise_if_any()
    _log_levels(path, problems)
    return [problem for problem, _ in problems]


@functools.lru_cache(maxsize=4096)
def problem_from_row(row: str, source: str = "user") -> Problem:
    """The problem of one row, as JSON text in any of the formats: how other programs hold problems in their data sets.

    The same text gives the same object, so that judging many completions of a problem makes it ready once.

    Raises:
        DataError: it is no such row.
    """
    faults = Faults(source)
    problems = _read_rows(_iter_rows(row, faults), faults, Sources(Path(), faults), {})
    faults.raise_if_any()
    if len(problems) != 1:
        raise DataError(
            f"{source}: one problem is wanted, as one JSON object; this holds {len(problems)}: {row[:60]!r}"
        )
    return problems[0][0]


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; name the problem file in it") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror}); check the file and its permissions") from error
    if data.startswith(GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: the gzip data is damaged ({error}); fetch or compress it again") from error
    mark = next((mark for mark in BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    try:
        text = data.decode(BYTE_ORDER_MARKS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    if not text.strip():
        raise DataError(f"{path}: is empty; it must hold at least one problem")
    return text


def _read_rows(
    rows: Iterable[tuple[int, Any]], faults: Faults, sources: Sources, columns: Mapping[str, str]
) -> list[tuple[Problem, bool]]:
    """The problems of all good rows, each with whether its level was inferred."""
    problems: list[tuple[Problem, bool]] = []
    first_row_of: dict[str, int] = {}
    reader: RowReader | None = None
    for number, row in rows:
        faults.row = number
        if not isinstance(row, dict):
            faults.add(None, f"is {json_type(row)}, not an object", 'write {"id": ..., "prompt": ..., "tests": [...]}')
            continue
        row = renamed(row, columns)
        reader = reader or _reader_for(row, sources)
        problem = reader(row, faults)
        if problem is None:
            continue
        if problem.id in first_row_of:
            faults.add("id", f"{problem.id!r} is already the id of row {first_row_of[problem.id]}", "make ids unique")
        first_row_of.setdefault(problem.id, number)
        problems.append((problem, row.get("level") is None and problem.complexity is not None))
    return problems


def _read_files(files: Mapping[str, str], faults: Faults) -> list[Problem]:
    """The problems of a published folder."""
    if is_verilog_eval(files):
        problems = read_verilog_eval(files, faults)
    elif is_rtllm(files):
        problems = read_rtllm(files, faults)
    else:
        raise DataError(
            f"{faults.source}: is a folder or archive without VerilogEval or RTLLM in it; name the problem file itself"
        )
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            faults.add("id", f"{problem.id!r} appears twice", "take one of the folders out")
        seen.add(problem.id)
    faults.raise_if_any()
    return problems


def _reader_for(row: dict[str, Any], sources: Sources) -> RowReader:
    """The format of the whole file, told by the fields of its first object."""
    if is_guide(row):
        return functools.partial(read_guide, sources=sources)
    if is_codev(row):
        return functools.partial(read_codev, sources=sources)
    for fits, reader in _PUBLISHED:
        if fits(row):
            return reader
    return functools.partial(read_native, sources=sources)


def _iter_rows(text: str, faults: Faults) -> Iterator[tuple[int, Any]]:
    """``(row number from 1, parsed JSON)`` of an array's items or of the lines of JSON Lines."""
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
    return _array_rows(decoder, text, faults) if text.lstrip().startswith("[") else _line_rows(decoder, text, faults)


def _array_rows(decoder: json.JSONDecoder, text: str, faults: Faults) -> Iterator[tuple[int, Any]]:
    """Item by item, so that a fault has a row number. Reading ends at one that is not JSON: its end is unknown."""
    end = _skip_space(text, text.index("[") + 1)
    if text.startswith("]", end):
        faults.add(None, "the array is empty", "give at least one problem")
    number = 0
    while not text.startswith("]", end):
        number += 1
        faults.row = number
        with _reading(faults) as read:
            row, end = decoder.raw_decode(text, end)
            end = _skip_space(text, end)
            if not text.startswith((",", "]"), end):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, end)
        if not read.ok:
            return
        yield number, row
        if text.startswith(",", end):
            end = _skip_space(text, end + 1)
            if text.startswith("]", end):
                faults.add(None, "a comma after it ends the array", "take the last comma out")
    faults.row = None
    if text[end + 1 :].strip():
        faults.add(None, "there is text after the array's end", "take it out")


def _line_rows(decoder: json.JSONDecoder, text: str, faults: Faults) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if number == 1 and _is_one_object(decoder, line, text):
            faults.add(None, "the file is one JSON object", "save an array of problems, or one problem a line")
            return
        faults.row = number
        with _reading(faults) as read:
            row = decoder.decode(line)
        if read.ok:
            yield number, row


def _skip_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start


def _is_one_object(decoder: json.JSONDecoder, first_line: str, text: str) -> bool:
    """An object spread over several lines: neither of the two layouts, and worth one message rather than one a line."""
    try:
        decoder.decode(first_line)
        return False
    except (ValueError, RecursionError):
        pass
    try:
        return isinstance(decoder.decode(text), dict)
    except (ValueError, RecursionError):
        return False


@dataclass
class _Outcome:
    ok: bool = True


@contextmanager
def _reading(faults: Faults) -> Iterator[_Outcome]:
    """Turns what Python's JSON reader raises into a fault of the present row."""
    outcome = _Outcome()
    try:
        yield outcome
        return
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        faults.add(None, f"is not JSON ({error.msg}, {where})", "correct it there")
    except RecursionError:
        faults.add(None, "is nested too deeply", "flatten its values")
    except ValueError as error:  # a refused constant, a repeated key, an integer of thousands of digits
        faults.add(None, f"is not JSON that can be read ({error})", "correct the value")
    outcome.ok = False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python's own reader would keep the last of two equal keys and say nothing."""
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} appears twice in one object")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(
        f"{name} is no JSON value; use null, an expected_literal such as '1e999' for infinity, or an assert test"
    )


def _log_levels(path: Path, problems: list[tuple[Problem, bool]]) -> None:
    inferred = sum(1 for _, was_inferred in problems if was_inferred)
    unknown = sum(1 for problem, _ in problems if problem.level == "unknown")
    if inferred:
        logger.info("%s: inferred the level of %d of %d problems from their complexity", path, inferred, len(problems))
    if unknown:
        text = "%s: %d of %d problems have neither a level nor a complexity; training sorts them"
        logger.info(text, path, unknown, len(problems))

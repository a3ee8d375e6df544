"""A Verilog problem's parts, from whatever format: module, bench, reference, data files, tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpo_project.problems.faults import Faults, did_you_mean, json_type
from grpo_project.problems.problem import Bench, BenchTest, Problem
from grpo_project.problems.verilog_text import instantiated_in, modules_in, output_names, strings_in

TIME_LIMIT_S = 10.0
"""CPU seconds of one simulation, where the problem does not say. A design gets twenty times its reference's at most."""
SAMPLE_GROUPS = 10
"""Tests of a problem without a bench: as many stretches of random inputs."""
MAX_CASES = 100_000
_FILE_LIMIT = 8 << 20
FIELDS = frozenset(("testbench", "reference", "files", "module", "clock", "reset", "reset_low", "samples", "cases"))
"""Fields that the native format has for Verilog beside the others; ``reference`` is ``solution``'s name there."""
KINDS = ("output", "case", "samples")


@dataclass(slots=True)
class Sources:
    """Where a row's files are looked for: ``folder`` is the data file's, or ``--dataset_base_path``."""

    folder: Path
    faults: Faults
    _read: dict[Path, str | None] = field(default_factory=dict)

    def text(self, path: str, name: str) -> str | None:
        """The file's text; ``None`` where it can't be read, which is then recorded for the field ``name``."""
        full = self.folder / path
        if full not in self._read:
            self._read[full] = read_text(full, name, self.faults)
        elif self._read[full] is None:
            read_text(full, name, self.faults)  # another row names it, too: the fault is that row's as well
        return self._read[full]

    def beside(self, bench: str, path: str) -> tuple[tuple[str, str], ...]:
        """The data files that a bench names and that lie beside it."""
        folder = (self.folder / path).parent
        found = []
        for name in sorted(strings_in(bench)):
            if name and "\n" not in name and len(name) < 200 and "%" not in name and "\\" not in name:
                file = folder / name
                if file.is_file() and (text := read_text(file, "testbench", self.faults)) is not None:
                    found.append((name, text))
        return tuple(found)


def read_text(path: Path, name: str, faults: Faults) -> str | None:
    try:
        if path.stat().st_size > _FILE_LIMIT:
            faults.add(name, f"{path} has more than {_FILE_LIMIT >> 20} MB", "name the Verilog file")
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        fix = "correct the path, or name the folder that paths start from with --dataset_base_path"
        faults.add(name, f"{path} can't be read ({error.strerror})", fix)
        return None


def module_of(bench: str, reference: str, faults: Faults, *, bench_field: str, reference_field: str) -> str | None:
    """The module that the bench instantiates and the reference defines; ``None`` and a fault where there is none."""
    defined, inside = modules_in(reference), set(modules_in(bench))
    wanted = instantiated_in(bench) - inside
    if not defined:
        faults.add(reference_field, "defines no module", "name the Verilog file with the reference design")
        return None
    if not inside:
        faults.add(bench_field, "defines no module", "name the Verilog file with the test bench")
        return None
    both = [name for name in defined if name in wanted]
    if not both:
        told = ", ".join(sorted(wanted)) or "no module"
        fix = "give both the same name, or take the row out: no correct design can pass it"
        faults.add(bench_field, f"instantiates {told}, and the reference defines {', '.join(defined)}", fix)
        return None
    return both[-1]


def verilog_problem(row: dict[str, Any], values: dict[str, Any], sources: Sources, faults: Faults) -> Problem | None:
    """A row of the native format with ``"language": "verilog"``; ``values`` are its fields that every language has."""
    before = len(faults)
    reference = values.pop("solution", None)
    if "reference" in row:
        if reference is not None:
            faults.add("reference", "stands beside solution", "give one of the two")
        reference = _text_or_file(row["reference"], "reference", sources, faults)
    testbench = None
    if row.get("testbench") is not None:
        testbench = _text_or_file(row["testbench"], "testbench", sources, faults)
    files = _files(row.get("files"), sources, faults)
    module = _module(row, values.pop("entry_point", None), testbench, reference, faults)
    for name in ("clock", "reset", "reset_low"):
        kind = bool if name == "reset_low" else str
        if row.get(name) is not None and not isinstance(row[name], kind):
            faults.add(name, f"is {json_type(row[name])}", "true or false" if kind is bool else "name an input")
    samples = row.get("samples", 1000)
    if isinstance(samples, bool) or not isinstance(samples, int) or not 1 <= samples <= MAX_CASES:
        faults.add("samples", f"is {samples!r}", f"give a whole number from 1 to {MAX_CASES}")
    if testbench is None and reference is None:
        faults.add("testbench", "is missing, and so is reference", "give a bench, or a reference to be equivalent to")
    tests = _tests(row, testbench, faults)
    if len(faults) > before:
        return None
    bench = Bench(testbench, files, row.get("clock"), row.get("reset"), bool(row.get("reset_low")), samples)
    values.setdefault("time_limit_s", TIME_LIMIT_S)
    return Problem(tests=tests, entry_point=module, solution=reference, bench=bench, source=faults.source, **values)


def _text_or_file(value: Any, name: str, sources: Sources, faults: Faults) -> str | None:
    """Verilog itself, or a path to it: a text without a line break and without ``module``."""
    if not isinstance(value, str) or not value.strip():
        faults.add(name, f"is {json_type(value)}" if value != "" else "is empty", "give Verilog, or the path of a file")
        return None
    text = value if "\n" in value or "module" in value else sources.text(value, name)
    if text is not None and not modules_in(text):
        faults.add(name, "defines no module", "give Verilog, or the path of a Verilog file")
        return None
    return text


def _files(value: Any, sources: Sources, faults: Faults) -> tuple[tuple[str, str], ...]:
    """``{"name": "content"}`` or a list of paths."""
    if value is None:
        return ()
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return tuple(sorted(value.items()))
    if isinstance(value, list) and all(isinstance(path, str) for path in value):
        texts = [(Path(path).name, sources.text(path, "files")) for path in value]
        return tuple((name, text) for name, text in texts if text is not None)
    faults.add("files", f"is {json_type(value)}", 'write {"name": "content"} or a list of paths')
    return ()


def _module(
    row: dict[str, Any], entry_point: str | None, testbench: str | None, reference: str | None, faults: Faults
) -> str | None:
    module = row.get("module") or entry_point
    if module is None and testbench is not None and reference is not None:
        return module_of(testbench, reference, faults, bench_field="testbench", reference_field="reference")
    if module is None and reference is not None:
        module = modules_in(reference)[-1]
    if not isinstance(module, str):
        faults.add("module", "is missing", "name the module that a design has to define")
        return None
    if reference is not None and module not in (defined := modules_in(reference)):
        faults.add("module", f"{module!r} is not in the reference", f"it defines {', '.join(defined)}")
    if testbench is not None and module not in (wanted := instantiated_in(testbench)):
        others = ", ".join(sorted(wanted - set(modules_in(testbench)))) or "nothing"
        faults.add("module", f"{module!r} is not in the test bench", f"it instantiates {others}")
    return module


def _tests(row: dict[str, Any], testbench: str | None, faults: Faults) -> tuple[BenchTest, ...]:
    rows, cases = row.get("tests"), row.get("cases")
    if rows is None and cases is not None:
        if isinstance(cases, bool) or not isinstance(cases, int) or not 0 < cases <= MAX_CASES:
            faults.add("cases", f"is {cases!r}", "give the number of test cases that the bench tells of")
            return ()
        return case_tests(cases)
    if rows is None:
        return case_tests(1) if testbench is not None else sample_tests(SAMPLE_GROUPS)
    if not isinstance(rows, list) or not rows:
        faults.add("tests", "is no list of tests", 'leave it out, or write [{"output": "q"}] or "cases": 8')
        return ()
    tests = []
    for position, test in enumerate(rows):
        if not isinstance(test, dict) or len(test) != 1 or next(iter(test)) not in KINDS:
            wrong = next(iter(test), "") if isinstance(test, dict) else json_type(test)
            faults.add(f"tests[{position}]", f"{wrong!r} is not a Verilog test", did_you_mean(str(wrong), KINDS))
            continue
        kind, name = next(iter(test.items()))
        tests.append(BenchTest(kind, str(name)))
    if len({test.kind for test in tests}) > 1:
        faults.add("tests", "mixes outputs, cases and samples", "keep to one kind in a problem")
    return tuple(tests)


def case_tests(count: int) -> tuple[BenchTest, ...]:
    return tuple(BenchTest("case", str(number)) for number in range(1, count + 1))


def sample_tests(count: int) -> tuple[BenchTest, ...]:
    return tuple(BenchTest("samples", str(number)) for number in range(1, count + 1))


def output_tests(reference: str, module: str) -> tuple[BenchTest, ...]:
    return tuple(BenchTest("output", name) for name in output_names(reference, module))

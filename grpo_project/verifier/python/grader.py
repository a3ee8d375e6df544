"""A problem's tests, made ready once and held against one candidate after the other, outside of the cage."""

from __future__ import annotations

import hashlib
import random
import types
from collections.abc import Callable, Sequence
from typing import Any

from grpo_project.verifier.cage.cage import Cage
from grpo_project.verifier.cage.launch import CageError
from grpo_project.verifier.cage.limits import Limits
from grpo_project.verifier.cage.session import Session, Stopped
from grpo_project.verifier.python.calls import Calls, Mispredicted, exception_of
from grpo_project.verifier.python.compare import Comparator
from grpo_project.verifier.python.dry_run import Call, Prefetch
from grpo_project.verifier.room import Result, Unusable

_TEXT = 200


def brief(value: Any) -> str:
    """A short text for people. ``value`` may be huge: only its head is written."""
    if type(value) is int and value.bit_length() > 4096:
        return f"<an integer of {value.bit_length()} bits>"
    if isinstance(value, str | bytes):
        return repr(value[:_TEXT])[:_TEXT]
    if isinstance(value, list | tuple) and len(value) > 50:
        return brief(value[:50])
    if isinstance(value, dict | set | frozenset) and len(value) > 50:
        return f"<{type(value).__name__} of {len(value)} items>"
    try:
        return repr(value)[:_TEXT]
    except (ValueError, RecursionError, MemoryError):  # an integer of too many digits inside, or too deep
        return f"<{type(value).__name__}>"


def brief_call(name: str, args: tuple, kwargs: dict) -> str:
    shown = [brief(value) for value in args] + [f"{key}={brief(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(shown)})"[:_TEXT]


class Grader:
    """What the kinds of tests share: one session with the candidate, and how its end counts."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.entry_point: str | None = spec["entry_point"]
        self.tests: list[tuple] = spec["tests"]
        self.limits = Limits(**spec["limits"])
        self.comparison = Comparator(*spec["comparison"])
        self.weak_tests = [False] * len(self.tests)
        """Which tests leave it to the program's own objects whether they are right."""
        self.imports_numpy = False
        """Some test needs numpy: the program has to have it, too."""
        self._prefetch = Prefetch(())
        """Calls that will be made in any case, sent together with the program."""
        self._final = False
        """They are all that will be asked, as far as is known, and no object has to be held."""
        self._changes = False
        """Some test looks at what a function has made of its argument."""
        self._stop_early: bool = spec["stop_early"]

    def grade(self, cage: Cage, program: str, seed: bytes) -> tuple[list[Result], float]:
        """Every test's result and the CPU seconds used. Raises ``CageError`` when our side failed.

        ``seed`` decides what would else be chance: the same seed, the same verdict. No program can know it beforehand.
        """
        everything = range(len(self.tests))
        results, calls, cpu_s = self._grade_staying(cage, program, seed, self._prefetch, everything, final=self._final)
        passed = [index for index in everything if results[index].status == "passed"]
        asked = calls.asked
        if not calls.pure and passed and (len(asked) > 1 or (len(passed) > 1 and not calls.final)):
            # It may have counted the calls, or remembered them: what it passed has to pass in another order as well.
            shuffled = Prefetch(another_order(asked, seed) if len(asked) > 1 else asked, again=True)
            again, _, more_cpu_s = self._grade_staying(cage, program, seed, shuffled, passed[::-1], final=calls.final)
            cpu_s += more_cpu_s
            for index in passed:
                if again[index].status != "passed":
                    results[index] = again[index]
                    results[index].message = f"depends on the order of the calls. {again[index].message}".rstrip()
        for result, weak in zip(results, self.weak_tests, strict=True):
            result.weak = weak
        return results, cpu_s

    def _grade_staying(
        self, cage: Cage, program: str, seed: bytes, prefetch: Prefetch, tests: Sequence[int], *, final: bool
    ) -> tuple[list[Result], Calls, float]:
        """``_grade_once``, and once more, with the program staying, where its tests ask for more than was foreseen."""
        results, calls, cpu_s = self._grade_once(cage, program, seed, prefetch, tests, final=final)
        if not calls.mispredicted:
            return results, calls, cpu_s
        prefetch = Prefetch(()) if prefetch is self._prefetch else prefetch
        results, calls, more_cpu_s = self._grade_once(cage, program, seed, prefetch, tests, final=False)
        return results, calls, cpu_s + more_cpu_s

    def _grade_once(
        self, cage: Cage, program: str, seed: bytes, prefetch: Prefetch, tests: Sequence[int], *, final: bool
    ) -> tuple[list[Result], Calls, float]:
        """Run the program in a process of its own and grade these tests, in this order; the others' results mean
        nothing."""
        order = {
            "mode": "calls",
            "program": program,
            "seed": candidate_seed(seed),
            "calls": prefetch.blob,
            "final": final,
            "defines": self.entry_point,
        }
        order["changes"] = self._changes
        spans: dict[int, tuple[int, int]] = {}
        with Session(cage, self.limits, order, final=final) as session:
            calls = Calls(session, prefetch, final=final)
            with calls.watchdog:
                results = self._loaded(calls) or self.each(tests, lambda index: self._timed(index, calls, spans))
        shares = session.cpu_of_records()
        for index, (first, last) in spans.items():
            results[index].cpu_s = sum(shares[first:last])
        return results, calls, session.cpu_s

    def each(self, tests: Sequence[int], result_of_test: Callable[[int], Result]) -> list[Result]:
        """A result for every test, of these only by grading; after a failure, if so asked, of none."""
        results = [Result("failed", "not run: an earlier test did not pass") for _ in self.tests]
        for index in tests:
            results[index] = result_of_test(index)
            if self._stop_early and results[index].status != "passed":
                break
        return results

    def grade_test(self, index: int, calls: Calls) -> Result:
        """One test. May raise ``Stopped``."""
        raise NotImplementedError

    def _loaded(self, calls: Calls) -> list[Result] | None:
        """``None`` when the program is loaded and defines the entry point, else every test's result."""
        try:
            record = calls.load(self.limits.load_cpu_s)
        except Stopped as stopped:
            return self._all(stopped.status, stopped.message)
        match record:
            case ["loaded", True]:
                return None
            case ["loaded", False]:
                return self._all("wrong_format", f"the program does not define {self.entry_point}")
            case ["raised", list() as names, str() as text, int() as line, *_]:
                error = exception_of(names, text, line)
                status = "syntax_error" if isinstance(error, SyntaxError) else status_of(error)
                return self._all(status, f"loading the program: {told(error)}")
        return self._all("error", "the answer can't be read")

    def _all(self, status: str, message: str) -> list[Result]:
        return [Result(status, message) for _ in self.tests]

    def _timed(self, index: int, calls: Calls, spans: dict[int, tuple[int, int]]) -> Result:
        """The test's result; in ``spans``, which records it waited for."""
        first = calls.records
        calls.begin_test(weak=self.weak_tests[index])
        try:
            result = self.grade_test(index, calls)
        except Stopped as stopped:
            result = Result(stopped.status, stopped.message)
        except Mispredicted:
            result = Result("failed")  # all of it is done again
        except CageError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: whatever a hostile answer has brought about is a result
            result = Result("error", f"the answer can't be judged ({type(error).__name__})")
        if calls.fault is not None:
            raise calls.fault
        spans[index] = (first, calls.records)
        return result


class CallGrader(Grader):
    """Call the entry point; compare what it returns, or ask the problem's checker."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        if self.entry_point is None:
            raise Unusable("tests with args need an entry_point")
        self._calls: list[Call] = [(self.entry_point, args, kwargs) for args, kwargs, _ in self.tests]
        self._prefetch, self._final = Prefetch(self._calls), True
        self._checker = compiled(spec["checker"], "the checker") if spec["checker"] else None

    def grade_test(self, index: int, calls: Calls) -> Result:
        call = self._calls[index]
        expected = self.tests[index][2]
        shown = {"input": brief_call(*call), "expected": brief(expected)}
        try:
            got = calls.call(*call)
        except Exception as error:  # noqa: BLE001 - what the candidate raised, as result_of tells it
            return Result(status_of(error), told(error), **shown)
        if self._accepts(call, got, expected):
            return Result("passed", "", **shown, got=brief(got))
        return Result("failed", "", **shown, got=brief(got))

    def _accepts(self, call: Call, got: Any, expected: Any) -> bool:
        try:
            if self._checker is None:
                return self.comparison.equal(expected, got)
            namespace: dict[str, Any] = {"__name__": "checker"}
            exec(self._checker, namespace)
            return bool(namespace["check"](call[1], call[2], got, expected))
        except BaseException:  # noqa: BLE001 - a value that can't be compared (a signalling NaN) or checked is not right
            return False


def candidate_seed(seed: bytes) -> bytes:
    """What a candidate's own randomness begins with. It tells nothing of ``seed``, so nothing of the second order."""
    return hashlib.blake2b(seed, digest_size=32, person=b"candidate").digest()


def another_order(calls: list[Call], seed: bytes) -> list[Call]:
    """The same calls, shuffled so that the program can't foresee it; never in the order that they had."""
    positions = list(range(len(calls)))
    generator = random.Random(seed)
    while positions == sorted(positions):
        generator.shuffle(positions)
    return [calls[position] for position in positions]


def status_of(error: BaseException) -> str:
    return "memory" if isinstance(error, MemoryError) else "error"


def told(error: BaseException) -> str:
    return str(getattr(error, "told", error))[:500]


def brief_text(error: BaseException) -> str:
    try:
        return str(error)[:_TEXT]
    except ValueError:  # its text holds an integer of too many digits
        return type(error).__name__


def brief_source(source: str) -> str:
    return " ".join(source.split())[:_TEXT]


def compiled(source: str, what: str) -> types.CodeType:
    """Raises ``Unusable`` where the problem's own code is no Python."""
    try:
        return compile(source, f"<{what}>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise Unusable(f"{what} does not compile: {error}") from None

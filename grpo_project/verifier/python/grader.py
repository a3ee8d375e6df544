"""A problem's tests, made ready once and held against one candidate after the other, outside of the cage."""

from __future__ import annotations

import ast
import builtins
import hashlib
import math
import random
import types
from collections.abc import Callable, Sequence
from typing import Any

from grpo_project.verifier.cage.cage import Cage, CageError
from grpo_project.verifier.cage.candidate import EVALUATE, EXECUTE
from grpo_project.verifier.cage.limits import Limits
from grpo_project.verifier.cage.session import Session, Stopped
from grpo_project.verifier.python.asserts import Step, looks_at_arguments, needs_objects, steps_of
from grpo_project.verifier.python.compare import Comparator
from grpo_project.verifier.python.dry_run import Call, Prefetch, Stub, dry_run
from grpo_project.verifier.python.remote import Calls, Mispredicted, Remote, Watchdog, exception_of, result_of
from grpo_project.verifier.room import Result, Unusable

_TEXT = 200
_CANDIDATE = "<candidate>"


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
        self.weak = False
        self._prefetch = Prefetch(())
        """Calls that will be made in any case, sent together with the program."""
        self._final = False
        """It has all that will be asked, as far as is known."""
        self._apart = False
        """Tests make objects of their own, which are not known to be the same from one test to the next."""
        self._changes = False
        """Some test looks at what a function has made of its argument."""
        self._stop_early: bool = spec["stop_early"]

    def grade(self, cage: Cage, program: str, seed: bytes) -> tuple[list[Result], float]:
        """Every test's result and the CPU seconds used. Raises ``CageError`` when our side failed.

        ``seed`` decides what would else be chance: the same seed, the same verdict. No program can know it beforehand.
        """
        order = range(len(self.tests))
        results, calls, cpu_s = self._grade_once(cage, program, seed, self._prefetch, order, final=self._final)
        if calls.mispredicted:
            self._prefetch, self._final = Prefetch(()), False  # from here on, and for this program once more
            results, calls, more_cpu_s = self._grade_once(cage, program, seed, self._prefetch, order, final=False)
            cpu_s += more_cpu_s
        passed = [index for index in order if results[index].status == "passed"]
        if calls.stateless or not passed:
            return results, cpu_s
        answered = calls.answered
        if len(answered) < 2 and (len(passed) < 2 or not self._apart):
            return results, cpu_s
        # It may have counted the calls, or remembered them: what it passed has to pass in another order as well.
        shuffled = Prefetch(another_order(answered, seed) if len(answered) > 1 else answered)
        again, _, more_cpu_s = self._grade_once(
            cage, program, seed, shuffled, passed[::-1], final=self._prefetch.certain
        )
        for index in passed:
            if again[index].status != "passed":
                results[index] = again[index]
                results[index].message = f"depends on the order of the calls. {again[index].message}".rstrip()
        return results, cpu_s + more_cpu_s

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
            case ["raised", list() as names, str() as text, int() as line]:
                error = exception_of(names, text, line)
                return self._all(status_of(error), f"loading the program: {told(error)}")
        return self._all("error", "the answer can't be read")

    def _all(self, status: str, message: str) -> list[Result]:
        return [Result(status, message) for _ in self.tests]

    def _timed(self, index: int, calls: Calls, spans: dict[int, tuple[int, int]]) -> Result:
        """The test's result; in ``spans``, which records it waited for."""
        first = calls.records
        calls.begin_test()
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
            got = result_of(calls.answer(*call))
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


class SourceGrader(Grader):
    """Test code of the problem's own, run outside of the cage with the candidate's functions as remote calls."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self._codes = [compiled(source, f"test {number}") for number, (source,) in enumerate(self.tests, 1)]
        self._given = definitions(spec["scaffold"], self.entry_point)
        self._names = [names_of(code) for code in self._codes]
        self._steps = [self._split(source, frozenset(spec["classes"])) for (source,) in self.tests]
        self.weak = any(step.weak for steps in self._steps if steps for step in steps)
        self._changes = any(looks_at_arguments(ast.parse(source)) for (source,) in self.tests)
        self._apart = any(steps is not None for steps in self._steps)
        found: list[Call] = []
        self._final = all([self._dry_run(index, found) for index in range(len(self.tests))])
        self._prefetch = Prefetch(found, certain=False)

    def _dry_run(self, index: int, found: list[Call]) -> bool:
        """Add the calls that a test will make; ``False`` where they can't all be known."""
        if self._steps[index] is not None:
            return False

        def run(code: types.CodeType) -> None:
            namespace = self._namespace(index, lambda name: Stub(name, found))
            random.seed(0)
            self._run(code, namespace)

        with Watchdog():
            return dry_run(self.tests[index][0], run)

    def _split(self, source: str, classes: frozenset[str]) -> list[Step] | None:
        """The test's steps where it holds objects of the candidate's, else ``None``: it runs outside as it stands."""
        tree = ast.parse(source)
        given = defined_in(tree) | (set() if self._given is None else set(self._given.co_names))
        if not needs_objects(tree, classes, frozenset(given - {self.entry_point})):
            return None
        return steps_of(tree)

    def grade_test(self, index: int, calls: Calls) -> Result:
        shown = brief_source(self.tests[index][0])
        namespace = self._namespace(index, lambda name: Remote(calls, name, changes=self._changes))
        random.seed(0)
        try:
            if self._steps[index] is None:
                self._run(self._codes[index], namespace)
            for position, step in enumerate(self._steps[index] or ()):
                self._take_step(index, position, step, calls)
        except (Stopped, Mispredicted):
            raise
        except SystemExit as stop:  # the test's own, ``unittest.main()`` say: a candidate's arrives as ``Raised``
            if stop.code not in (None, 0) or not calls.asked:
                return Result("failed", f"the test exited with {brief(stop.code)}", input=shown)
        except BaseException as error:  # noqa: BLE001 - raised by the candidate, or by the test over what it returned
            if hasattr(error, "told"):
                return Result(status_of(error), told(error), input=shown)
            if isinstance(error, AssertionError):
                return Result("failed", brief_text(error), input=shown)
            return Result("failed", f"the test raised {type(error).__name__}: {brief_text(error)}", input=shown)
        if calls.stopped is not None and not calls.complete:
            raise calls.stopped  # test code that catches everything must not turn an end into a pass
        return Result("passed", input=shown)

    def _run(self, code: types.CodeType, namespace: dict[str, Any]) -> None:
        exec(code, namespace)

    def _take_step(self, index: int, position: int, step: Step, calls: Calls) -> None:
        kind = EVALUATE if step.outside else EXECUTE
        inside = Remote(calls, kind)
        values = [inside(index, (position, number), source) for number, source in enumerate(step.inside)]
        if step.outside:
            scope = {"math": math} | {f"_value_{number}": value for number, value in enumerate(values)}
            assert eval(step.outside, scope), step.outside

    def _namespace(self, index: int, function: Callable[[str], Callable]) -> dict[str, Any]:
        """What a test's code sees; ``function`` makes one of the candidate's."""
        namespace: dict[str, Any] = {"__name__": "test"}
        if self._given is not None and not self._names[index].isdisjoint(self._given.co_names):
            try:
                exec(self._given, namespace)
            except BaseException as error:  # noqa: BLE001 - the data set's own code, at fault whatever it raises
                raise Unusable(f"the starter code can't be run outside of the cage: {error!r}") from None
        for name in self._names[index]:
            if name == self.entry_point or (name not in namespace and not hasattr(builtins, name)):
                namespace[name] = function(name)
        return namespace


class CheckGrader(SourceGrader):
    """HumanEval's form: the source defines ``check(candidate)``, which is called with the remote entry point."""

    def __init__(self, spec: dict[str, Any]) -> None:
        if spec["entry_point"] is None:
            raise Unusable("a check function needs an entry_point")
        super().__init__(spec)

    def _namespace(self, index: int, function: Callable[[str], Callable]) -> dict[str, Any]:
        assert self.entry_point is not None
        return super()._namespace(index, function) | {_CANDIDATE: function(self.entry_point)}

    def _run(self, code: types.CodeType, namespace: dict[str, Any]) -> None:
        candidate = namespace.pop(_CANDIDATE)
        exec(code, namespace)
        namespace["check"](candidate)


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


def definitions(scaffold: str | None, entry_point: str | None) -> types.CodeType | None:
    """The dataset's own helpers and imports, which its tests may use: the starter code less the entry point."""
    if not scaffold:
        return None
    for text in (scaffold, scaffold.rstrip() + "\n    pass\n"):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        tree.body = [node for node in tree.body if getattr(node, "name", None) != entry_point]
        return compile(tree, "<starter code>", "exec", dont_inherit=True)
    return None


def defined_in(tree: ast.Module) -> set[str]:
    """Names that the test itself binds: variables, functions, imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def names_of(code: types.CodeType) -> set[str]:
    """Every name that the code or a function in it looks up."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= names_of(constant)
    return names

"""A problem's tests, made ready once and held against one candidate after the other, outside of the cage."""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import math
import random
import types
from collections.abc import Callable, Iterator
from typing import Any

from grpo_project.verifier.asserts import Step, needs_objects, steps_of
from grpo_project.verifier.cage import Cage
from grpo_project.verifier.candidate import EVALUATE, EXECUTE
from grpo_project.verifier.compare import Comparison
from grpo_project.verifier.remote import Call, Calls, Remote, exception_of, result_of
from grpo_project.verifier.session import Limits, Session, Stopped

_TEXT = 200


class Unusable(Exception):
    """The problem's own tests can't be run, whatever the candidate."""


class Result:
    """One test's outcome; the fields of ``verdict.TestResult``."""

    __slots__ = ("cpu_s", "expected", "got", "input", "message", "status")

    def __init__(self, status: str, message: str = "", input: str = "", expected: str = "", got: str = "") -> None:
        self.status = status
        self.message = message[:500]
        self.input = input
        self.expected = expected
        self.got = got
        self.cpu_s = 0.0

    def fields(self) -> tuple:
        return (self.status, self.message, self.input, self.expected, self.got, self.cpu_s)


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


class Exam:
    """What the kinds of tests share: one session with the candidate, and how its end counts."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.entry_point: str | None = spec["entry_point"]
        self.tests: list[tuple] = spec["tests"]
        self.limits = Limits(**spec["limits"])
        self.comparison = Comparison(*spec["comparison"])
        self.weak = False
        self._stop_early: bool = spec["stop_early"]

    def hold(self, cage: Cage, program: str) -> tuple[list[Result], float]:
        """Every test's result and the CPU seconds used. Raises ``CageError`` when our side failed."""
        results, calls, cpu_s = self._sit(cage, program, self._ahead, set(range(len(self.tests))))
        passed = {index for index, result in enumerate(results) if result.status == "passed"}
        answered = calls.answered
        if calls.stateless or len(answered) < 2 or not passed:
            return results, cpu_s
        # It may have counted the calls, or remembered them: what it passed has to pass in another order as well.
        again, _, more_cpu_s = self._sit(cage, program, another_order(answered), passed)
        for index in passed:
            if again[index].status != "passed":
                results[index] = again[index]
                results[index].message = f"depends on the order of the calls. {again[index].message}".rstrip()
        return results, cpu_s + more_cpu_s

    def _sit(self, cage: Cage, program: str, ahead: list[Call], chosen: set[int]) -> tuple[list[Result], Calls, float]:
        """Run the program in a process of its own and grade the chosen tests; the others' results mean nothing."""
        with Session(cage, self.limits) as session:
            calls = Calls(session, program, ahead)
            with calls.clock:
                results = self._loaded(calls) or self.each(
                    lambda index: self._timed(index, calls) if index in chosen else Result("failed")
                )
        return results, calls, session.cpu_s

    def each(self, result_of_test: Callable[[int], Result]) -> list[Result]:
        """One result for each test; after a failure, if so asked, only its place is filled."""
        results: list[Result] = []
        for index in range(len(self.tests)):
            if self._stop_early and results and results[-1].status != "passed":
                results.append(Result("failed", "not run: an earlier test did not pass"))
            else:
                results.append(result_of_test(index))
        return results

    @functools.cached_property
    def _ahead(self) -> list[Call]:
        return self.ahead()

    def ahead(self) -> list[Call]:
        """Calls that will be made in any case, sent together with the program."""
        return []

    def grade(self, index: int, calls: Calls) -> Result:
        """One test. May raise ``Stopped``."""
        raise NotImplementedError

    def _loaded(self, calls: Calls) -> list[Result] | None:
        """``None`` when the program is loaded and defines the entry point, else every test's result."""
        try:
            record = calls.load(self.limits.load_cpu_s)
        except Stopped as stopped:
            return self._all(stopped.status, stopped.message)
        match record:
            case ["loaded", list() as names]:
                if self.entry_point is None or self.entry_point in names:
                    return None
                return self._all("wrong_format", f"the program does not define {self.entry_point}")
            case ["raised", list() as names, str() as text, int() as line]:
                error = exception_of(names, text, line)
                return self._all(status_of(error), f"loading the program: {told(error)}")
        return self._all("error", "the answer can't be read")

    def _all(self, status: str, message: str) -> list[Result]:
        return [Result(status, message) for _ in self.tests]

    def _timed(self, index: int, calls: Calls) -> Result:
        before = sum(calls.cpu_s.values())
        calls.begin_test()
        try:
            result = self.grade(index, calls)
        except Stopped as stopped:
            result = Result(stopped.status, stopped.message)
        result.cpu_s = sum(calls.cpu_s.values()) - before
        return result


class CallExam(Exam):
    """Call the entry point; compare what it returns, or ask the problem's checker."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        if self.entry_point is None:
            raise Unusable("tests with args need an entry_point")
        self._calls: list[Call] = [(self.entry_point, args, kwargs) for args, kwargs, _ in self.tests]
        self._checker = compiled(spec["checker"], "the checker") if spec["checker"] else None

    def ahead(self) -> list[Call]:
        return self._calls

    def grade(self, index: int, calls: Calls) -> Result:
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
        except Exception:  # noqa: BLE001 - a value that can't be compared (a signalling NaN) or checked is no right one
            return False


class SourceExam(Exam):
    """Test code of the problem's own, run outside of the cage with the candidate's functions as remote calls."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self._codes = [compiled(source, f"test {number}") for number, (source,) in enumerate(self.tests, 1)]
        self._given = definitions(spec["scaffold"], self.entry_point)
        self._names = [names_of(code) for code in self._codes]
        self._steps = [self._split(source, frozenset(spec["classes"])) for (source,) in self.tests]
        self.weak = any(step.weak for steps in self._steps if steps for step in steps)

    def _split(self, source: str, classes: frozenset[str]) -> list[Step] | None:
        """The test's steps where it holds objects of the candidate's, else ``None``: it runs outside as it stands."""
        tree = ast.parse(source)
        given = defined_in(tree) | (set() if self._given is None else set(self._given.co_names))
        if not needs_objects(tree, classes, frozenset(given - {self.entry_point})):
            return None
        return steps_of(tree)

    def ahead(self) -> list[Call]:
        names = {self.entry_point} if self.entry_point else set()
        whole = [source for (source,), steps in zip(self.tests, self._steps, strict=True) if steps is None]
        return [call for source in whole for call in literal_calls(source, names)]

    def grade(self, index: int, calls: Calls) -> Result:
        shown = brief_source(self.tests[index][0])
        namespace = self._namespace(index, calls)
        random.seed(0)
        try:
            self._execute(index, namespace, calls)
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - raised by the candidate, or by the test over what it returned
            if hasattr(error, "told"):
                return Result(status_of(error), told(error), input=shown)
            if isinstance(error, AssertionError):
                return Result("failed", brief_text(error), input=shown)
            return Result("failed", f"the test raised {type(error).__name__}: {brief_text(error)}", input=shown)
        if calls.stopped is not None and not calls.complete:
            raise calls.stopped  # test code that catches everything must not turn an end into a pass
        return Result("passed", input=shown)

    def _execute(self, index: int, namespace: dict[str, Any], calls: Calls) -> None:
        steps = self._steps[index]
        if steps is None:
            exec(self._codes[index], namespace)
            return
        for position, step in enumerate(steps):
            self._take_step(index, position, step, calls)

    def _take_step(self, index: int, position: int, step: Step, calls: Calls) -> None:
        kind = EVALUATE if step.outside else EXECUTE
        inside = Remote(calls, kind)
        values = [inside(index, (position, number), source) for number, source in enumerate(step.inside)]
        if step.outside:
            scope = {"math": math} | {f"_value_{number}": value for number, value in enumerate(values)}
            assert eval(step.outside, scope), step.outside

    def _namespace(self, index: int, calls: Calls) -> dict[str, Any]:
        namespace: dict[str, Any] = {"__name__": "test"}
        if self._given is not None and not self._names[index].isdisjoint(self._given.co_names):
            try:
                exec(self._given, namespace)
            except Exception as error:  # noqa: BLE001 - the data set's own code, at fault whatever it raises
                raise Unusable(f"the starter code can't be run outside of the cage: {error!r}") from None
        for name in self._names[index]:
            if name == self.entry_point or (name not in namespace and not hasattr(builtins, name)):
                namespace[name] = Remote(calls, name)
        return namespace


class CheckExam(SourceExam):
    """HumanEval's form: the source defines ``check(candidate)``, which is called with the remote entry point."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        if self.entry_point is None:
            raise Unusable("a check function needs an entry_point")

    def ahead(self) -> list[Call]:
        assert self.entry_point is not None
        found = [call for (source,) in self.tests for call in check_calls(source)]
        return [(self.entry_point, args, kwargs) for _, args, kwargs in found]

    def _execute(self, index: int, namespace: dict[str, Any], calls: Calls) -> None:
        assert self.entry_point is not None
        super()._execute(index, namespace, calls)
        namespace["check"](Remote(calls, self.entry_point))


def another_order(calls: list[Call]) -> list[Call]:
    """The same calls, shuffled so that the program can't foresee it; never in the order that they had."""
    positions = list(range(len(calls)))
    while positions == sorted(positions):
        random.SystemRandom().shuffle(positions)
    return [calls[position] for position in positions]


def status_of(error: Exception) -> str:
    return "memory" if isinstance(error, MemoryError) else "error"


def told(error: Exception) -> str:
    return str(getattr(error, "told", error))[:500]


def brief_text(error: Exception) -> str:
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


def literal_calls(source: str, names: set[str]) -> Iterator[Call]:
    """Calls of these functions with literal arguments in the source's own statements, in order."""
    for statement in ast.parse(source).body:
        yield from _calls_in(statement, names)


def check_calls(source: str) -> Iterator[Call]:
    """The same for the straight-line part of ``check``, which runs in any case."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == "check" and node.args.args:
            names = {node.args.args[0].arg}
            for statement in node.body:
                yield from _calls_in(statement, names)


def _calls_in(statement: ast.stmt, names: set[str]) -> Iterator[Call]:
    if not isinstance(statement, ast.Assert | ast.Expr | ast.Assign):
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            with contextlib.suppress(ValueError, TypeError):  # an argument that is no literal: called when it comes up
                args = tuple(ast.literal_eval(argument) for argument in node.args)
                kwargs = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
                if len(kwargs) == len(node.keywords):
                    yield node.func.id, args, kwargs

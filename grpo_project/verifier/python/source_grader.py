"""Tests that are code: run outside of the cage, with what the program defines called, or held, from there."""

from __future__ import annotations

import ast
import contextlib
import io
import random
import types
import unittest
from collections.abc import Callable, Sequence
from typing import Any

from grpo_project.verifier.cage.session import Stopped
from grpo_project.verifier.python import analysis
from grpo_project.verifier.python.analysis import Facts
from grpo_project.verifier.python.arguments import InOut
from grpo_project.verifier.python.calls import Calls, Mispredicted, Watchdog
from grpo_project.verifier.python.dry_run import Call, Prefetch, Stub, dry_run
from grpo_project.verifier.python.grader import (
    Grader,
    brief,
    brief_source,
    brief_text,
    compiled,
    status_of,
    told,
)
from grpo_project.verifier.python.handles import is_callable, read
from grpo_project.verifier.python.held_objects import FILE_MODULE, TEST_MODULE, HeldObjects
from grpo_project.verifier.room import Result, Unusable

_CANDIDATE = "<candidate>"
_MODULE = "solution"
"""The name by which a test may import the program, besides the one that its data set uses."""


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


_NOWHERE = _Nowhere()


class SourceGrader(Grader):
    """``assert`` statements, with whatever stands around them."""

    module = TEST_MODULE
    """What ``__name__`` is."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self._given = definitions(spec["scaffold"], self.entry_point)
        self._imports: dict[str, str] = spec["imports"]
        classes = frozenset(spec["classes"]) if spec["classes_known"] or spec["classes"] else None
        self._facts: list[Facts] = []
        self._trees: list[ast.Module] = []
        self._codes: list[types.CodeType] = []
        for number, test in enumerate(self.tests, 1):
            self._prepare(f"test {number}", test[0], {_MODULE, *test[2:]}, classes)
        self.weak_tests = [facts.weak for facts in self._facts]
        self.imports_numpy |= any("numpy" in test[0] for test in self.tests)
        self._changes = any(facts.arguments for facts in self._facts)
        found: list[Call] = []
        self._final = all([self._dry_run(index, found) for index in range(len(self.tests))])
        self._prefetch = Prefetch(found if self._final else ())

    def _prepare(self, name: str, source: str, modules: set[str], classes: frozenset[str] | None) -> None:
        compiled(source, name)
        tree = analysis.without_import(ast.parse(source), modules)
        given = frozenset() if self._given is None else frozenset(self._given.co_names)
        given = (given | self._imports.keys()) - {self.entry_point}
        facts = analysis.facts_of(tree, classes, given, self.entry_point)
        if facts.inexpressible:
            raise Unusable(f"{name}: {facts.inexpressible}")
        if (missing := analysis.missing_module(tree)) is not None:
            raise Unusable(f"{name}: it imports {missing}, which is not installed here")
        self._facts.append(facts)
        self._trees.append(analysis.instrumented(tree, facts))
        self._codes.append(compile(self._trees[-1], f"<{name}>", "exec", dont_inherit=True))

    def _dry_run(self, index: int, found: list[Call]) -> bool:
        """Add the calls that a test will make; ``False`` where they can't all be known."""

        def run(code: types.CodeType) -> None:
            namespace = self._namespace(index, lambda name: Stub(name, found, checked))
            random.seed(0)
            self._run(index, code, namespace)

        faults: list[str] = []

        def checked(args: tuple, kwargs: dict) -> None:
            try:
                HeldObjects(_nothing, _nothing).dumps((args, kwargs))
            except TypeError as error:
                faults.append(str(error))

        with Watchdog(), contextlib.redirect_stderr(_NOWHERE):
            whole = dry_run(self._trees[index], run)
        if faults:
            raise Unusable(f"test {index + 1}: {faults[0]}")
        return whole and not self._facts[index].holds_objects

    def grade_test(self, index: int, calls: Calls) -> Result:
        shown = brief_source(self.tests[index][0])
        try:
            with contextlib.redirect_stderr(_NOWHERE):  # where a runner of the test's writes its report
                namespace = self._namespace(index, calls.function)
                random.seed(0)
                self._run(index, self._codes[index], namespace)
        except (Stopped, Mispredicted, Unusable):
            raise
        except SystemExit as stop:  # the test's own, ``unittest.main()`` say: a candidate's arrives as ``Raised``
            if stop.code not in (None, 0) or not calls.used:
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

    def _run(self, index: int, code: types.CodeType, namespace: dict[str, Any]) -> None:
        exec(code, namespace)

    def _namespace(self, index: int, function: Callable[[str], Any]) -> dict[str, Any]:
        """What a test's code sees; ``function`` makes what the program has under a name."""
        names = self._facts[index].names
        namespace: dict[str, Any] = {"__name__": self.module, analysis.IN_OUT: InOut, analysis.READ: read}
        namespace["callable"], namespace[analysis.MAIN] = is_callable, _main_of(namespace)
        mentioned = names_of(self._codes[index])
        if self._given is not None and not mentioned.isdisjoint(self._given.co_names):
            self._execute(self._given, "the starter code", namespace)
        for name in mentioned & self._imports.keys() - namespace.keys():
            self._execute(self._imports[name], "an import of the solution's that a test needs", namespace)
        for name in names | ({str(self.entry_point)} & mentioned):
            if name == self.entry_point or name not in namespace:
                with contextlib.suppress(NameError):  # told where the test uses it
                    namespace[name] = function(name)
        return namespace

    def _execute(self, code: types.CodeType | str, what: str, namespace: dict[str, Any]) -> None:
        try:
            exec(code, namespace)
        except BaseException as error:  # noqa: BLE001 - the data set's own code, at fault whatever it raises
            raise Unusable(f"{what} can't be run outside of the cage: {error!r}") from None


class CheckGrader(SourceGrader):
    """HumanEval's form: the source defines ``check(candidate)``, which is called with the program's entry point."""

    def __init__(self, spec: dict[str, Any]) -> None:
        if spec["entry_point"] is None:
            raise Unusable("a check function needs an entry_point")
        super().__init__(spec)

    def _namespace(self, index: int, function: Callable[[str], Any]) -> dict[str, Any]:
        assert self.entry_point is not None
        return super()._namespace(index, function) | {_CANDIDATE: function(self.entry_point)}

    def _run(self, index: int, code: types.CodeType, namespace: dict[str, Any]) -> None:
        candidate = namespace.pop(_CANDIDATE)
        exec(code, namespace)
        namespace["check"](candidate)


class CaseGrader(SourceGrader):
    """A test file's cases: methods of ``unittest.TestCase`` classes (``Class.test_it``), or functions (``test_it``)."""

    module = FILE_MODULE

    def _run(self, index: int, code: types.CodeType, namespace: dict[str, Any]) -> None:
        exec(code, namespace)
        name, _, case = self.tests[index][1].rpartition(".")
        if not name:
            namespace[case]()
            return
        _run_cases([namespace[name](case)])


def _run_cases(cases: Sequence[unittest.TestCase]) -> None:
    outcome = _Outcome()
    unittest.TestSuite(cases).run(outcome)
    if outcome.error is not None:
        raise outcome.error
    assert outcome.testsRun == len(cases) > 0, "the cases did not run"


def _main_of(namespace: dict[str, Any]) -> Callable[..., None]:
    """In place of ``unittest.main``, which would look for the cases in this process's own main module."""

    def main(*_args: Any, **_options: Any) -> None:
        loader = unittest.defaultTestLoader
        kinds = [kind for kind in namespace.values() if isinstance(kind, type) and issubclass(kind, unittest.TestCase)]
        _run_cases([kind(name) for kind in kinds for name in loader.getTestCaseNames(kind)])

    return main


class _Outcome(unittest.TestResult):
    """Keeps what a case raised. A skipped case is no evidence."""

    error: BaseException | None = None

    def _keep(self, error: BaseException) -> None:
        self.error = self.error or error

    def addError(self, _test: Any, err: Any) -> None:
        self._keep(err[1])

    def addFailure(self, _test: Any, err: Any) -> None:
        self._keep(err[1])

    def addSubTest(self, _test: Any, _subtest: Any, err: Any) -> None:
        if err is not None:
            self._keep(err[1])

    def addSkip(self, _test: Any, reason: str) -> None:
        self._keep(AssertionError(f"skipped: {reason}"))

    def addUnexpectedSuccess(self, _test: Any) -> None:
        self._keep(AssertionError("passed, where it was expected to fail"))


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """In place of the cage, where none is asked."""


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


def names_of(code: types.CodeType) -> set[str]:
    """Every name that the code or a function in it looks up."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= names_of(constant)
    return names

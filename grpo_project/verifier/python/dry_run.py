"""Which calls a test will make, found before there is a candidate, so that all of them can be sent ahead.

A test's own code runs once with stubs for the candidate's functions: they write down their arguments and return a
value that nothing can be learned from. What holds in a test that passes is taken to hold: an ``assert`` is not judged,
only its calls are made. A test whose course hangs on a returned value ends the search there. No value of any
candidate's, nor an expected one that the test does not pass itself, gets into the prefetch.

The prefetch is a guess as to what a test goes on to ask for (``certain`` tells): where it fails, calls are made one by
one.
"""

from __future__ import annotations

import ast
import marshal
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

Call = tuple[str, tuple, dict]
"""A function's name, arguments and keyword arguments."""
_CALLS = 2000
_CPU_S = 1.0


class Prefetch:
    """Calls to be made in any case, each once, ready to be sent."""

    __slots__ = ("blob", "calls", "certain")

    def __init__(self, calls: Iterable[Call], *, certain: bool = True) -> None:
        self.calls: dict[bytes, Call] = {}
        for call in calls:
            self.calls.setdefault(call_key(*call), call)
        self.blob = blob_of(self.calls.values())
        self.certain = certain


def call_key(name: str, args: tuple, kwargs: dict) -> bytes:
    """The same for the same call. Raises ``ValueError`` for arguments that are no built-in values."""
    return marshal.dumps((name, args, kwargs), 2)  # version 2 has no back references: equal values, equal bytes


def blob_of(calls: Iterable[Call]) -> bytes:
    """Calls as a candidate takes them. Without back references: arguments that are one object here are two there."""
    return marshal.dumps(list(calls), 2)


class Undecided(Exception):
    """What comes next hangs on what a candidate returns: the search ends, but for within an ``assert``."""


class TooLong(BaseException):
    """The search ends: the test makes too many calls, or takes too much time."""


class Unknown:
    """What a stub returns: data can be made of it, no decision."""

    def _unknown(self, *_args: Any, **_kwargs: Any) -> Unknown:
        return self

    def _no_decision(self, *_: Any) -> NoReturn:
        raise Undecided

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _unknown  # type: ignore[assignment]
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _unknown
    __neg__ = __abs__ = __round__ = _unknown
    __getitem__ = _unknown
    __bool__ = __len__ = __iter__ = __contains__ = __index__ = __int__ = __float__ = __hash__ = _no_decision
    __str__ = __repr__ = __format__ = _no_decision


class Stub:
    """In place of one of the candidate's functions."""

    def __init__(self, name: str, found: list[Call]) -> None:
        self.__name__ = name
        self._found = found

    def __call__(self, *args: Any, **kwargs: Any) -> Unknown:
        if len(self._found) == _CALLS:
            raise TooLong
        try:
            # A copy: the test may change the arguments afterwards.
            self._found.append(marshal.loads(call_key(self.__name__, args, kwargs)))
        except ValueError:
            raise Undecided from None  # made of what a candidate returned, or no plain value
        return Unknown()


def dry_run(source: str, run: Callable[[Any], None]) -> bool:
    """Find a test's calls: ``run`` executes the code that it is given, with stubs for the candidate's functions.

    ``False`` where the search ended before the test did.
    """
    tree = ast.fix_missing_locations(_Unjudged().visit(ast.parse(source)))
    code = compile(tree, "<test>", "exec", dont_inherit=True)
    previous = signal.signal(signal.SIGVTALRM, _give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, _CPU_S)
    try:
        run(code)
    except BaseException:  # noqa: BLE001 - the test's own code, not written for an unknown value; it may even exit
        return False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
    return True


def _give_up(*_: Any) -> NoReturn:
    raise TooLong


class _Unjudged(ast.NodeTransformer):
    """Keeps the calls of an ``assert`` and leaves out what it claims."""

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        return [_tried(value) for value in _operands(node.test)]

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return _tried(node.value)


def _tried(value: ast.expr) -> ast.stmt:
    handler = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [ast.Pass()])
    return ast.Try([ast.Expr(value)], [handler], [], [])


def _operands(node: ast.expr) -> Iterator[ast.expr]:
    """The parts of a condition that are evaluated in any case where it holds."""
    match node:
        case ast.BoolOp(ast.And(), values):
            for value in values:
                yield from _operands(value)
        case ast.BoolOp(ast.Or(), values):
            yield from _operands(values[0])
        case ast.UnaryOp(ast.Not(), operand):
            yield from _operands(operand)
        case ast.Compare(left, _, comparators):
            for value in (left, *comparators):
                yield value
        case _:
            yield node

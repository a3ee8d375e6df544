"""Which calls a test will make, found before there is a candidate, so that all of them can be sent ahead.

A test's own code runs once with stubs for the candidate's functions: they write down their arguments and return a
value that nothing can be learned from. What holds in a test that passes is taken to hold: an ``assert`` is not judged,
only its calls are made. A test whose course hangs on a returned value ends the search there. No value of any
candidate's, nor an expected one that the test does not pass itself, gets into the prefetch.

The prefetch is a guess as to what a test goes on to ask for: where it is wrong, the program is run again and its calls
are made one by one.
"""

from __future__ import annotations

import ast
import marshal
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from grpo_project.verifier.python.analysis import DATA_METHODS
from grpo_project.verifier.python.arguments import plain_arguments

Call = tuple[str, tuple, dict]
"""A function's name, arguments and keyword arguments."""
_CALLS = 2000
_CPU_S = 1.0


class Prefetch:
    """Calls to be made in any case, ready to be sent: each once, unless ``again``."""

    __slots__ = ("again", "blob", "calls")

    def __init__(self, calls: Iterable[Call], *, again: bool = False) -> None:
        keyed = [(call_key(*call), call) for call in calls]
        self.calls: list[tuple[bytes, Call]] = (
            keyed if again else list({key: (key, call) for key, call in keyed}.values())
        )
        self.again = again
        self.blob = blob_of(call for _, call in self.calls)


_SCALARS = {int, str, float, bool, type(None), bytes, complex, type(Ellipsis)}
_CONTAINERS = {list, tuple, set, frozenset, dict}


def _are_plain(items: Iterable[Any]) -> bool:
    """Whether these are built-in values: ``marshal`` takes arrays, too, and makes bytes of them."""
    items = list(items)
    kinds = set(map(type, items)) - _SCALARS
    if not kinds:
        return True
    if kinds - _CONTAINERS:
        return False
    nested = (item for item in items if type(item) in _CONTAINERS)
    return all(_are_plain([*item, *item.values()] if type(item) is dict else item) for item in nested)


def call_key(name: str, args: tuple, kwargs: dict) -> bytes:
    """The same for the same call. Raises ``ValueError`` for arguments that are no built-in values."""
    if not _are_plain(args) or (kwargs and not _are_plain(kwargs.values())):
        raise ValueError("no built-in values")
    return marshal.dumps((name, args, kwargs), 2)  # version 2 has no back references: equal values, equal bytes


def key_of(name: str, args: tuple, kwargs: dict) -> bytes | None:
    """``call_key``; ``None`` for a call that can't be told, or not told from others, by plain values."""
    if len(args) + len(kwargs) > 1:
        changeable = [id(value) for value in (*args, *kwargs.values()) if type(value) in (list, dict, set)]
        if len(changeable) != len(set(changeable)):
            return None  # one thing given twice: by content it would arrive as two
    try:
        return call_key(name, args, kwargs)
    except ValueError:
        return None


def blob_of(calls: Iterable[Call]) -> bytes:
    """Calls as a candidate takes them. Without back references: arguments that are one object here are two there."""
    return marshal.dumps(list(calls), 2)


class Undecided(Exception):
    """What comes next hangs on what a candidate returns: the search ends, but for within an ``assert``."""


class NeedsObjects(BaseException):
    """The search ends: the test needs more than calls with plain values."""


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

    def _no_data(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise NeedsObjects

    __call__ = __next__ = __enter__ = __exit__ = __setitem__ = __delitem__ = _no_data

    def __getattr__(self, name: str) -> Any:
        raise Undecided if name in DATA_METHODS else NeedsObjects


class Stub:
    """In place of one of the candidate's functions."""

    def __init__(self, name: str, found: list[Call], checked: Callable[[tuple, dict], None]) -> None:
        """``checked`` is told of arguments that are no plain values."""
        self.__name__ = name
        self._found = found
        self._checked = checked

    def __call__(self, *args: Any, **kwargs: Any) -> Unknown:
        if len(self._found) == _CALLS:
            raise TooLong
        args, kwargs = plain_arguments(args, kwargs)
        key = key_of(self.__name__, args, kwargs)
        if key is None:  # made of what a candidate returned, or no plain value
            self._checked(args, kwargs)
            raise NeedsObjects
        self._found.append(marshal.loads(key))  # a copy: the test may change the arguments afterwards
        return Unknown()


def dry_run(tree: ast.Module, run: Callable[[Any], None]) -> bool:
    """Find a test's calls: ``run`` executes the code that it is given, with stubs for the candidate's functions.

    ``False`` where the search ended before the test did.
    """
    tree = ast.fix_missing_locations(_Unjudged().visit(tree))
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

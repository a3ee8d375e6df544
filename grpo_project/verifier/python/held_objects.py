"""The objects of one program that a test holds, and the test's that the program holds: both sides' numbers.

What comes out of the cage becomes a ``Handle``, or a class that stands for one of the program's exceptions. What goes
in is written by content where it is plain, and by number where the test has defined it.
"""

from __future__ import annotations

import builtins
import functools
import io
import operator
import pickle
import types
from collections.abc import Callable
from typing import Any

from grpo_project.verifier.cage import values
from grpo_project.verifier.cage.objects import FUNCTION, ITERATOR, OBJECT
from grpo_project.verifier.python.handles import Handle

TEST_MODULE, FILE_MODULE = "__main__", "__test__"
"""``__module__`` of what a test defines: one that is run, as by ``python test.py``, or a file whose cases are."""
_TEST_MODULES = (TEST_MODULE, FILE_MODULE)
MAX_DEPTH = 40
"""Questions within questions, between the program and the test."""
_FUNCTIONS = ("function", "builtin_function_or_method", "_lru_cache_wrapper", "partial")
_ASKED = frozenset(
    [
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "hash",
        "len",
        "bool",
        "iter",
        "getitem",
        "setitem",
        "contains",
        "str",
        "repr",
        "add",
        "sub",
        "mul",
        "neg",
    ]
)


class Raised(Exception):
    """The candidate raised an exception that is no built-in one."""

    _number = 0
    """Of a class of the program's own."""
    _text = ""
    _handle: Handle | None = None

    def __getattr__(self, name: str) -> Any:
        handle = self.__dict__.get("_handle")
        if handle is None:
            raise AttributeError(name)
        return getattr(handle, name)

    def __str__(self) -> str:
        return self.__dict__.get("_text", "")


class HeldObjects:
    """The objects of one program, and what the test has handed to it: the decoder of what comes out of the cage."""

    def __init__(self, operate: Callable[..., Any], call: Callable[..., Any]) -> None:
        """``operate`` and ``call``: see ``Holder``."""
        self.operate = operate
        self.call = call
        self.weak = False
        self._handles: dict[int, Handle] = {}
        self._exceptions: dict[int, type] = {}
        self._ours: list[tuple[Any, str]] = []
        self._numbers: dict[int, int] = {}
        self._depth = 0

    # ---- what comes out

    def decoded(self, tag: str, content: Any) -> Any:
        if tag not in ("h", "l"):
            return values.Plain().decoded(tag, content)
        if tag == "l":
            return self._ours[_index(content)][0]
        number, kind, told = content
        if kind in ("class", "exception"):
            return self._class(kind, told)
        if kind == "object" and told == "coroutine":
            return _awaited(self._handle(_index(number), told))
        return self._handle(_index(number), values.text_of(told)[:80])

    def named(self, name: str, value: Any) -> Any:
        """A value that the program has under this name: of a function, plain calls have one answer each."""
        if type(value) is Handle and value._Handle__type_name in _FUNCTIONS:
            object.__setattr__(value, "_Handle__name", name)
        return value

    def _handle(self, number: int, type_name: str) -> Handle:
        if number not in self._handles:
            self._handles[number] = Handle(self, number, type_name)
        return self._handles[number]

    def _class(self, kind: str, bases: Any) -> Any:
        chain = [(values.text_of(name)[:80], _index(number)) for name, number in values.list_of(bases)[:20]]
        if chain[0][1] == 0:
            found = getattr(builtins, chain[0][0], None)
            return found if isinstance(found, type) else object
        return self.exception_class(chain) if kind == "exception" else self._handle(chain[0][1], "class")

    def exception_class(self, chain: list[tuple[str, int]]) -> type[Exception]:
        """A class that stands for one of the program's exceptions, below the built-in ones that it comes from."""
        name, number = chain[0]
        if number == 0:
            return builtin_exception(name) or self.exception_class(chain[1:]) if len(chain) > 1 else Raised
        if number not in self._exceptions:
            base = self.exception_class(chain[1:]) if len(chain) > 1 else Raised
            bases = (base,) if issubclass(base, Raised) else (Raised, base)
            self._exceptions[number] = type(name, bases, {"__module__": "solution", "_number": number})
        return self._exceptions[number]

    def exception(self, names: list[str], text: str, line: int, args: Any, classes: Any, number: Any) -> Exception:
        numbers = values.list_of(classes)
        kind = self.exception_class(list(zip(names, map(_index, numbers), strict=False)) or [("", 0)])
        error = new_exception(kind, text, args)
        if isinstance(error, Raised):
            error._handle = self._handle(_index(number), names[0] if names else "")
        return error

    # ---- what goes in

    def dumps(self, value: Any) -> bytes:
        """Raises ``TypeError`` for what can't be handed over."""
        data = io.BytesIO()
        try:
            _Pickler(data, self).dump(value)
        except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
            raise TypeError(f"this can't be handed to the program: {error}") from None
        return data.getvalue()

    def number_of(self, value: Any, kind: str) -> int:
        number = self._numbers.get(id(value))
        if number is None:
            self._ours.append((value, kind))  # kept alive, so that its id stays its own
            number = self._numbers[id(value)] = len(self._ours) - 1
        return number

    def answer(self, number: Any, operation: Any, args: Any, kwargs: Any) -> bytes:
        """Do what the program asks of an object of the test's, if it may be asked; what to send back."""
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise RecursionError("the program and the test call each other too deeply")
            target, kind = self._ours[_index(number)]
            return self.dumps((False, _done(target, kind, operation, args, kwargs)))
        except Exception as error:  # noqa: BLE001 - the test's code, or a question that makes no sense: the program's to see
            known = type(error).__module__ == "builtins"
            return pickle.dumps((True, error if known and _plain(error.args) else RuntimeError(type(error).__name__)))
        finally:
            self._depth -= 1


def _done(target: Any, kind: str, operation: Any, args: Any, kwargs: Any) -> Any:
    """What a program may do with a test's object: call it, iterate it, use public attributes and operators."""
    if operation == "call" and kind != ITERATOR:
        return target(*args, **kwargs)
    if operation == "next" and kind == ITERATOR:
        return next(target)
    if kind == OBJECT and operation in ("getattr", "setattr") and type(args[0]) is str and args[0][:1] != "_":
        return (getattr if operation == "getattr" else setattr)(target, *args)
    if kind == OBJECT and operation in _ASKED:
        return (getattr(operator, operation, None) or getattr(builtins, operation))(target, *args)
    raise TypeError("the test's object does not allow it")


def _plain(args: tuple) -> bool:
    return all(type(value) in (str, int, float, bool, type(None)) for value in args)


class _Pickler(pickle.Pickler):
    """Plain values and what the library defines by content; what a test defines, by number."""

    def __init__(self, file: io.BytesIO, objects: HeldObjects) -> None:
        super().__init__(file, 5)
        self._objects = objects

    def persistent_id(self, value: Any) -> tuple | None:
        if type(value) is Handle:
            return "own", value._Handle__number
        if isinstance(value, Raised) and value._handle is not None:
            return "own", value._handle._Handle__number
        if isinstance(value, type) and issubclass(value, Raised) and "_number" in value.__dict__:
            return "own", value._number
        kind = _kind_of(value)
        if kind is None:
            return None
        name = getattr(value, "__name__", "")
        return "theirs", self._objects.number_of(value, kind), kind, name if type(name) is str else ""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is values.Named:
            return tuple, (list(value),)
        if type(value) is values.Items:
            return list, (list(value),)
        return NotImplemented


def _kind_of(value: Any) -> str | None:
    """How a value is handed over by number; ``None``: by its content."""
    kind = type(value)
    if kind in (types.FunctionType, types.MethodType) or (
        isinstance(value, type) and value.__module__ in _TEST_MODULES
    ):
        return FUNCTION if value.__module__ in _TEST_MODULES or kind is types.MethodType else None
    if kind is types.BuiltinMethodType and not isinstance(value.__self__, types.ModuleType | type | None):
        return FUNCTION  # the ``append`` of a list of the test's
    if kind is functools.partial and _kind_of(value.func) is not None:
        return FUNCTION
    if hasattr(kind, "__next__"):
        return ITERATOR
    return OBJECT if kind.__module__ in (*_TEST_MODULES, "unittest.mock") else None


def _index(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise values.Malformed("a number was expected")
    return value


async def _awaited(handle: Handle) -> Any:
    return handle._Handle__objects.operate("run", handle)


def builtin_exception(name: str) -> type[Exception] | None:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, ExceptionGroup):
        return kind
    return None


def new_exception(kind: type[Exception], text: str, args: Any) -> Exception:
    """With the arguments that it was raised with, where they could be told."""
    given = tuple(args) if type(args) is list else (text,)
    try:
        if issubclass(kind, Raised):
            raise TypeError
        error = kind(*given)
    except Exception:  # noqa: BLE001 - a class that wants other arguments, or a number that is none
        error = kind.__new__(kind)
        error.args = given
    if isinstance(error, Raised):
        error._text = text
    return error

"""The program's objects as a test holds them, outside of the cage: by number. Whatever is done with one is done inside.

What a candidate may decide is the point. A test compares what it expects with what it gets, and an object of the
candidate's may say of itself whatever it likes. So in a test that counts as evidence

* an object equals nothing but itself, and ordering it against a plain value is an error;
* arithmetic with a plain value, ``in`` and the like are the object's own to answer only where the test itself has made
  it by calling a class (``Vector(1, 2) * 3``): elsewhere a plain value was due, and none came;
* methods, attributes, items, iteration, truth and text are the object's; their plain results are compared outside.

A test that can't do with that (``assert Point(1, 2) == Point(1, 2)``) is weak: there the object decides all of it.
"""

from __future__ import annotations

import builtins
import functools
import io
import operator
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any

from grpo_project.verifier.cage import values
from grpo_project.verifier.cage.objects import BINARY, FUNCTION, ITERATOR, OBJECT

TEST_MODULE, FILE_MODULE = "__main__", "__test__"
"""``__module__`` of what a test defines: one that is run, as by ``python test.py``, or a file whose cases are."""
_TEST_MODULES = (TEST_MODULE, FILE_MODULE)
MAX_DEPTH = 40
"""Questions within questions, between the program and the test."""
_READABLE = frozenset(
    ["__name__", "__qualname__", "__doc__", "__dict__", "__annotations__", "__module__", "__class__", "__wrapped__"]
)
_TELLING = frozenset(["startswith", "endswith", "issubset", "issuperset", "isdisjoint"])
"""Methods of plain values that are given an expected one, and say whether it is right."""
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
_RUNS_AHEAD = 256


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


class InOut:
    """An argument that the test looks at again: what becomes of it inside is done to it outside."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def plain_arguments(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Without their ``InOut``."""
    if any(type(value) is InOut for value in (*args, *kwargs.values())):
        args = tuple(_value_of(value) for value in args)
        kwargs = {name: _value_of(value) for name, value in kwargs.items()}
    return args, kwargs


def _value_of(argument: Any) -> Any:
    return argument.value if type(argument) is InOut else argument


def take_changes(args: tuple, kwargs: dict, after: Any) -> None:
    """Give the ``InOut`` among the arguments the content that they have inside."""
    match after:
        case [list() as inside, dict() as named]:
            pairs = [*zip(args, inside, strict=False), *((kwargs[name], named.get(name)) for name in kwargs)]
        case _:
            return
    for argument, content in pairs:
        if type(argument) is InOut:
            _change(argument.value, content)


def _change(mine: Any, content: Any) -> None:
    if type(mine) is bytearray and type(content) is bytes:
        mine[:] = content
    elif type(mine) is not type(content):
        return
    elif type(mine) is list:
        mine[:] = content
    elif type(mine) in (dict, set):
        mine.clear()
        mine.update(content)


class Handle:
    """One object of the program's. Not for anything that the trusted side decides by itself."""

    __slots__ = ("__made_by_test", "__name", "__number", "__objects", "__taken", "__type_name")

    def __init__(self, objects: HeldObjects, number: int, type_name: str) -> None:
        for name, value in (("objects", objects), ("number", number), ("type_name", type_name), ("name", None)):
            object.__setattr__(self, f"_Handle__{name}", value)
        object.__setattr__(self, "_Handle__made_by_test", False)
        object.__setattr__(self, "_Handle__taken", None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in _READABLE:
            raise AttributeError(f"{self.__type_name!r} object has no attribute {name!r} here")
        if name in _TELLING and not self.__decides():
            raise AttributeError(
                f"an object of the program's, of type {self.__type_name!r}, where text or a set was due"
            )
        return self.__objects.operate("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.__objects.operate("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        self.__objects.operate("delattr", self, name)

    def __decides(self) -> bool:
        return self.__made_by_test or self.__objects.weak

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.__name is not None:
            return self.__objects.call(self.__name, self, args, kwargs)
        value = self.__objects.operate("call", self, *args, **kwargs)
        if self.__type_name == "class" and type(value) is Handle:
            object.__setattr__(value, "_Handle__made_by_test", True)
        return value

    def __eq__(self, other: object) -> Any:
        return self.__objects.operate("eq", self, other) if self.__objects.weak else NotImplemented

    def __ne__(self, other: object) -> Any:
        return self.__objects.operate("ne", self, other) if self.__objects.weak else NotImplemented

    def __hash__(self) -> int:
        return self.__objects.operate("hash", self) if self.__objects.weak else hash((Handle, self.__number))

    def __bool__(self) -> bool:
        return self.__objects.operate("bool", self) is True

    def __contains__(self, item: Any) -> Any:
        if self.__decides():
            return self.__objects.operate("contains", self, item)
        return any(item is own or item == own for own in self)

    def __iter__(self) -> Iterator[Any]:
        iterator = self.__objects.operate("iter", self)
        return iterator if type(iterator) is Handle else iter(iterator)

    def __next__(self) -> Any:
        """One by one at first, then many at a time: what a program makes ahead of the test is seldom seen."""
        if self.__taken is None:
            object.__setattr__(self, "_Handle__taken", [0, iter(())])
        count, ahead = self.__taken
        for item in ahead:
            return item
        if count > values.MAX_ITEMS:
            raise RuntimeError(f"an iterator of more than {values.MAX_ITEMS:,} items counts as endless")
        if count < _RUNS_AHEAD:
            self.__taken[0] += 1
            return self.__objects.operate("next", self)
        items = self.__objects.operate("take", self, _RUNS_AHEAD)
        self.__taken[0] += _RUNS_AHEAD
        self.__taken[1] = iter(items if type(items) is list else [])
        return next(self.__taken[1])

    def __enter__(self) -> Any:
        return self.__objects.operate("getattr", self, "__enter__")()

    def __exit__(self, kind: Any, error: Any, _trace: Any) -> Any:
        return self.__objects.operate("getattr", self, "__exit__")(kind, error, None)

    def __instancecheck__(self, instance: Any) -> bool:
        return type(instance) is Handle and self.__objects.operate("isinstance", instance, self) is True

    def __subclasscheck__(self, kind: Any) -> bool:
        return type(kind) is Handle and self.__objects.operate("issubclass", kind, self) is True

    def __format__(self, spec: str) -> str:
        return str(self.__objects.operate("format", self, spec))

    def __repr__(self) -> str:
        return str(self.__objects.operate("repr", self))

    def __str__(self) -> str:
        return str(self.__objects.operate("str", self))

    def __mro_entries__(self, _bases: tuple) -> tuple:
        raise TypeError("a class of the program's can't be a base of a class of the test's")

    def __getitem__(self, key: Any) -> Any:
        return self.__objects.operate("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__objects.operate("setitem", self, key, value)

    def __round__(self, *digits: int) -> Any:
        return self.__objects.operate("round", self, *digits)

    def __delitem__(self, key: Any) -> None:
        self.__objects.operate("delitem", self, key)


def read(value: Any, name: str) -> Any:
    """``getattr`` for what every object of Python's has, and a ``Handle`` as well: of the object inside."""
    if type(value) is Handle:
        return value._Handle__objects.operate("getattr", value, name)
    if isinstance(value, values.Opaque):
        return getattr(value, name)  # one that is not held says so
    return getattr(value, name)


def is_callable(value: Any) -> bool:
    if type(value) is Handle:
        return value._Handle__objects.operate("callable", value) is True
    return callable(value)


def _unary(name: str) -> Callable[[Handle], Any]:
    return lambda self: self._Handle__objects.operate(name, self)


def _binary(name: str, *, ordering: bool, reflected: bool = False) -> Callable[[Handle, Any], Any]:
    def operation(self: Any, other: Any) -> Any:
        known = type(other) is not Handle or (ordering and not other._Handle__made_by_test)
        if known and (ordering or not self._Handle__made_by_test) and not self._Handle__objects.weak:
            kind = self._Handle__type_name
            raise TypeError(f"an object of the program's, of type {kind!r}, where a plain value was due ({name})")
        return self._Handle__objects.operate(name, *((other, self) if reflected else (self, other)))

    return operation


for _name in ["abs", "complex", "float", "index", "int", "invert", "len", "neg", "pos", "reversed"]:
    setattr(Handle, f"__{_name}__", _unary(_name))
for _name in ["lt", "le", "gt", "ge"]:
    setattr(Handle, f"__{_name}__", _binary(_name, ordering=True))
for _name in sorted(set(BINARY.split()) - set(["concat", "contains", "eq", "ne", "lt", "le", "gt", "ge", "getitem"])):
    setattr(Handle, f"__{_name.rstrip('_')}__", _binary(_name, ordering=False))
    if hasattr(int, f"__r{_name.rstrip('_')}__") or _name == "matmul":
        setattr(Handle, f"__r{_name.rstrip('_')}__", _binary(_name, ordering=False, reflected=True))


class HeldObjects:
    """The objects of one program, and what the test has handed to it: the decoder of what comes out of the cage."""

    def __init__(self, operate: Callable[..., Any], call: Callable[..., Any]) -> None:
        """``operate(name, *args, **kwargs)`` and ``call(name, handle, args, kwargs)`` are done inside."""
        self.operate = operate
        self.call = call
        self.weak = False
        """The present test is: the program's objects decide."""
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

"""Objects on both sides of the cage, by number: the program's that a test holds, and the test's that the program holds.

Runs in the candidate's process, for tests that need more than plain values. An object of the program's never leaves
it: the trusted side has its number, and asks for one operation after the other (``Operations``). What a test hands
over and is no plain value (a function, an object of a class of its own) stays outside in the same way: the program has
a ``Stand-in`` whose every use is a question to the trusted side, which decides what may be asked.

Orders: {"operation": pickle of (name, args, kwargs)}; in the pickle, ``persistent_load`` tells objects:
    ("own", number) one of the program's    ("theirs", number, kind, name) one of the test's
Records: ["value", v, arguments after it], ["raised", ...], ["missing"], and at any time before one of these
    ["ask", number, operation, args, kwargs], answered by {"answer": pickle of (whether it raised, value)}.
"""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Callable
from typing import Any

FUNCTION, ITERATOR, OBJECT = "function", "iterator", "object"
"""What the test's objects can be: called; iterated; used by attribute and operator."""
MAX_KEPT = 100_000
"""Objects of the program's that are kept for a test."""

UNARY = (
    "abs bool bytes complex dir float format hash index int invert iter len neg next not_ pos repr reversed round str"
)
BINARY = """add and_ concat contains eq floordiv ge getitem gt le lshift lt matmul mod mul ne or_ pow rshift sub truediv
    xor iadd iand ifloordiv ilshift imatmul imod imul ior ipow irshift isub itruediv ixor"""


def make_ready() -> None:
    """Once in a process, before ``Objects``: load what most candidates don't need.

    The half of ``pickle`` that is written in C: the other one takes longer to load than a small program to run. In the
    zygote it costs every fork 5%.
    """
    import _pickle  # noqa: F401


class Objects:
    """The program's objects that the test holds. ``send`` writes a record; ``answer`` waits for what was asked for."""

    def __init__(
        self, module: types.ModuleType, encode: Callable[[Any], bytes], send: Callable[[bytes], None], answer: Callable
    ) -> None:
        self._module = module
        self._encode = encode
        self._send = send
        self._answer = answer
        self._kept: list[Any] = []
        self._numbers: dict[int, int] = {}  # by id(): whatever is kept stays alive, so an id is never given twice
        self._theirs: dict[int, Any] = {}

    def keep(self, value: Any) -> dict[str, Any]:
        """What the trusted side gets in place of an object."""
        number = value.__dict__.get("_stand_in") if type(value) in (types.FunctionType, StandIn) else None
        if type(number) is int and self._theirs.get(number) is value:  # ``functools.wraps`` copies the number
            return {"l": number}
        if isinstance(value, type):
            bases = [[base.__name__, self._number(base)] for base in value.__mro__]
            return {"h": [self._number(value), "exception" if issubclass(value, BaseException) else "class", bases]}
        kind = type(value)
        name = "coroutine" if kind is types.CoroutineType else "module" if kind is types.ModuleType else kind.__name__
        return {"h": [self._number(value), "object", name]}

    def _number(self, value: Any) -> int:
        if type(value) is type and value.__module__ == "builtins":
            return 0
        number = self._numbers.get(id(value))
        if number is None:
            if len(self._kept) == MAX_KEPT:
                raise MemoryError(f"a test holds more than {MAX_KEPT:,} objects of the program's")
            self._kept.append(value)
            number = self._numbers[id(value)] = len(self._kept)
        return number

    def numbers_of(self, error: BaseException) -> list[Any]:
        """An exception's classes and itself."""
        return [[self._number(kind) for kind in type(error).__mro__][:20], self._number(error)]

    def perform(self, operation: bytes) -> list[Any]:
        """One operation of the trusted side's. Raises whatever the program's object raises."""
        name, args, kwargs = self._loads(operation)
        if name == "name":
            names = self._module.__dict__
            return ["value", names[args[0]], []] if args[0] in names else ["missing"]
        value = _function(name)(*args, **kwargs)
        return ["value", value, [list(args), kwargs] if name == "call" else []]

    def _loads(self, data: bytes) -> Any:
        from _pickle import Unpickler

        reader = Unpickler(io.BytesIO(data))
        reader.persistent_load = self._persistent  # type: ignore[method-assign]
        return reader.load()

    def _persistent(self, told: tuple) -> Any:
        if told[0] == "own":
            return self._kept[told[1] - 1]
        _, number, kind, name = told
        if number not in self._theirs:
            self._theirs[number] = self._stand_in(number, kind, name)
        return self._theirs[number]

    def _stand_in(self, number: int, kind: str, name: str) -> Any:
        if kind != FUNCTION:
            return (StandInIterator if kind == ITERATOR else StandIn)(self, number)

        def function(*args: Any, **kwargs: Any) -> Any:
            return self.ask(number, "call", *args, **kwargs)

        function.__name__ = function.__qualname__ = name
        function.__dict__["_stand_in"] = number
        return function

    def ask(self, number: int, operation: str, /, *args: Any, **kwargs: Any) -> Any:
        self._send(self._encode(["ask", number, operation, list(args), kwargs]))
        raised, value = self._loads(self._answer())
        if raised:
            raise value
        return value


class StandIn:
    """An object of the test's, in the program's hands."""

    def __init__(self, objects: Objects, number: int) -> None:
        self.__dict__.update(_objects=objects, _stand_in=number)

    def __getattr__(self, name: str) -> Any:
        return self._objects.ask(self._stand_in, "getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._objects.ask(self._stand_in, "setattr", name, value)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._objects.ask(self._stand_in, "call", *args, **kwargs)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._objects.ask(self._stand_in, "setitem", key, value)


class StandInIterator(StandIn):
    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self._objects.ask(self._stand_in, "next")


def _asks(name: str) -> Callable[..., Any]:
    return lambda self, *args: self._objects.ask(self._stand_in, name, *args)


for _name in [
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
    "contains",
    "str",
    "repr",
    "add",
    "sub",
    "mul",
    "neg",
]:
    setattr(StandIn, f"__{_name}__", _asks(_name))


def _function(name: str) -> Callable[..., Any]:
    """An operation by its name: of ``operator``, or a built-in function."""
    import builtins
    import operator

    if name == "call":
        return lambda target, /, *args, **kwargs: target(*args, **kwargs)
    if name == "run":
        return _run
    if name == "take":
        return _take
    return getattr(operator, name, None) or getattr(builtins, name)


def _run(coroutine: Any) -> Any:
    """A coroutine's result: in an event loop where the program knows of one, else driven by hand."""
    if (asyncio := sys.modules.get("asyncio")) is not None:
        return asyncio.run(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("a coroutine that waits for something can't be run here")


def _take(iterator: Any, count: int) -> list[Any]:
    """Up to ``count`` items; fewer only at the end."""
    items = []
    for item in iterator:
        items.append(item)
        if len(items) == count:
            break
    return items

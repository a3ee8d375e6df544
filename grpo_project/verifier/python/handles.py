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

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from grpo_project.verifier.cage import values
from grpo_project.verifier.cage.objects import BINARY

_READABLE = frozenset(
    ["__name__", "__qualname__", "__doc__", "__dict__", "__annotations__", "__module__", "__class__", "__wrapped__"]
)
_TELLING = frozenset(["startswith", "endswith", "issubset", "issuperset", "isdisjoint"])
"""Methods of plain values that are given an expected one, and say whether it is right."""
_RUNS_AHEAD = 256


class Holder(Protocol):
    """Who has the program's process, where a handle's object is."""

    weak: bool
    """The present test is: the program's objects decide."""
    operate: Callable[..., Any]
    """``operate(name, *args, **kwargs)``: one operation, done inside."""
    call: Callable[..., Any]
    """``call(name, handle, args, kwargs)``: of a function that the program has under this name."""


class Handle:
    """One object of the program's. Not for anything that the trusted side decides by itself."""

    __slots__ = ("__made_by_test", "__name", "__number", "__objects", "__taken", "__type_name")

    def __init__(self, objects: Holder, number: int, type_name: str) -> None:
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

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
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

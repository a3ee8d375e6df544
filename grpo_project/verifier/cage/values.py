"""Python values on their way out of the cage: written by the candidate's process, read by the trusted side.

The reader builds exact built-in types only, whatever the writer claims, so that no operator of the candidate's ever
runs outside of the cage. The text is JSON; what JSON lacks is an object with one key:

    {"t": [...]} tuple   {"s": [...]} set   {"f": [...]} frozenset   {"d": [[k, v], ...]} dict   {"y": "hex"} bytes
    {"i": "hex"} huge int   {"c": [re, im]} complex   {"n": ["Fraction" | "Decimal", text]} an exact number
    {"r": [start, stop, step]} range   {"k": [maxlen, [...]]} deque   {"m": ["date" | "datetime" | "time", text]}
    {"m": ["timedelta", [days, seconds, microseconds]]}   {"p": [type name, [field names], [...]]} named tuple
    {"u": ["Counter" | "OrderedDict" | "defaultdict", factory or None, [[k, v], ...]]} a dictionary of collections
    {"a": [dtype, shape, nested lists]} numpy array
    {"q": [type name, [...]]} an iterable that is none of the above (generator, a view)
    {"x": [type name, text]} anything else: equal to nothing

A subclass of a built-in container is written as the data it holds (a class of its own of dictionaries is a dictionary).
Where a test holds objects of the program's (``objects``), iterators and "anything else" are written as

    {"h": [number, kind, type name, or for a class [[name, number], ...] of it and its bases]}
    {"l": number} one of the test's own
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

MAX_DEPTH = 150
MAX_ITEMS = 200_000
"""Items taken from an iterable before it counts as endless."""
_HUGE_BITS = 4096  # above it, decimal text costs quadratic time
_TEXT = 200
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_DECODER = json.JSONDecoder()
_DICTIONARIES = (Counter, OrderedDict, defaultdict)
_FACTORIES = {kind.__name__: kind for kind in (int, list, set, dict, str, float)}
_ARRAY_TYPES = frozenset(
    [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    ]
)
keep: Callable[[Any], dict[str, Any]] | None = None
"""In a candidate's process whose objects are held by a test: what is written in place of one."""


class Opaque:
    """A value of no built-in type. It equals nothing but itself and has no content."""

    __slots__ = ("text", "type_name")

    def __init__(self, type_name: str, text: str = "") -> None:
        self.type_name = type_name
        self.text = text

    def __repr__(self) -> str:
        return self.text or f"<{self.type_name}>"


class Items(Opaque):
    """An iterable that is no built-in container: ``list(x)`` works, equality does not."""

    __slots__ = ("items",)

    def __init__(self, type_name: str, items: list[Any]) -> None:
        super().__init__(type_name, f"<{type_name} of {len(items)} items>")
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Named(tuple):
    """A named tuple: a tuple whose items can be read by name, too."""

    fields: tuple[str, ...]
    type_name: str

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("fields", ()):
            return self[self.fields.index(name)]
        raise AttributeError(f"{self.__dict__.get('type_name')!r} object has no attribute {name!r}")

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self.fields, self, strict=True))


class Malformed(Exception):
    """The text is no value: our writer would not have written it."""


def dumps(value: Any) -> bytes:
    """Encode inside the cage. Raises ``RecursionError``, ``MemoryError``, ``ValueError`` or what the value raises."""
    return _ENCODER.encode(_outgoing(value, 0)).encode()


def _outgoing(value: Any, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if kind is int:
        return value if value.bit_length() <= _HUGE_BITS else {"i": hex(value)}
    if depth > MAX_DEPTH:
        raise RecursionError(f"the value is nested more than {MAX_DEPTH} deep")
    depth += 1
    if kind is list:
        return [_outgoing(item, depth) for item in value]
    for base, tag in ((tuple, "t"), (set, "s"), (frozenset, "f")):
        if issubclass(kind, base):
            items = [_outgoing(item, depth) for item in base.__iter__(value)]
            names = getattr(kind, "_fields", None) if tag == "t" and kind is not tuple else None
            return {tag: items} if names is None else {"p": [kind.__name__, list(names), items]}
    if kind in _DICTIONARIES:
        made = getattr(value, "default_factory", None)
        if kind is not defaultdict or any(made is known for known in _FACTORIES.values()):
            pairs = [[_outgoing(key, depth), _outgoing(item, depth)] for key, item in dict.items(value)]
            return {"u": [kind.__name__, None if made is None else made.__name__, pairs]}
    if issubclass(kind, dict):
        return {"d": [[_outgoing(key, depth), _outgoing(item, depth)] for key, item in dict.items(value)]}
    if issubclass(kind, list):
        return [_outgoing(item, depth) for item in list.__iter__(value)]
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        return _outgoing(int.__add__(value, 0), depth)
    if issubclass(kind, float):
        return float.__add__(value, 0.0)
    if issubclass(kind, bytes | bytearray):
        return {"y": kind.hex(value)}
    if issubclass(kind, complex):
        return {"c": [value.real, value.imag]}
    if kind.__module__ in ("fractions", "decimal") and kind.__name__ in ("Fraction", "Decimal"):
        return {"n": [kind.__name__, str(value)]}
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        items = _outgoing(value.tolist(), depth)
        return {"a": [str(value.dtype), list(value.shape), items]} if kind.__name__ == "ndarray" else items
    if kind is range:
        return {"r": [value.start, value.stop, value.step]}
    if issubclass(kind, deque):
        return {"k": [value.maxlen, [_outgoing(item, depth) for item in deque.__iter__(value)]]}
    if kind.__module__ == "datetime" and kind.__name__ in ("date", "datetime", "time"):
        return {"m": [kind.__name__, value.isoformat()]}
    if kind.__module__ == "datetime" and kind.__name__ == "timedelta":
        return {"m": ["timedelta", [value.days, value.seconds, value.microseconds]]}
    iterable = hasattr(kind, "__iter__") and kind.__module__ in ("builtins", "collections", "itertools")
    if iterable and (keep is None or kind.__name__.startswith("dict_")):  # the latter: views of a dictionary
        return _drained(value, kind.__name__, depth)
    if keep is not None:
        return keep(value)
    return {"x": [kind.__name__, repr(value)[:_TEXT]]}


def _drained(iterable: Any, name: str, depth: int) -> dict[str, Any]:
    items: list[Any] = []
    for item in iterable:
        if len(items) == MAX_ITEMS:
            return {"x": [name, f"<{name} of more than {MAX_ITEMS:,} items>"]}
        items.append(_outgoing(item, depth))
    return {"q": [name, items]}


class Decoder(Protocol):
    """Who makes what is more than a plain value."""

    def decoded(self, tag: str, content: Any) -> Any:
        """The value of one of the tags "h", "l", "q" and "x". Raises ``Malformed`` or what malformed content raises."""


class Plain:
    """A ``Decoder`` for where no object of the program's is held."""

    def decoded(self, tag: str, content: Any) -> Any:
        name, more = content
        if tag == "q":
            return Items(text_of(name)[:_TEXT], list_of(more))
        if tag == "x":
            return Opaque(text_of(name)[:_TEXT], text_of(more)[:_TEXT])
        raise Malformed("an object, where none is held")


def loads(payload: bytes, decoder: Decoder = Plain()) -> Any:  # noqa: B008 - it has no state
    """Decode outside of the cage. Raises ``Malformed`` for everything that ``dumps`` would not have written."""
    try:
        text = payload.decode("ascii")
        value, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise Malformed("more than one value")
        return _incoming(value, 0, decoder)
    except Malformed:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary to hostile bytes: an unhashable member of a set, text that
        # is no JSON, a tag with wrong content, more than fits into memory; what comes out of a cage raises this only.
        raise Malformed(f"{type(error).__name__}: {str(error)[:_TEXT]}") from None


def _incoming(value: Any, depth: int, decoder: Decoder) -> Any:
    kind = type(value)
    if kind is not list and kind is not dict:
        return value
    if depth > MAX_DEPTH:
        raise Malformed(f"nested more than {MAX_DEPTH} deep")
    depth += 1
    if kind is list:
        return [_incoming(item, depth, decoder) for item in value]
    [(tag, content)] = value.items()
    if tag == "t":
        return tuple([_incoming(item, depth, decoder) for item in list_of(content)])
    if tag == "d":
        return {_incoming(key, depth, decoder): _incoming(item, depth, decoder) for key, item in list_of(content)}
    if tag == "u":
        return _dictionary(content, depth, decoder)
    if tag == "s":
        return {_incoming(item, depth, decoder) for item in list_of(content)}
    if tag == "f":
        return frozenset([_incoming(item, depth, decoder) for item in list_of(content)])
    if tag == "i":
        return int(text_of(content), 16)
    if tag == "y":
        return bytes.fromhex(text_of(content))
    if tag == "c":
        real, imaginary = content
        return complex(float(real), float(imaginary))
    if tag == "n":
        return _number(*map(text_of, content))
    if tag == "p":
        return _named(content, depth, decoder)
    if tag == "q":
        name, items = content
        return decoder.decoded(tag, (name, [_incoming(item, depth, decoder) for item in list_of(items)]))
    if tag in ("h", "l", "x"):
        return decoder.decoded(tag, content)
    if tag == "r":
        return range(*map(_whole, list_of(content)))
    if tag == "k":
        limit, items = content
        return deque([_incoming(item, depth, decoder) for item in list_of(items)], limit)
    if tag == "m":
        return _moment(*content)
    if tag == "a":
        kind, shape, items = content
        return _array(text_of(kind), list_of(shape), _incoming(items, depth, decoder))
    raise Malformed(f"unknown tag {tag[:_TEXT]!r}")


def _dictionary(content: Any, depth: int, decoder: Decoder) -> dict[Any, Any]:
    name, made, pairs = content
    found = {_incoming(key, depth, decoder): _incoming(item, depth, decoder) for key, item in list_of(pairs)}
    if name == "defaultdict":
        return defaultdict(_FACTORIES[made], found)
    return {"Counter": Counter, "OrderedDict": OrderedDict}[name](found)


def list_of(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Malformed("a list was expected")
    return value


def text_of(value: Any) -> str:
    if type(value) is not str:
        raise Malformed("a string was expected")
    return value


def _whole(value: Any) -> int:
    value = int(value["i"], 16) if type(value) is dict else value
    if type(value) is not int:
        raise Malformed("a whole number was expected")
    return value


def _named(content: Any, depth: int, decoder: Decoder) -> Named:
    name, fields, items = content
    value = Named([_incoming(item, depth, decoder) for item in list_of(items)])
    value.type_name = text_of(name)[:_TEXT]
    value.fields = tuple(map(text_of, list_of(fields)))
    if len(value.fields) != len(value):
        raise Malformed("a named tuple with too few names")
    return value


def _moment(name: Any, content: Any) -> Any:
    import datetime  # here, as with numbers

    if name == "timedelta":
        return datetime.timedelta(*map(_whole, list_of(content)))
    if name not in ("date", "datetime", "time"):
        raise Malformed("an unknown kind of moment")
    return getattr(datetime, name).fromisoformat(text_of(content))


def _array(kind: str, shape: list[Any], items: Any) -> Any:
    """A numpy array of plain numbers; of anything else, or where there is no numpy, an iterable of its items."""
    if kind in _ARRAY_TYPES:
        with contextlib.suppress(ImportError):
            import numpy

            return numpy.array(items, kind).reshape(shape)
    return Items("ndarray", items if type(items) is list else [items])


def _number(name: str, text: str) -> Any:
    if len(text) > 4000:
        raise Malformed("a number of more than 4,000 characters")
    # Imported here: few programs return them, and each costs the trusted side half a megabyte.
    if name == "Fraction":
        from fractions import Fraction

        # Whole numbers only: "1e999999999" would be written out in full.
        return Fraction(*map(int, text.split("/")))
    if name == "Decimal":
        from decimal import Decimal

        return Decimal(text)
    raise Malformed(f"unknown number {name[:_TEXT]!r}")

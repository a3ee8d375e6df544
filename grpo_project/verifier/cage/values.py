"""Python values on their way out of the cage: written by the candidate's process, read by the trusted side.

The reader builds exact built-in types only, whatever the writer claims, so that no operator of the candidate's ever
runs outside of the cage. The text is JSON; what JSON lacks is an object with one key:

    {"t": [...]} tuple   {"s": [...]} set   {"f": [...]} frozenset   {"d": [[k, v], ...]} dict   {"y": "hex"} bytes
    {"i": "hex"} huge int   {"c": [re, im]} complex   {"n": ["Fraction" | "Decimal", text]} an exact number
    {"q": [type name, [...]]} an iterable that is none of the above (range, generator, deque, a view)
    {"x": [type name, text]} anything else: equal to nothing

A subclass of a built-in container is written as the data it holds (a Counter is its dictionary).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 150
MAX_ITEMS = 200_000
"""Items taken from an iterable before it counts as endless."""
_HUGE_BITS = 4096  # above it, decimal text costs quadratic time
_TEXT = 200
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_DECODER = json.JSONDecoder()


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
            return {tag: [_outgoing(item, depth) for item in base.__iter__(value)]}
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
        if kind.__name__ == "ndarray":
            return {"q": ["ndarray", [_outgoing(item, depth) for item in value.tolist()]]}
        return _outgoing(value.tolist(), depth)
    if hasattr(kind, "__iter__") and kind.__module__ in ("builtins", "collections", "itertools"):
        return {"q": [kind.__name__, _drain(value, depth)]}
    return {"x": [kind.__name__, repr(value)[:_TEXT]]}


def _drain(iterable: Any, depth: int) -> list[Any]:
    items: list[Any] = []
    for item in iterable:
        if len(items) == MAX_ITEMS:
            raise ValueError(f"the returned iterator gave more than {MAX_ITEMS:,} items")
        items.append(_outgoing(item, depth))
    return items


def loads(payload: bytes) -> Any:
    """Decode outside of the cage. Raises ``Malformed`` for everything that ``dumps`` would not have written."""
    try:
        text = payload.decode("ascii")
        value, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise Malformed("more than one value")
        return _incoming(value, 0)
    except Malformed:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary to hostile bytes: an unhashable member of a set, text that
        # is no JSON, a tag with wrong content, more than fits into memory; what comes out of a cage raises this only.
        raise Malformed(f"{type(error).__name__}: {str(error)[:_TEXT]}") from None


def _incoming(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is not list and kind is not dict:
        return value
    if depth > MAX_DEPTH:
        raise Malformed(f"nested more than {MAX_DEPTH} deep")
    depth += 1
    if kind is list:
        return [_incoming(item, depth) for item in value]
    [(tag, content)] = value.items()
    if tag == "t":
        return tuple([_incoming(item, depth) for item in _list(content)])
    if tag == "d":
        return {_incoming(key, depth): _incoming(item, depth) for key, item in _list(content)}
    if tag == "s":
        return {_incoming(item, depth) for item in _list(content)}
    if tag == "f":
        return frozenset([_incoming(item, depth) for item in _list(content)])
    if tag == "i":
        return int(_text(content), 16)
    if tag == "y":
        return bytes.fromhex(_text(content))
    if tag == "c":
        real, imaginary = content
        return complex(float(real), float(imaginary))
    if tag == "n":
        return _number(*map(_text, content))
    if tag == "q":
        name, items = content
        return Items(_text(name)[:_TEXT], [_incoming(item, depth) for item in _list(items)])
    if tag == "x":
        name, text = content
        return Opaque(_text(name)[:_TEXT], _text(text)[:_TEXT])
    raise Malformed(f"unknown tag {tag[:_TEXT]!r}")


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Malformed("a list was expected")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Malformed("a string was expected")
    return value


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

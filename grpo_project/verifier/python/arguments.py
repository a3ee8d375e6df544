"""Arguments of a test's calls that it looks at again: what becomes of them inside is done to them outside."""

from __future__ import annotations

from typing import Any


class InOut:
    """An argument that the test looks at again: what becomes of it inside is done to it outside."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def plain_arguments(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Without their ``InOut``."""
    if InOut in map(type, args) or InOut in map(type, kwargs.values()):
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

"""What runs in a caged child that becomes one of Icarus' programs. Imports only what a zygote should carry.

Its order (marshal): ``{"clear": bool, "files": [(name, bytes)], "command": [path, argument, ...]}``. The child becomes
that program, in the cage's work folder, with both output streams in one; over the link comes ``["fault", text]`` (JSON
of ``cage.values``) where it could not.
"""

from __future__ import annotations

import marshal
import os
import shutil
from typing import Any, NoReturn

from grpo_project.verifier.cage import values, wire
from grpo_project.verifier.cage.wire import LINK


def warm_up() -> None:
    """Nothing is worth doing ahead: the program that a child becomes starts from its own file."""


def run() -> NoReturn:
    try:
        wire.write(LINK, b"hello")  # carries this process's credentials
        _become_program(marshal.loads(wire.read(LINK) or b""))
    finally:
        os._exit(0)  # neither the zygote's loop nor its exit handlers are a child's to run


def _become_program(order: dict[str, Any]) -> None:
    os.set_inheritable(LINK, False)
    os.dup2(1, 2)
    try:
        if order["clear"]:
            _clear()
        for name, content in order["files"]:
            with open(name, "wb") as file:
                file.write(content)
        path, *arguments = order["command"]
        os.execve(path, [path, *arguments], {"LANG": "C"})
    except OSError as error:
        wire.write(LINK, values.dumps(["fault", f"{error.strerror}: {error.filename}"]))


def _clear() -> None:
    """Remove what earlier children left in the work folder."""
    with os.scandir(".") as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)

"""What runs in the process that is forked for one candidate: load the program, answer calls, report.

Nothing here is trusted once the program's first line has run: it may change this very code. It gets its input and
gives values back; what they should have been is known outside only. A record that it writes is a claim to be judged.

Orders (marshal, from the trusted side) and records (JSON of ``values``, one for each call, in order):

    {"mode": "calls", "program": str, "calls": [(name, args, kwargs), ...]}  then any number of  {"calls": [...]}
        -> ["compiled", stateless] and ["loaded", names], or ["raised", type names, text, line];
        -> then ["value", v] or ["raised", ...] for each call
           or, in place of a call, a step of a test: (EXECUTE or EVALUATE, (test, position, source), {})
    {"mode": "program", "program": str}
        -> ["ended", exit code] or ["raised", ...]; standard input and output are the process's own
"""

from __future__ import annotations

import marshal
import os
import socket
import sys
import types
from typing import Any, NoReturn

from grpo_project.verifier import values, wire
from grpo_project.verifier.stateless import stateless

PROGRAM_FILE = "<solution>"
STEPS = EXECUTE, EVALUATE = ("<execute>", "<evaluate>")
"""In place of a function's name: a step of a test, with (test, position, source) as the arguments."""
_TEXT = 500
_scopes: dict[int, dict[str, Any]] = {}


def run(link: socket.socket) -> NoReturn:
    """Serve the orders that come over ``link``, then end the process. Never returns, whatever the program does."""
    try:
        wire.send(link, b"hello")  # carries this process's credentials, before any foreign line has run
        order = marshal.loads(wire.receive(link) or b"")
        if order["mode"] == "program":
            os._exit(_run_program(link, order["program"]))
        _serve_calls(link, order)
    finally:
        os._exit(0)  # also on an exception: neither the zygote's loop nor its exit handlers are the candidate's to run


def _serve_calls(link: socket.socket, order: dict[str, Any]) -> None:
    module = types.ModuleType("solution")
    sys.modules["solution"] = module  # dataclasses and pickle look a class's module up
    try:
        code = compile(order["program"], PROGRAM_FILE, "exec", dont_inherit=True)
        _report(link, ["compiled", stateless(code)])  # before the program's first line: it can't be a lie
        exec(code, module.__dict__)
    except BaseException as error:  # noqa: BLE001 - the candidate may raise anything, SystemExit included
        _report(link, _raised(error))
        return
    _report(link, ["loaded", sorted(name for name in module.__dict__ if type(name) is str)[:500]])
    while True:
        for name, args, kwargs in order["calls"]:
            _report(link, _step(module, name, *args) if name in STEPS else _call(module, name, args, kwargs))
        message = wire.receive(link)
        if message is None:
            return
        order = marshal.loads(message)


def _call(module: types.ModuleType, name: str, args: tuple, kwargs: dict) -> list[Any]:
    try:
        return ["value", getattr(module, name)(*args, **kwargs)]
    except BaseException as error:  # noqa: BLE001 - the candidate may raise anything
        return _raised(error)


def _step(module: types.ModuleType, name: str, test: int, _position: tuple, source: str) -> list[Any]:
    """A statement or an expression of a test that holds objects of the program's. Each test has its own variables."""
    scope = _scopes.setdefault(test, dict(module.__dict__))
    try:
        if name == EXECUTE:
            exec(compile(source, f"<test {test + 1}>", "exec", dont_inherit=True), scope)
            return ["value", None]
        return ["value", eval(compile(source, f"<test {test + 1}>", "eval", dont_inherit=True), scope)]
    except BaseException as error:  # noqa: BLE001 - the candidate may raise anything
        return _raised(error)


def _report(link: socket.socket, record: list[Any]) -> None:
    try:
        payload = values.dumps(record)
    except BaseException as error:  # noqa: BLE001 - a returned value's own methods may raise anything
        payload = values.dumps(_raised(error))
    wire.send(link, payload)


def _raised(error: BaseException) -> list[Any]:
    """The exception as data: the names of its type and bases, its text, and the program's line."""
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == PROGRAM_FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno or 0
    try:
        text = str(error)[:_TEXT]
    except BaseException:  # noqa: BLE001 - __str__ is the candidate's
        text = ""
    return ["raised", [kind.__name__[:_TEXT] for kind in type(error).__mro__][:20], text, line]


def _run_program(link: socket.socket, program: str) -> int:
    """Run a whole program as ``__main__``, as ``python program.py`` would, and return its exit code."""
    import atexit
    import threading

    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    _open_standard_streams()
    status = 0
    try:
        exec(compile(program, PROGRAM_FILE, "exec", dont_inherit=True), module.__dict__)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:  # noqa: BLE001 - the candidate may raise anything
        status = 1
        wire.send(link, values.dumps(_raised(error)))
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        status = status or 1  # closed by the program, or more output than is taken
    return status & 0xFF


def _open_standard_streams() -> None:
    """Fresh text streams on the descriptors 0 to 2, buffered like those of a program whose output is not a terminal."""
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115

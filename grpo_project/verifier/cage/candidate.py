"""What runs in the process that is forked for one candidate: load the program, answer calls, report.

Nothing here is trusted once the program's first line has run: it may change this very code. It gets its input and
gives values back; what they should have been is known outside only. A record that it writes is a claim to be judged.

Orders (marshal, from the trusted side) and records (JSON of ``values``, one for each call, in order):

    {"mode": "calls", "program": str, "seed": bytes, "defines": name or None, "final": bool, "changes": bool,
     "calls": marshal of [(name, args, kwargs), ...]}  then, unless it is final, any number of  {"calls": ...} and
     {"operation": ...}
        -> ["compiled", pure] and ["loaded", whether it defines the name], or
           ["raised", type names, text, line, arguments or None];
        -> then ["value", v] or ["raised", ...] for each call; with "changes": ["value", v, [args, kwargs after it]];
           unless it is final, objects are held (``objects``), and ["raised", ...] tells of the exception's, too
    {"mode": "program", "program": str, "seed": bytes}
        -> ["ended", exit code] or ["raised", ...]; standard input and output are the process's own
"""

from __future__ import annotations

import builtins
import marshal
import os
import sys
import types
from _sitebuiltins import Quitter
from collections.abc import Callable
from typing import Any, NoReturn

from grpo_project.verifier.cage import heap, objects, values, wire
from grpo_project.verifier.cage.purity import is_pure
from grpo_project.verifier.cage.wire import LINK

PROGRAM_FILE = "<solution>"
_TEXT = 500
_module = types.ModuleType("solution")
_WARM_UPS = 20  # the interpreter specializes a function that has run this often
_WARM_UP = '''
from typing import Dict, List


def f(xs: List[int], n: int = 1) -> Dict[str, int]:
    """Text."""
    found = {}
    for x in sorted(set(xs), key=lambda y: -y)[:n]:
        if x % 2 == 0 and not x < 0 or x is None:
            found[str(x)] = found.get(str(x), 0) + x ** 2
    while n > 0:
        n -= 1
        try:
            found["".join(f"{y}" for y in xs)] = [a * b for a, b in zip(xs, xs)]
        except (KeyError, ValueError) as error:
            raise error
    return found if found else {}
'''


def run() -> NoReturn:
    """Serve the orders that come over the link, then end the process. Never returns, whatever the program does."""
    try:
        wire.write(LINK, b"hello")  # carries this process's credentials, before any foreign line has run
        order = marshal.loads(wire.read(LINK) or b"")
        _seed_randomness(order["seed"], order["program"])
        heap.close()
        if order["mode"] == "program":
            os._exit(_run_program(order["program"]))
        _serve_calls(order)
    finally:
        os._exit(0)  # also on an exception: neither the zygote's loop nor its exit handlers are the candidate's to run


_seed = b""
_generator: Any = None


def urandom(size: int, /) -> bytes:
    """In place of ``os.urandom``: what a program draws depends on its seed, so that it is judged the same every time.

    ``random.Random()``, ``secrets``, ``uuid.uuid4`` and numpy's generators end up here as well.
    """
    global _generator
    if _generator is None:
        _generator = sys.modules["random"].Random(_seed)
    return _generator.randbytes(size)


def replace_randomness() -> None:
    """Once, in the zygote: ``random`` asks the system in C code, past ``os.urandom``."""
    random: Any = sys.modules["random"]
    seed_with = random.Random.seed

    def seed(self: Any, a: Any = None, version: int = 2) -> None:
        seed_with(self, int.from_bytes(urandom(32), "big") if a is None else a, version)

    random.Random.seed = seed
    random.seed = random._inst.seed


def _seed_randomness(seed: bytes, program: str) -> None:
    global _seed, _generator
    _seed, _generator = seed, None
    if "random" in program:  # the shared generators: a few pages to be copied
        sys.modules["random"].seed(seed)
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed(int.from_bytes(seed[:4], "big"))


def warm_up() -> None:
    """Do once, in the zygote, what every child does: caches that are full by then need not be filled in each."""
    sys.modules["solution"] = _module  # dataclasses and pickle look a class's module up
    builtins.exit = builtins.quit = Quitter("exit", "Ctrl-D")  # as site does, which an isolated interpreter leaves out
    code = compile(_WARM_UP, PROGRAM_FILE, "exec", dont_inherit=True)  # the first of a process costs 2.5 ms
    for _ in range(_WARM_UPS):
        is_pure(code)
        values.dumps(["value", [1, 1.0, "", None, True, (1,), {"": 1}]])
        marshal.loads(marshal.dumps({"mode": "calls", "calls": [("f", (1,), {})]}))


def _serve_calls(order: dict[str, Any]) -> None:
    names = _module.__dict__
    if not order["final"]:
        objects.make_ready()  # now: the program may come to hold every descriptor or byte that it is allowed
    try:
        code = compile(order["program"], PROGRAM_FILE, "exec", dont_inherit=True)
        _report(["compiled", is_pure(code)])  # before the program's first line: it can't be a lie
        exec(code, names)
    except BaseException as error:  # noqa: BLE001 - the candidate may raise anything, SystemExit included
        return _report(_raised(error))
    loaded = ["loaded", order["defines"] is None or order["defines"] in names]
    if order["final"]:
        _report(loaded)
        return _make_calls(order["calls"], order["changes"])
    server = Server(order["changes"])
    _report(loaded)
    server.serve(order)


def _make_calls(calls: bytes, changes: bool, raised: Callable[[BaseException], list[Any]] | None = None) -> None:
    for name, args, kwargs in marshal.loads(calls):
        try:
            record = ["value", getattr(_module, name)(*args, **kwargs)]
            _report([*record, [list(args), kwargs]] if changes else record)
        except BaseException as error:  # noqa: BLE001 - the candidate may raise anything
            _report((raised or _raised)(error))


class Server:
    """Calls and operations one by one, as a test goes on, with the program's objects held for it."""

    def __init__(self, changes: bool) -> None:
        self._changes = changes
        self._objects = objects.Objects(_module, values.dumps, lambda data: wire.write(LINK, data), self._answer)
        values.keep = self._objects.keep

    def serve(self, order: dict[str, Any]) -> None:
        while True:
            self._perform(order)
            message = wire.read(LINK)
            if message is None:
                return
            order = marshal.loads(message)

    def _perform(self, order: dict[str, Any]) -> None:
        if "operation" not in order:
            return _make_calls(order["calls"], self._changes, self._raised)
        try:
            record = self._objects.perform(order["operation"])
        except BaseException as error:  # noqa: BLE001 - the candidate may raise anything
            record = self._raised(error)
        _report(record)

    def _answer(self) -> bytes:
        """Wait for the answer to a question; the test may use the program meanwhile."""
        while True:
            order = marshal.loads(wire.read(LINK) or os._exit(0))
            if "answer" in order:
                return order["answer"]
            self._perform(order)

    def _raised(self, error: BaseException) -> list[Any]:
        try:
            return [*_raised(error), *self._objects.numbers_of(error)]
        except MemoryError:  # too many are held
            return _raised(error)


def _report(record: list[Any]) -> None:
    try:
        payload = values.dumps(record)
    except BaseException as error:  # noqa: BLE001 - a returned value's own methods may raise anything
        payload = values.dumps(_raised(error))
    wire.write(LINK, payload)


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
    record = ["raised", [kind.__name__[:_TEXT] for kind in type(error).__mro__][:20], text, line]
    return [*record, _arguments(error)]


def _arguments(error: BaseException) -> list[Any] | None:
    """What an exception was raised with, where that can be told."""
    try:
        arguments = list(error.args)
        values.dumps(arguments)
    except BaseException:  # noqa: BLE001 - it may be anything
        return None
    return arguments


def _run_program(program: str) -> int:
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
        wire.write(LINK, values.dumps(_raised(error)))
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

"""The candidate's functions, callable from outside: each call runs in the cage, each result is a plain value."""

from __future__ import annotations

import builtins
import contextlib
import signal
from collections import deque
from collections.abc import Iterator
from typing import Any

from grpo_project.verifier.cage import values
from grpo_project.verifier.cage.cage import CageError
from grpo_project.verifier.cage.candidate import STEPS
from grpo_project.verifier.cage.session import Session, Stopped
from grpo_project.verifier.python.dry_run import Call, Prefetch, blob_of, call_key

TEST_CODE_S = 10.0
"""Wall seconds that judging one candidate may take, the problem's own test code included and the cage's work not."""


class Raised(Exception):
    """The candidate raised an exception that is no built-in one."""


class Watchdog:
    """Ends this process by SIGALRM when judging takes too long, which hostile values can bring about.

    It runs while answers are decoded, compared, and given to the problem's own test code; not while the cage works.

    The signal keeps its default action: neither a bare ``except`` nor a long multiplication holds it up. Whoever
    started this process sees what it died of.
    """

    def __init__(self, seconds: float = TEST_CODE_S) -> None:
        self._left = seconds

    def __enter__(self) -> Watchdog:
        signal.setitimer(signal.ITIMER_REAL, max(self._left, 0.001))
        return self

    def __exit__(self, *_: object) -> None:
        self._left, _interval = signal.setitimer(signal.ITIMER_REAL, 0)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()


class Mispredicted(BaseException):
    """The dry run was wrong: a call that is not in it, or an end of the program in one that no test has asked for."""


class Calls:
    """The calls into one session. The same call is made once: what a function returns may not depend on when."""

    def __init__(self, session: Session, prefetch: Prefetch, *, final: bool) -> None:
        """The session has been given the prefetch. ``final``: with no other call to follow."""
        self._session = session
        self._final = final
        self._certain = prefetch.certain
        self._answers: dict[bytes, bytes] = {}  # as they came: decoded for each use, so that no use changes the next
        self._made: dict[bytes, Call] = dict(prefetch.calls)
        self._pending = deque(prefetch.calls)
        self._stopped: Stopped | None = None
        self.watchdog = Watchdog()
        self._unanswered = False
        self.mispredicted = False
        """The prediction was wrong: the program has to be run again, without one."""
        self.fault: CageError | None = None
        """Our own side failed. Kept, because test code may catch every exception."""
        self.stateless = False
        """The program can't carry anything from one call to the next."""
        self.asked = False
        """The current test has made a call."""
        self.records = 0
        """Records taken so far, in the order of ``Session.cpu_of_records``."""

    def load(self, cpu_limit_s: float) -> list[Any]:
        """The record of the program's loading. Raises ``Stopped``."""
        try:
            record = record_of(self._payload(cpu_limit_s, "loading the program"))
            if record[0] == "compiled":
                self.stateless = record[1:] == [True]
                record = record_of(self._payload(cpu_limit_s, "loading the program"))
            return record
        except Stopped as stopped:
            self._stopped = stopped
            raise

    def _payload(self, cpu_limit_s: float, doing: str) -> bytes:
        payload = self._session.ready(doing)
        if payload is None:
            try:
                with self.watchdog.paused():
                    payload = self._session.payload(cpu_limit_s, doing)
            except CageError as fault:
                self.fault = fault
                raise
        self.records += 1
        return payload

    def answer(self, name: str, args: tuple, kwargs: dict) -> list[Any]:
        """The record of one call, made now unless it was made before. Raises ``Stopped`` or ``Mispredicted``."""
        key = call_key(name, args, kwargs)
        self.asked = True
        if key not in self._answers:
            if key not in self._made:
                self._ask(key, (name, args, kwargs))
            self._collect(key)
        if key in self._answers:
            return record_of(self._answers[key])
        assert self._stopped is not None
        self._unanswered = True
        raise self._stopped

    def _ask(self, key: bytes, call: Call) -> None:
        """Send a call that was not planned, unless the program answers no more."""
        if self._final or (self._pending and not self._certain):
            raise self._misprediction()
        # What is under way first: with both sides writing at once, neither would read.
        while self._pending and self._stopped is None:
            self._collect(self._pending[-1])
        if self._stopped is None:
            self._made[key] = call
            self._pending.append(key)
            with self.watchdog.paused():
                self._session.order({"calls": blob_of([call])})

    def _collect(self, key: bytes) -> None:
        """Take records, which come in the order of the calls, up to the one for ``key``."""
        while self._stopped is None and key not in self._answers:
            try:
                answer = self._payload(self._session.limits.test_cpu_s, "the call")
            except Stopped as stopped:
                if not self._certain and self._pending[0] != key:
                    raise self._misprediction() from None
                self._stopped = stopped
            else:
                self._answers[self._pending.popleft()] = answer

    def _misprediction(self) -> Mispredicted:
        self.mispredicted = True
        return Mispredicted()

    @property
    def stopped(self) -> Stopped | None:
        """Why the candidate answers no more, if so."""
        return self._stopped

    @property
    def answered(self) -> list[Call]:
        """The calls of functions that were answered, each once, in their order."""
        return [call for key, call in self._made.items() if key in self._answers and call[0] not in STEPS]

    def begin_test(self) -> None:
        self.asked = False
        self._unanswered = False

    @property
    def complete(self) -> bool:
        """Every call that the current test asked for has been answered."""
        return not self._unanswered


class Remote:
    """One function of the candidate's, for test code to call."""

    def __init__(self, calls: Calls, name: str, *, changes: bool = False) -> None:
        """With ``changes``, what the function makes of its arguments in place is done to the caller's as well."""
        self._calls = calls
        self._changes = changes
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        record = self._calls.answer(self.__name__, args, kwargs)
        value = result_of(record)
        if self._changes and len(record) == 3:
            for mine, after in zip(args, record[2], strict=False):
                change(mine, after)
        return value


def change(mine: Any, after: Any) -> None:
    """Give ``mine`` the content of ``after``, if they are of one type that can be changed."""
    if type(mine) is not type(after):
        return
    if type(mine) is list:
        mine[:] = after
    elif type(mine) in (dict, set):
        mine.clear()
        mine.update(after)


def record_of(payload: bytes) -> list[Any]:
    """Decode one record. Raises ``Stopped`` with status "error" for what our own writer would not have written."""
    try:
        record = values.loads(payload)
    except values.Malformed as error:
        raise Stopped("error", f"the answer can't be read ({error})") from None
    if type(record) is not list or not record or type(record[0]) is not str:
        raise Stopped("error", "the answer can't be read")
    if record[0] == "raised" and not _tells_of_an_exception(*record[1:]):
        raise Stopped("error", "the answer can't be read")
    return record


def _tells_of_an_exception(names: Any = None, text: Any = None, line: Any = None, *more: Any) -> bool:
    named = type(names) is list and all(type(name) is str for name in names)
    # A line that is no line number: one of 5,000 digits can't even be written out (sys.set_int_max_str_digits).
    return named and type(text) is str and type(line) is int and 0 <= line < 1 << 31 and not more


def result_of(record: list[Any]) -> Any:
    """The value that a record holds; raises the exception that it tells of."""
    match record:
        case ["value", value] | ["value", value, list()]:
            return value
        case ["raised", list() as names, str() as text, int() as line]:
            raise exception_of(names, text, line)
    raise Stopped("error", "the answer can't be read")


def exception_of(names: list[str], text: str, line: int) -> Exception:
    """The nearest built-in exception of that name, so that ``except ValueError`` in a test means what it says."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, ExceptionGroup):
            break
    else:
        kind = Raised
    own = names[0] if names else "exception"
    error = kind.__new__(kind)
    error.args = (text,)
    error.told = f"{own}: {text}" + (f" (line {line})" if line else "")  # type: ignore[attr-defined]
    return error

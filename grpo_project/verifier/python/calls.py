"""The calls into one run of a candidate: what is asked of it, and what it answers."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from grpo_project.verifier.cage import values
from grpo_project.verifier.cage.launch import CageError
from grpo_project.verifier.cage.session import Session, Stopped
from grpo_project.verifier.python.arguments import plain_arguments, take_changes
from grpo_project.verifier.python.dry_run import Call, Prefetch, blob_of, key_of
from grpo_project.verifier.python.held_objects import HeldObjects, Raised, builtin_exception, new_exception

_REPEATS = 2
TEST_CODE_CPU_S, TEST_CODE_WALL_S = 10.0, 100.0
"""What judging one candidate may take, the problem's own test code included and the cage's work not: CPU seconds, which
a busy machine does not shorten, and wall seconds, for test code that sleeps."""


class Watchdog:
    """Ends this process by SIGPROF or SIGALRM when judging takes too long, which hostile values can bring about.

    It runs while answers are decoded, compared, and given to the problem's own test code; not while the cage works.

    The signals keep their default action: neither a bare ``except`` nor a long multiplication holds it up. Whoever
    started this process sees what it died of.
    """

    def __init__(self) -> None:
        self._left = {signal.ITIMER_PROF: TEST_CODE_CPU_S, signal.ITIMER_REAL: TEST_CODE_WALL_S}

    def __enter__(self) -> Watchdog:
        for timer, left in self._left.items():
            signal.setitimer(timer, max(left, 0.001))
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._left:
            self._left[timer], _interval = signal.setitimer(timer, 0)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()


class Mispredicted(BaseException):
    """The calls that were sent ahead are not all that the test asks for: it needs the program to stay."""


class Calls:
    """The calls into one session. The same call is made once: what a function returns may not depend on when."""

    def __init__(self, session: Session, prefetch: Prefetch, *, final: bool) -> None:
        """The session has been given the prefetch. ``final``: with nothing to follow, and no object held."""
        self._session = session
        self.final = final
        self._again = prefetch.again
        self._answers: dict[bytes, deque[bytes]] = {}  # as they came: decoded for each use, so no use changes the next
        self._asked: list[Call] = []
        self._asked_for: Counter[bytes] = Counter()
        self._pending = deque(key for key, _ in prefetch.calls)
        self._decoder: values.Decoder = Unheld(self) if final else HeldObjects(self._operate, self._call)
        self._stopped: Stopped | None = None
        self._unanswered = False
        self.used = False
        """The present test has asked for something."""
        self._names: dict[str, Any] = {}
        self.watchdog = Watchdog()
        self.mispredicted = False
        """The program has to be run again, and stay."""
        self.fault: CageError | None = None
        """Our own side failed. Kept, because test code may catch every exception."""
        self.pure = False
        """The program can't carry anything from one call to the next."""
        self.records = 0
        """Records taken so far, in the order of ``Session.cpu_of_records``."""

    def load(self, cpu_limit_s: float) -> list[Any]:
        """The record of the program's loading. Raises ``Stopped``."""
        try:
            record = self._record_of(self._payload(cpu_limit_s, "loading the program"))
            if record[0] == "compiled":
                self.pure = record[1:] == [True]
                record = self._record_of(self._payload(cpu_limit_s, "loading the program"))
            return record
        except Stopped as stopped:
            self._stopped = stopped
            raise

    def begin_test(self, *, weak: bool) -> None:
        """Forget what the one before was at. In a ``weak`` test the program's objects decide on themselves."""
        self._unanswered = self.used = False
        self._names = {}
        if isinstance(self._decoder, HeldObjects):
            self._decoder.weak = weak

    # ---- calls of functions

    def call(self, name: str, args: tuple, kwargs: dict) -> Any:
        """What a function returns for plain arguments. Raises what it raised, ``Stopped`` or ``Mispredicted``."""
        given, named = plain_arguments(args, kwargs)
        key = key_of(name, given, named)
        if key is None:
            raise self.misprediction()
        return self._result(self._record(key, (name, given, named)), args, kwargs)

    def _call(self, name: str, handle: Any, args: tuple, kwargs: dict) -> Any:
        """The same where objects are held, and may be among the arguments."""
        given, named = plain_arguments(args, kwargs)
        key = key_of(name, given, named)
        if key is None:
            return self._operate("call", handle, *args, **kwargs)
        return self._result(self._record(key, (name, given, named)), args, kwargs)

    def _record(self, key: bytes, call: Call) -> list[Any]:
        self.used = True
        answers = self._answers.setdefault(key, deque())
        if not answers:
            if key not in self._pending:
                self._ask(key, call)
            self._collect(key)
        if not answers:
            raise self._no_answer()
        if self._asked_for[key] < _REPEATS:
            self._asked_for[key] += 1
            self._asked.append(call)
        answer = answers[0]
        # One answer, for as long as it is the last there is; an object is another one each time.
        if b'{"h":' in answer or (self._again and (len(answers) > 1 or key in self._pending)):
            answers.popleft()
        return self._record_of(answer)

    def _ask(self, key: bytes, call: Call) -> None:
        """Send a call that was not sent ahead, unless the program answers no more."""
        if self.final:
            raise self.misprediction()
        self._finish_pending()
        if self._stopped is None:
            self._pending.append(key)
            self._order({"calls": blob_of([call])})

    def _finish_pending(self) -> None:
        """Take what is under way first: with both sides writing at once, neither would read."""
        while self._pending and self._stopped is None:
            self._take_answer(self._pending[-1])

    def _collect(self, key: bytes) -> None:
        """Take records, which come in the order of the calls, up to the one for ``key``."""
        while self._stopped is None and not self._answers.get(key):
            self._take_answer(key)

    def _take_answer(self, key: bytes) -> None:
        try:
            answer = self._answer()
        except Stopped as stopped:
            if self.final and self._pending[0] != key:
                raise self.misprediction() from None  # a call may have ended it that no test asks for
            self._stopped = stopped
        else:
            self._answers.setdefault(self._pending.popleft(), deque()).append(answer)

    def function(self, name: str) -> Any:
        """What the program has under a name: to be called only, where no object is held. Raises ``NameError``."""
        return Function(self, name) if self.final else self.named(name)

    # ---- operations on objects

    def named(self, name: str) -> Any:
        """What the program has under this name. Raises ``NameError``."""
        assert isinstance(self._decoder, HeldObjects)
        if name not in self._names:
            self._names[name] = self._decoder.named(name, self._operate("name", name))
        return self._names[name]

    def _operate(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        self.used |= name != "name"
        self._finish_pending()
        if self._stopped is not None:
            raise self._no_answer()
        assert isinstance(self._decoder, HeldObjects)
        given, named = plain_arguments(args, kwargs)
        operation = self._decoder.dumps((name, given, named))
        self._order({"operation": operation})
        try:
            record = self._record_of(self._answer())
        except Stopped as stopped:
            self._stopped = stopped
            raise self._no_answer() from None
        if record == ["missing"]:
            raise NameError(f"the program does not define {args[0]}")
        return self._result(record, args, kwargs, ends=name in ("next", "take"))

    # ---- the link

    def _order(self, message: dict[str, Any]) -> None:
        with self.watchdog.paused():
            self._session.order(message)

    def _answer(self) -> bytes:
        """The next record that is no question; questions are answered. Raises ``Stopped``."""
        while (payload := self._payload(self._session.limits.test_cpu_s, "the call")).startswith(b'["ask",'):
            match self._record_of(payload):
                case ["ask", number, operation, list() as args, dict() as kwargs] if not self.final:
                    assert isinstance(self._decoder, HeldObjects)
                    self._order({"answer": self._decoder.answer(number, operation, args, kwargs)})
                case _:
                    raise Stopped("error", "the answer can't be read")
        return payload

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

    def _record_of(self, payload: bytes) -> list[Any]:
        return record_of(payload, self._decoder)

    def _result(self, record: list[Any], args: tuple, kwargs: dict, *, ends: bool = False) -> Any:
        if record[0] == "raised" and "StopIteration" in record[1] and not ends:
            # As such it would end a loop of the test's, which then passes.
            names = ["StopIteration from a function" if name == "StopIteration" else name for name in record[1]]
            record = [record[0], names, *record[2:]]
        if record[0] == "value" and len(record) == 3:
            take_changes(args, kwargs, record[2])
        return result_of(record, self._decoder)

    def _no_answer(self) -> Stopped:
        assert self._stopped is not None
        self._unanswered = True
        return self._stopped

    def misprediction(self) -> Mispredicted:
        self.mispredicted = True
        return Mispredicted()

    # ---- what became of it

    @property
    def stopped(self) -> Stopped | None:
        """Why the candidate answers no more, if so."""
        return self._stopped

    @property
    def asked(self) -> list[Call]:
        """The calls of functions that tests asked for and got an answer to, in their order; no call more than twice."""
        return self._asked

    @property
    def complete(self) -> bool:
        """Every call that the current test asked for has been answered."""
        return not self._unanswered


class Function:
    """A function of the program's, for a test that does nothing with it but call it."""

    def __init__(self, calls: Calls, name: str) -> None:
        self.__calls = calls
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__calls.call(self.__name__, args, kwargs)

    def __getattr__(self, _name: str) -> Any:
        raise self.__calls.misprediction()


class Unheld:
    """The decoder where no object is held: one that a test makes use of, other than to compare it, has to be."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def decoded(self, tag: str, content: Any) -> Any:
        value = values.Plain().decoded(tag, content)
        kind = UnheldItems if type(value) is values.Items else UnheldObject
        return kind(self._calls, value)


class UnheldObject(values.Opaque):
    """Equal to nothing but itself."""

    __slots__ = ("_calls",)

    def __init__(self, calls: Calls, value: values.Opaque) -> None:
        super().__init__(value.type_name, value.text)
        self._calls = calls

    def __getattr__(self, _name: str) -> Any:
        raise self._calls.misprediction()

    def _used(self, *_args: Any, **_kwargs: Any) -> Any:
        raise self._calls.misprediction()

    __call__ = __iter__ = __next__ = __getitem__ = __contains__ = __len__ = __bool__ = __enter__ = __exit__ = _used
    __int__ = __float__ = __index__ = __str__ = __format__ = __abs__ = __round__ = __neg__ = __await__ = _used


class UnheldItems(values.Items):
    """What an iterator gave; to take one after the other it has to be held."""

    __slots__ = ("_calls",)

    def __init__(self, calls: Calls, value: values.Items) -> None:
        super().__init__(value.type_name, value.items)
        self._calls = calls

    def __getattr__(self, _name: str) -> Any:
        raise self._calls.misprediction()

    def __next__(self) -> Any:
        raise self._calls.misprediction()


def record_of(payload: bytes, decoder: values.Decoder = values.Plain()) -> list[Any]:  # noqa: B008 - it has no state
    """Decode one record. Raises ``Stopped`` with status "error" for what our own writer would not have written."""
    try:
        record = values.loads(payload, decoder)
    except values.Malformed as error:
        raise Stopped("error", f"the answer can't be read ({error})") from None
    if type(record) is not list or not record or type(record[0]) is not str:
        raise Stopped("error", "the answer can't be read")
    if record[0] == "raised" and not _tells_of_an_exception(*record[1:]):
        raise Stopped("error", "the answer can't be read")
    return record


def _tells_of_an_exception(names: Any = None, text: Any = None, line: Any = None, args: Any = None, *more: Any) -> bool:
    named = type(names) is list and all(type(name) is str for name in names)
    # A line that is no line number: one of 5,000 digits can't even be written out (sys.set_int_max_str_digits).
    known = named and type(text) is str and type(line) is int and 0 <= line < 1 << 31
    return known and (args is None or type(args) is list) and len(more) in (0, 2)


def result_of(record: list[Any], decoder: values.Decoder = values.Plain()) -> Any:  # noqa: B008 - it has no state
    """The value that a record holds; raises the exception that it tells of."""
    match record:
        case ["value", value] | ["value", value, list()]:
            return value
        case ["raised", *told]:
            raise exception_of(*told, decoder=decoder)
    raise Stopped("error", "the answer can't be read")


def exception_of(
    names: list[str], text: str, line: int, args: Any = None, *held: Any, decoder: values.Decoder | None = None
) -> Exception:
    """The nearest built-in exception of that name, so that ``except ValueError`` in a test means what it says; where
    objects are held, one of the program's own class."""
    if held and isinstance(decoder, HeldObjects):
        try:
            error = decoder.exception(names, text, line, args, *held)
        except values.Malformed as malformed:
            raise Stopped("error", f"the answer can't be read ({malformed})") from None
    else:
        kinds = (kind for name in names if (kind := builtin_exception(name)) is not None)
        error = new_exception(next(kinds, Raised), text, args)
    own = names[0] if names else "exception"
    error.told = f"{own}: {text}" + (f" (line {line})" if line else "")  # type: ignore[attr-defined]
    return error

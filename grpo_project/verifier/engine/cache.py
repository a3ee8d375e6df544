"""Verdicts by what they depend on: the code, the tests, the limits. The newest are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict

from grpo_project.verifier.verdict import Status, Verdict

Key = tuple[bytes, str]
"""Hash of the tests and limits, and the program."""
KEPT = 20_000


class Cache:
    """For any number of threads. A time-out is not kept: a machine that was stalled for once must not be remembered."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[Key, Verdict] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Verdict | None:
        with self._lock:
            if key in self._verdicts:
                self._verdicts.move_to_end(key)
            return self._verdicts.get(key)

    def put(self, key: Key, verdict: Verdict) -> None:
        if verdict.status is Status.TIMEOUT:
            return
        with self._lock:
            self._verdicts[key] = verdict
            if len(self._verdicts) > KEPT:
                self._verdicts.popitem(last=False)

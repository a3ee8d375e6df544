"""Completions with the judge: each is handed in as soon as it has ended, while others are still being generated."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol

from grpo_project.verifier.verdict import Job, Verdict


class Judge(Protocol):
    """Judges completions in order; raises ``SandboxError`` when it can't. Called from several threads at once."""

    def verify_many(self, jobs: Sequence[Job]) -> Sequence[Verdict]: ...


class Judging:
    """The way of one evaluation's completions through ``judge``. Leaving the context drops what has not begun."""

    def __init__(self, judge: Judge) -> None:
        self.busy_s = 0.0
        """Seconds during which at least one completion was with the judge."""
        self._judge = judge
        self._threads = ThreadPoolExecutor(thread_name_prefix="evaluation-judge")  # they wait, the verifier works
        self._lock = threading.Lock()
        self._under_way = 0
        self._since = 0.0

    def hand_in(self, job: Job) -> Future[Verdict]:
        """Returns at once. The future's ``result`` raises as the judge does."""
        with self._lock:
            if not self._under_way:
                self._since = time.perf_counter()
            self._under_way += 1
        return self._threads.submit(self._verdict, job)

    def _verdict(self, job: Job) -> Verdict:
        try:
            (verdict,) = self._judge.verify_many([job])
            return verdict
        finally:
            with self._lock:
                self._under_way -= 1
                if not self._under_way:
                    self.busy_s += time.perf_counter() - self._since

    def __enter__(self) -> Judging:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._threads.shutdown(cancel_futures=True)

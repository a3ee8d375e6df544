"""A served model that speaks the OpenAI protocol (vLLM's server, SGLang, llama.cpp, a hosted one) as a ``Generate``."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any

from grpo_project.errors import ConfigError, InfrastructureError
from grpo_project.generation.request import Generation, Request

RETRIED = frozenset((408, 409, 425, 429, 500, 502, 503, 504))
LONGEST_WAIT_S = 30.0


class EndpointError(InfrastructureError):
    """The endpoint gave no completion, however often it was asked."""


class Endpoint:
    """Asks ``URL/chat/completions``; the server puts its own chat template on.

    Args:
        url: the base, with its version: ``http://127.0.0.1:8000/v1``.
        model: what the server calls the model.
        api_key: default: ``OPENAI_API_KEY``, if that is set. It is sent to ``url`` and kept nowhere.
        concurrency: requests under way at once.
        retries: how often a request is made again after a broken connection, a time-out, or a status that says "later".
        timeout_s: of one request.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        concurrency: int = 16,
        retries: int = 6,
        timeout_s: float = 600.0,
    ) -> None:
        import httpx2

        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"--endpoint {url}: it begins with http:// or https:// (http://127.0.0.1:8000/v1)")
        if concurrency < 1 or retries < 0 or timeout_s <= 0:
            raise ConfigError("endpoint: concurrency is at least 1, retries 0 or more, timeout_s more than 0")
        self.url = url.rstrip("/")
        self.model = model
        self.concurrency = concurrency
        self.retries = retries
        key = os.environ.get("OPENAI_API_KEY") if api_key is None else api_key
        self._client: Callable[[], Any] = partial(
            httpx2.Client,
            timeout=timeout_s,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx2.Limits(max_connections=concurrency),
        )
        self._transport_errors: Any = httpx2.TransportError
        self._leaving = threading.Event()

    def __call__(self, requests: Sequence[Request]) -> Iterator[tuple[int, Generation]]:
        """``(place, completion)`` as they end.

        Raises:
            ConfigError: the server refuses the request itself, as for an unknown model.
            EndpointError: it gave no completion, after all retries.
        """
        self._leaving.clear()
        with self._client() as client:
            pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="endpoint")
            try:
                asked = {pool.submit(self._complete, client, request): n for n, request in enumerate(requests)}
                for done in as_completed(asked):
                    yield asked[done], done.result()
            finally:
                self._leaving.set()  # those that wait to be made again need not be
                pool.shutdown(wait=True, cancel_futures=True)

    def _complete(self, client: Any, request: Request) -> Generation:
        body = {
            "model": self.model,
            "messages": list(request.messages),
            "temperature": request.temperature,
            "max_tokens": request.max_new_tokens,
            "seed": request.seed & 0x7FFF_FFFF,  # servers differ in how many bits they take
        }
        reason = ""
        for attempt in range(self.retries + 1):
            wait_s = min(LONGEST_WAIT_S, 0.25 * 2**attempt) * (0.5 + random.random() / 2)
            try:
                answer = client.post(f"{self.url}/chat/completions", json=body)
                if answer.status_code == 200:
                    return generation_of(answer.json())
                reason = f"status {answer.status_code}: {' '.join(answer.text.split())[:200]}"
                if answer.status_code not in RETRIED:
                    raise ConfigError(f"--endpoint {self.url}, model {self.model}: {reason}")
                wait_s = max(wait_s, _seconds(answer.headers.get("retry-after")))
            except self._transport_errors as error:
                reason = f"{type(error).__name__}: {error}"
            except (ValueError, KeyError, IndexError, TypeError) as error:
                reason = f"an answer that is no completion ({type(error).__name__}: {error})"
            if attempt == self.retries or self._leaving.wait(wait_s):
                break
        raise EndpointError(
            f"{self.url}, model {self.model}: no completion after {self.retries + 1} attempts: {reason}"
        )


def generation_of(answer: Any) -> Generation:
    """The first choice of a chat completion. Raises ``KeyError``, ``IndexError`` or ``TypeError`` for anything else."""
    choice = answer["choices"][0]
    text = choice["message"]["content"] or ""
    tokens = (answer.get("usage") or {}).get("completion_tokens")
    # A server that counts nothing: one token at least, since 0 means a prompt that did not fit.
    return Generation(text, int(tokens) if tokens is not None else max(1, len(text) // 4), _cut(choice))


def _cut(choice: Any) -> bool:
    return choice.get("finish_reason") == "length"


def _seconds(header: str | None) -> float:
    """``Retry-After`` in seconds; a date, or nothing, is 0."""
    try:
        return min(LONGEST_WAIT_S, float(header or 0))
    except ValueError:
        return 0.0

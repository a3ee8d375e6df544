"""A loopback server that speaks the OpenAI protocol: it answers with a problem's solution, or fails as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from grpo_project.problems.problem import Problem
from grpo_project.problems.prompt import user_text

Status = Callable[[int], int]
"""The number of a request, from 0, to the status that answers it; 0 breaks the connection."""


class Served:
    """What the server saw."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.most_at_once = self.at_once = 0
        self.lock = threading.Lock()


@contextmanager
def serving(problems: Sequence[Problem], status: Status = lambda number: 200) -> Iterator[Served]:
    solutions = {user_text(problem): problem.solution for problem in problems}
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with served.lock:
                number = len(served.requests)
                served.requests.append(asked)
                served.keys.add(self.headers.get("Authorization"))
                served.at_once += 1
                served.most_at_once = max(served.most_at_once, served.at_once)
            code = status(number) if asked["model"] == "known" else 404
            with served.lock:
                served.at_once -= 1
            if code == 0:
                self.close_connection = True
                self.connection.close()
                return
            text = f"```python\n{solutions[asked['messages'][-1]['content']]}\n```"
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            body = json.dumps({"choices": [choice], "usage": {"completion_tokens": 7}}).encode()
            if code != 200:
                body = b'{"error": "not now"}' if code != 404 else b'{"error": "no such model"}'
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""The page while training runs: a server on 127.0.0.1 that reads the run directory and changes nothing in it.

Other users of the machine, and web pages in the same browser, can reach a local port. So each request needs the token
of the printed address, and its ``Host`` must be this server's own (a page that rebinds its name to 127.0.0.1 sends its
own name). Two paths exist, ``/`` and ``/data``; no file is ever named by a request.
"""

from __future__ import annotations

import gzip
import hmac
import secrets
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from grpo_project.errors import UserError
from grpo_project.reports.page import as_json, page_html, stamped
from grpo_project.reports.page_data import open_runs, page_data

ADDRESS = "127.0.0.1"
REFRESH_S = 5.0
AT_MOST = 0.1
"""Share of the time that reading the run may take: a big one is read less often."""
WATCHED = ("run.json", "journal/metrics.jsonl", "journal/events.jsonl", "samples", "evaluations")


class LiveData:
    """The page's data, read anew when the run directory has changed, but not more often than ``AT_MOST`` allows."""

    def __init__(self, folders: Sequence[Path], *, average: bool = False) -> None:
        self.folders = list(folders)
        self.average = average
        self._lock = threading.Lock()
        self._signature: Any = None
        self.due = 0.0
        """When the run may be read again (monotonic clock)."""
        self._data: dict[str, Any] = {}
        self.revision = 0

    def read(self) -> dict[str, Any]:
        """The data with its ``revision``, which counts the changes. Raises what ``open_runs`` raises."""
        with self._lock:
            signature = [_stamp(folder / name) for folder in self.folders for name in WATCHED]
            if signature != self._signature and time.monotonic() >= self.due:
                started = time.monotonic()
                found = page_data(open_runs(self.folders), average=self.average)
                self.revision += 1
                self._data = {**found, "revision": self.revision}
                self.due = time.monotonic() + (time.monotonic() - started) / AT_MOST
                self._signature = signature
            return self._data


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_size, found.st_mtime_ns


class ReportServer(ThreadingHTTPServer):
    """Serves the page until ``shutdown``.

    Args:
        port: 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, title: str, data: LiveData, port: int = 0) -> None:
        super().__init__((ADDRESS, port), _Handler)
        self.title = title
        self.data = data
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_port}/?token={self.token}"


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    server_version = "grpo"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        token = parse_qs(asked.query).get("token", [""])[0]
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(HTTPStatus.FORBIDDEN, b"this server answers to its own address only\n")
        elif not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._answer(HTTPStatus.FORBIDDEN, b"open the address that grpo report has printed: its token is missing\n")
        elif asked.path not in ("/", "/data"):
            self._answer(HTTPStatus.NOT_FOUND, b"there is nothing here\n")
        else:
            try:
                data = self.server.data.read()
            except UserError as error:  # the run was moved away or damaged meanwhile; the page says so and asks again
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
                return
            (self._page if asked.path == "/" else self._data)(data)

    do_HEAD = do_GET

    def _page(self, data: dict[str, Any]) -> None:
        page = page_html(self.server.title, data, refresh_s=REFRESH_S)
        self._answer(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8")

    def _data(self, data: dict[str, Any]) -> None:
        tag = f'"{data["revision"]}"'
        if self.headers.get("If-None-Match") == tag:
            self._answer(HTTPStatus.NOT_MODIFIED, b"", tag=tag)
        else:
            text = as_json(stamped(data, REFRESH_S))
            self._answer(HTTPStatus.OK, text.encode(), "application/json", tag)

    def _answer(
        self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8", tag: str | None = None
    ) -> None:
        self.send_response(status)
        if "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 1000:
            body = gzip.compress(body, 1)
            self.send_header("Content-Encoding", "gzip")
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if tag is not None:
            self.send_header("ETag", tag)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Requests are not worth a line, and their path holds the token."""

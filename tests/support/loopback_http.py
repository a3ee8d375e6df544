"""The HTTP side of the loopback W&B server: takes requests, lets the planned faults happen, hands the rest on."""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import time
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loopback import LoopbackServer

STREAM = re.compile(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream")


class LoopbackHttp(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], backend: LoopbackServer) -> None:
        self.backend = backend
        self.connections: set[socket.socket] = set()
        super().__init__(address, Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that a fault cut; nothing to report."""

    def cut(self) -> None:
        for connection in list(self.connections):
            reset(connection)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LoopbackHttp

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        backend = self.server.backend
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        backend.authorizations.add(self.headers.get("Authorization") or "")
        stream = STREAM.fullmatch(urllib.parse.urlsplit(self.path).path)
        scope = "file_stream" if stream else "graphql" if self.path.endswith("/graphql") else "upload"
        fault = backend.take_fault(scope)
        if fault is not None and fault.kind in ("hang", "delay"):
            time.sleep(fault.seconds)
        if fault is not None and fault.kind in ("drop", "hang"):
            return self.cut()
        if fault is not None and fault.kind.isdigit():
            return self.reply(int(fault.kind), {"errors": [{"message": "injected"}]})
        status: int = 200
        answer: dict[str, Any] = {}
        if stream:
            status, answer = backend.file_stream(urllib.parse.unquote(stream[3]), json.loads(body))
        elif scope == "graphql":
            answer = backend.graphql(json.loads(body))
        if fault is not None and fault.kind == "ack_lost":
            return self.cut()
        return self.reply(status, answer)

    do_GET: Callable[[Handler], None] = do_POST
    do_PUT: Callable[[Handler], None] = do_POST
    do_HEAD: Callable[[Handler], None] = do_POST

    def reply(self, status: int, answer: Any) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def cut(self) -> None:
        self.close_connection = True
        reset(self.connection)


def reset(connection: socket.socket) -> None:
    """Close so that the other side sees a broken connection, not an end."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    except OSError:
        return  # closed already

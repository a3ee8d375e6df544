"""How the verifier's processes speak: frames on a stream socket, and the orders of a cage to its zygote.

A frame is four bytes of length, then the payload; what is in it, others decide.

A cage (the trusted side) and its zygote say to each other, over a SEQPACKET socket:

-> {"isolation": level, "profile": {...},                  once (marshal)
    "scratch": folder or None, "check": bool}
<- {"maps": True}, -> MAPPED                               once, where the parent has to write the user maps
<- {"ready": level}                                        once
-> START, with descriptors [link] or [link, stdin, stdout] fork a child
-> KILL                                                    end the child now
<- {"status": wait status, "cpu_s": s, "retire": bool}     the child is gone, and all that it started;
                                                           "retire": it left something behind
<- {"fault": text}                                         no child could be made
"""

from __future__ import annotations

import os
import socket
import struct

LINK = 3
"""The child's descriptor of its link to the trusted side; 0 to 2 are the standard streams."""
KILL, MAPPED = b"kill", b"mapped"
START = struct.Struct("=QQ")
"""CPU seconds and bytes of memory that the child may use (``Limits.of_process``)."""
_LENGTH = struct.Struct("!I")
_CHUNK = 1 << 18
_ORDER = 1 << 14  # what most orders fit in: room for more would have to be mapped first


class TooLong(Exception):
    """The other side announced a frame above the limit."""


def pack(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload


def send(link: socket.socket, payload: bytes) -> None:
    """Write one frame to a blocking socket."""
    if len(payload) < _CHUNK:
        link.sendall(_LENGTH.pack(len(payload)) + payload)
    else:
        link.sendall(_LENGTH.pack(len(payload)))
        link.sendall(payload)


def write(descriptor: int, payload: bytes) -> None:
    """``send`` for a bare descriptor."""
    data = _LENGTH.pack(len(payload)) + payload
    sent = os.write(descriptor, data)
    while sent < len(data):
        sent += os.write(descriptor, data[sent:])


def read(descriptor: int) -> bytes | None:
    """``receive`` for a bare descriptor whose other end sends no further frame before this one is answered."""
    data = bytearray()
    while len(data) < _LENGTH.size or len(data) < _LENGTH.size + _LENGTH.unpack_from(data)[0]:
        part = os.read(descriptor, _CHUNK if data else _ORDER)
        if not part:
            return None
        data += part
    return bytes(memoryview(data)[_LENGTH.size :])


def receive(link: socket.socket) -> bytes | None:
    """Read one frame from a blocking socket whose other end is trusted; ``None`` at the end of the stream."""
    head = _exactly(link, _LENGTH.size)
    if head is None:
        return None
    return _exactly(link, _LENGTH.unpack(head)[0])


def _exactly(link: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = link.recv(min(size - len(parts), _CHUNK))
        if not part:
            return None
        parts += part
    return bytes(parts)


class Frames:
    """Bytes in, frames out, for a link that is read as it comes (and whose other end may be hostile)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Largest payload taken, in bytes."""
        self._buffer = bytearray()

    @property
    def full(self) -> bool:
        """More is held than one frame can have: read no further until some is taken."""
        return len(self._buffer) > self.limit + _LENGTH.size

    @property
    def held(self) -> int:
        """Bytes that were fed and are in no frame yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole frame, or ``None`` until more bytes come. Raises ``TooLong``."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._buffer)
        if size > self.limit:
            raise TooLong
        end = _LENGTH.size + size
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return payload

"""Many readers in one process: a protocol each, which looks at no more of a tick than its running number.

The ticks are ``{"t":T,"u":U,...}``: ``u`` counts on across runs, so that the next one is known whatever happens.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import cast

_UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
)
KINDS = {"ws": ("/ws/stream", _UPGRADE), "ndjson": ("/ndjson", ""), "sse": ("/sse", "")}
KIND_NAMES = tuple(KINDS)
_SMALL = 4096  # bytes of receive buffer of those that never read


class Reader(asyncio.Protocol):
    """One reader.

    Attributes:
        next: the ``u`` that comes next.
        lost, repeated: ticks that did not come when they should have, and those that came again.
        notices: names of the notices that came, but hello.
        idle: it never reads.
    """

    def __init__(self, kind: str, first: int, idle: bool) -> None:
        self.kind, self.next, self.idle = kind, first, idle
        self.lost = self.repeated = 0
        self.notices: list[str] = []
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._goal: tuple[int, asyncio.Future[None]] | None = None
        self._wanted = 0  # bytes without which there is nothing to do

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.begun, self._goal[1] if self._goal else None):
            if future is not None and not future.done():
                future.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._wanted -= len(data)
        if self._wanted > 0:
            return
        data = b"".join(self._parts)
        if not self.begun.done():
            _, end, data = data.partition(b"\r\n\r\n")
            if not end:
                return
            self.begun.set_result(None)
            if self.idle and self.transport is not None:
                self.transport.pause_reading()
        rest = self._frames(data) if self.kind == "ws" else self._lines(data)
        self._parts = [rest] if rest else []
        if self._goal is not None and self.next >= self._goal[0] and not self._goal[1].done():
            self._goal[1].set_result(None)

    async def reach(self, upto: int) -> None:
        """Returns when tick ``upto`` - 1 came, or the connection is gone."""
        if self.next < upto and self.transport is not None and not self.transport.is_closing():
            self._goal = upto, asyncio.get_running_loop().create_future()
            await self._goal[1]

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _lines(self, data: bytes) -> bytes:
        *lines, rest = data.split(b"\n")
        for line in lines:
            begin = line.find(b"{", 0, 7)  # "data: {" or "{"; chunks' sizes have none
            if begin in (0, 6):
                self._take(line[begin:])
        self._wanted = 1 if not rest else 0
        return rest

    def _frames(self, data: bytes) -> bytes:
        at = 0
        while len(data) - at >= 2:
            size, body = data[at + 1], at + 2
            if size == 126 and len(data) - at >= 4:
                (size,), body = struct.unpack_from("!H", data, at + 2), at + 4
            elif size == 127 and len(data) - at >= 10:
                (size,), body = struct.unpack_from("!Q", data, at + 2), at + 10
            elif size > 125:
                break
            if body + size > len(data):
                self._wanted = body + size - len(data)
                break
            if data[at] == 0x81:
                self._take(data[body : body + size])
            at = body + size
        return data[at:]

    def _take(self, message: bytes) -> None:
        at = message.find(b'"u":', 0, 40)
        if at < 0:
            name = json.loads(message).get("notice", "?")
            if name != "hello":
                self.notices.append(name)
            return
        u = int(message[at + 4 : message.index(b",", at)])
        if u < self.next:
            self.repeated += 1
        else:
            self.lost += u - self.next
            self.next = u + 1


async def knock(port: int, kind: str, query: str, first: int, idle: bool = False, below: str = "") -> Reader:
    """A reader that has connected and asked, ``below`` a path; it is in once ``begun`` is done."""
    path, headers = KINDS[kind]
    sock = socket.socket()
    sock.setblocking(False)
    if idle:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    transport, reader = await loop.create_connection(lambda: Reader(kind, first, idle), sock=sock)
    transport.write(f"GET {below}{path}?{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
    return reader

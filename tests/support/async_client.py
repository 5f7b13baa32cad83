"""HTTP and WebSocket as bytes on a socket: no more than the conformance suite needs, and nothing of the gateway's.

A connection is read only when somebody asks, so that a reader stalls by not asking. What arrives is checked strictly:
these are no clients that make the best of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Self

from multidict import CIMultiDict

from tests.support.frames import CLOSE, PING, PONG, TEXT, frame
from tick_gateway.bench.decoders import ChunkedDecoder, WebSocketDecoder, WebSocketMessage, content_decoder

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_OPEN: list[asyncio.StreamWriter] = []  # every connection, so that none outlives its test
_READ_BYTES = 1 << 16
_SMALL = 4096  # bytes of receive buffer: a reader that stalls is felt soon


class Response:
    """An HTTP response whose head has come; its body is read when asked for."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str) -> None:
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.version, status, *_ = first.split(" ", 2)
        self.status = int(status)
        self.headers: CIMultiDict[str] = CIMultiDict()
        for line in lines:
            name, _, value = line.partition(":")
            self.headers.add(name, value.strip())
        self.reader, self.writer = reader, writer
        self.ended = False  # the body came to its proper end
        self._bodiless = method == "HEAD" or self.status in (101, 204, 304)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body's content as it comes: chunk by chunk where it is chunked."""
        coding = self.headers.get("Content-Encoding", "")
        decoder = content_decoder(coding, strict=True)
        async for piece in self.coded():
            yield decoder.feed(piece)
        assert decoder.whole, f"the body ends inside its {coding}"

    async def coded(self) -> AsyncIterator[bytes]:
        """The same, as its content coding left it."""
        length = self.headers.get("Content-Length")
        if self._bodiless:
            pass
        elif self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunked = ChunkedDecoder(strict=True)
            while not chunked.ended:
                if not (data := await self.reader.read(_READ_BYTES)):
                    raise asyncio.IncompleteReadError(b"", None)
                for piece in chunked.feed(data):
                    yield piece
        elif length is not None:
            yield await self.reader.readexactly(int(length))
        else:
            while piece := await self.reader.read(_READ_BYTES):
                yield piece
        self.ended = True

    async def lines(self) -> AsyncIterator[bytes]:
        """The body's lines, without their LF; what is cut off at the end is no line."""
        rest = b""
        async for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line
        assert not rest, f"the body ends inside a line: {rest!r:.100}"

    async def read(self) -> bytes:
        """The whole body; closes the connection."""
        body = b"".join([piece async for piece in self.pieces()])
        self.close()
        return body

    async def json(self) -> Any:
        return json.loads(await self.read())

    def close(self) -> None:
        self.writer.close()


async def request(
    port: int,
    target: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    version: str = "1.1",
    body: bytes = b"",
    small: bool = False,
) -> Response:
    """Send a request on a connection of its own and read the response's head. ``small``: a small receive buffer."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=_SMALL if small else 1 << 20)
    _OPEN.append(writer)
    fields = {"Host": f"127.0.0.1:{port}"} | ({"Content-Length": str(len(body))} if body else {}) | dict(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"{method} {target} HTTP/{version}\r\n{head}\r\n".encode() + body)
    try:
        return Response(await reader.readuntil(b"\r\n\r\n"), reader, writer, method)
    except BaseException:
        writer.close()
        raise


def close_all() -> None:
    """Close every connection that was opened here. For the end of a test."""
    while _OPEN:
        with contextlib.suppress(RuntimeError):  # of an earlier test, whose loop is closed
            _OPEN.pop().close()


class Closed(Exception):
    """The peer closed the WebSocket. ``code`` is None where the connection ended without a close frame."""

    def __init__(self, code: int | None, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"closed with {code} {reason!r}")


class Refused(Exception):
    """The server answered, but not with what was asked for."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(f"refused with status {response.status}")


class WebSocket:
    """The client's end of a WebSocket (RFC 6455), with permessage-deflate (RFC 7692) where it was agreed on."""

    def __init__(self, response: Response) -> None:
        self.response = response
        extension = response.headers.get("Sec-WebSocket-Extensions", "")
        takeover = "server_no_context_takeover" not in extension
        self._decoder = WebSocketDecoder(bool(extension), takeover, strict=True)
        self._frames: list[WebSocketMessage] = []  # that came and nobody has asked for
        self._pongs: list[bytes] = []

    @property
    def compressed(self) -> int:
        """Messages that came compressed."""
        return self._decoder.compressed

    @classmethod
    async def connect(cls, port: int, target: str, headers: Mapping[str, str] | None = None, **kw: Any) -> Self:
        """Raises Refused where the server does not upgrade."""
        key = base64.b64encode(os.urandom(16))
        opening = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key.decode(),
        }
        response = await request(port, target, headers=opening | dict(headers or {}), **kw)
        if response.status != 101:
            raise Refused(response)
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        assert response.headers["Sec-WebSocket-Accept"] == accept
        assert "Sec-WebSocket-Extensions" in (headers or {}) or "Sec-WebSocket-Extensions" not in response.headers
        return cls(response)

    async def frame(self) -> WebSocketMessage:
        """The next frame, whatever it is. Raises Closed where the connection ends without a close frame."""
        while not self._frames:
            try:
                data = await self.response.reader.read(_READ_BYTES)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed(None, "")
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    async def message(self) -> str:
        """The next text message. Answers pings and the close, which it raises as Closed."""
        while True:
            opcode, payload = await self.frame()
            if opcode == TEXT:
                return payload.decode()
            if opcode == PING:
                self.send(payload, PONG)
            elif opcode == PONG:
                self._pongs.append(payload)
            else:
                assert opcode == CLOSE, f"a frame of opcode {opcode}"
                assert len(payload) <= 125
                with contextlib.suppress(ConnectionError):
                    self.send(payload[:2], CLOSE)
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                raise Closed(code, payload[2:].decode())

    def send(self, payload: bytes | str, opcode: int = TEXT, *, fin: bool = True) -> None:
        """Send one frame."""
        self.send_raw(frame(opcode, payload.encode() if isinstance(payload, str) else payload, fin=fin))

    def send_raw(self, data: bytes) -> None:
        self.response.writer.write(data)

    def command(self, **members: Any) -> None:
        """Send a command of the gateway's: a JSON object."""
        self.send(json.dumps(members))

    def close(self) -> None:
        self.response.close()


def elements(array: str) -> list[str]:
    """The elements of a JSON array, each exactly as it stands in the text."""
    assert isinstance(json.loads(array), list)
    return list(_values(array, 1))


def members(text: str) -> dict[str, str]:
    """The members of a JSON object, each value exactly as it stands in the text."""
    assert isinstance(json.loads(text), dict)
    found = list(_values(text, 1))
    return {json.loads(name): value for name, value in zip(found[::2], found[1::2], strict=True)}


def _values(text: str, at: int) -> Iterator[str]:
    """The values behind ``at`` in an array or object that is known to be valid JSON."""
    decoder = json.JSONDecoder()
    while True:
        while text[at] in " ,:\t\r\n":
            at += 1
        if text[at] in "]}":
            return
        _, end = decoder.raw_decode(text, at)
        yield text[at:end]
        at = end

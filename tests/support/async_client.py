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
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple, Self

import zstandard
from multidict import CIMultiDict

TEXT, BINARY, CLOSE, PING, PONG, CONT = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_OPEN: list[asyncio.StreamWriter] = []  # every connection, so that none outlives its test
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
        coding = self.headers.get("Content-Encoding")
        decoders: dict[str | None, type[Frames | Gunzip | Plain]] = {"zstd": Frames, "gzip": Gunzip, None: Plain}
        decoder = decoders[coding]()
        async for piece in self.coded():
            yield decoder.feed(piece)
        assert decoder.whole, f"the body ends inside its {coding}"

    async def coded(self) -> AsyncIterator[bytes]:
        """The same, as its content coding left it."""
        length = self.headers.get("Content-Length")
        if self._bodiless:
            pass
        elif self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
                piece = await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n", "a chunk does not end where it said"
                yield piece
            assert await self.reader.readexactly(2) == b"\r\n", "trailers were not announced"
        elif length is not None:
            yield await self.reader.readexactly(int(length))
        else:
            while piece := await self.reader.read(65536):
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


class Frames:
    """Decodes zstd frames (RFC 8878), one behind the other."""

    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor().decompressobj()
        self.whole = True  # the last frame came to its end

    def feed(self, data: bytes) -> bytes:
        found: list[bytes] = []
        while data:
            found.append(self._decoder.decompress(data))
            self.whole, data = self._decoder.eof, self._decoder.unused_data if self._decoder.eof else b""
            if self.whole:
                self._decoder = zstandard.ZstdDecompressor().decompressobj()
        return b"".join(found)


class Gunzip:
    """Decodes one gzip member (RFC 1952) and its trailer; what was flushed is there at once."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def whole(self) -> bool:
        return self._stream.eof

    def feed(self, data: bytes) -> bytes:
        assert not self._stream.eof, "something follows the member"
        found = self._stream.decompress(data)
        assert not self._stream.unused_data, "something follows the member"
        return found


class Plain:
    """No content coding."""

    whole = True

    def feed(self, data: bytes) -> bytes:
        return data


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


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    fin: bool = True


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
    """The client's end of a WebSocket (RFC 6455), with permessage-deflate (RFC 7692) where it was agreed on.

    Attributes:
        compressed: messages that came compressed.
    """

    def __init__(self, response: Response) -> None:
        self.response = response
        self.compressed = 0
        self._extension = response.headers.get("Sec-WebSocket-Extensions", "")
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._pongs: list[bytes] = []

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

    async def frame(self) -> Frame:
        """The next frame, whatever it is. Raises Closed where the connection ends without a close frame."""
        reader = self.response.reader
        try:
            first, second = await reader.readexactly(2)
            deflated = bool(first & 0x40)
            assert not first & (0x30 if self._extension else 0x70), "a reserved bit that nothing was agreed on for"
            assert not second & 0x80, "a server's frame is masked"
            size = second
            if second == 126:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
            elif second == 127:
                (size,) = struct.unpack("!Q", await reader.readexactly(8))
            payload = await reader.readexactly(size)
            return Frame(first & 0x0F, self._inflated(payload) if deflated else payload, bool(first & 0x80))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            raise Closed(None, "") from None

    def _inflated(self, payload: bytes) -> bytes:
        self.compressed += 1
        data = self._inflate.decompress(payload + b"\x00\x00\xff\xff")
        if "server_no_context_takeover" in self._extension:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return data

    async def message(self) -> str:
        """The next text message. Answers pings and the close, which it raises as Closed."""
        while True:
            opcode, payload, fin = await self.frame()
            assert fin, "the gateway fragments nothing"
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

    def send(self, payload: bytes | str, opcode: int = TEXT, *, fin: bool = True, masked: bool = True) -> None:
        """Send one frame, masked as a client's has to be."""
        self.send_raw(frame(payload, opcode, fin=fin, masked=masked))

    def send_raw(self, data: bytes) -> None:
        self.response.writer.write(data)

    def command(self, **members: Any) -> None:
        """Send a command of the gateway's: a JSON object."""
        self.send(json.dumps(members))

    def close(self) -> None:
        self.response.close()


def frame(payload: bytes | str, opcode: int = TEXT, *, fin: bool = True, masked: bool = True) -> bytes:
    """One client frame."""
    data = payload.encode() if isinstance(payload, str) else payload
    flag = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | opcode])
    if len(data) < 126:
        head += bytes([flag | len(data)])
    elif len(data) < 65536:
        head += struct.pack("!BH", flag | 126, len(data))
    else:
        head += struct.pack("!BQ", flag | 127, len(data))
    if not masked:
        return head + data
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


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

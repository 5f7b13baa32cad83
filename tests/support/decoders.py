"""Readers of what the gateway writes, written from the specifications and from nothing of the gateway's.

Each is fed bytes as they come, in pieces of any size, and gives what became whole. They are strict: what a browser
would pass over in silence fails here.
"""

import json
import struct
import zlib
from typing import NamedTuple

import zstandard


class Message(NamedTuple):
    """One message as a client meets it.

    Attributes:
        name: SSE's event name; ``message`` where the format has none; ``close`` and ``ping`` on WebSocket.
        data: the content.
        id: SSE's last event id; None where this message set none, and on other transports.
        code: of a close frame.
    """

    name: str
    data: bytes
    id: str | None = None
    code: int | None = None


class Chunked:
    """An HTTP/1.1 chunked body (RFC 9112, section 7.1) without extensions or trailers."""

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        self._rest += data
        out: list[bytes] = []
        while not self.ended:
            line, found, rest = self._rest.partition(b"\r\n")
            if not found:
                assert len(self._rest) < 20, f"no chunk size in {self._rest[:40]!r}"
                break
            assert line and set(line) <= set(b"0123456789abcdefABCDEF"), f"{line!r} is no chunk size"
            size = int(line, 16)
            if len(rest) < size + 2:
                break
            assert rest[size : size + 2] == b"\r\n", "a chunk does not end where its size says"
            out.append(rest[:size])
            self._rest = rest[size + 2 :]
            self.ended = size == 0
        assert not (self.ended and self._rest), f"{self._rest[:40]!r} behind the last chunk"
        return b"".join(out)


class ZstdFrames:
    """Zstandard frames, one after another (RFC 8878), and nothing between them."""

    def __init__(self) -> None:
        self._magic = b""
        self._frame: zstandard.ZstdDecompressionObj | None = None

    @property
    def whole(self) -> bool:
        """Whether what came so far ends where a frame does."""
        return self._frame is None and not self._magic

    def feed(self, data: bytes) -> bytes:
        out: list[bytes] = []
        while data:
            if self._frame is None:
                self._magic, data = (self._magic + data)[:4], data[4 - len(self._magic) :]
                if len(self._magic) < 4:
                    break
                assert self._magic == b"\x28\xb5\x2f\xfd", f"no frame begins with {self._magic!r}"
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                data, self._magic = self._magic + data, b""
            out.append(self._frame.decompress(data))
            if not self._frame.eof:
                break
            data, self._frame = self._frame.unused_data, None
        return b"".join(out)


class Gunzip:
    """One gzip member (RFC 1952) and nothing behind it; what was flushed is there at once."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def whole(self) -> bool:
        """Whether the member's trailer has come, which zlib has compared with what it decompressed."""
        return self._stream.eof

    def feed(self, data: bytes) -> bytes:
        assert not data or not self._stream.eof, "something follows the member"
        found = self._stream.decompress(data)
        assert not self._stream.unused_data, "something follows the member"
        return found


class Plain:
    """No content coding."""

    whole = True

    def feed(self, data: bytes) -> bytes:
        return data


DECODERS: dict[str, type[Gunzip | ZstdFrames]] = {"gzip": Gunzip, "zstd": ZstdFrames}
"""By the name of the content coding; a test asserts that each coding of the gateway has one."""


class EventStream:
    """Server-Sent Events (WHATWG HTML, section 9.2.6)."""

    def __init__(self) -> None:
        self.retry: int | None = None
        self.comments = 0
        self._rest = b""
        self._clear()

    def _clear(self) -> None:
        self._event, self._id = "", None
        self._data: list[bytes] = []

    _id: str | None

    def feed(self, data: bytes) -> list[Message]:
        self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        found: list[Message] = []
        for line in lines:
            assert b"\r" not in line
            if line:
                self._field(line)
                continue
            assert self._data, "a blank line without data: several clients make an empty event of it"
            found.append(Message(self._event or "message", b"\n".join(self._data), self._id))
            self._clear()
        return found

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"":
                self.comments += 1
            case b"data":
                self._data.append(value)
            case b"event":
                self._event = value.decode()
            case b"id":
                assert b"\0" not in value
                self._id = value.decode()
            case b"retry":
                self.retry = int(value)
            case _:
                raise AssertionError(f"a field that EventSource does not know: {line!r}")


class Lines:
    """NDJSON; blank lines are heartbeats."""

    def __init__(self) -> None:
        self.blank = 0
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        self.blank += lines.count(b"")
        return [Message("message", line) for line in lines if line]


class Frames:
    """A server's WebSocket frames (RFC 6455, section 5): unmasked, unfragmented, shortest length.

    Args:
        coding: ``deflate``: text may be compressed (RFC 7692); ``alone``: without ``server_context_takeover``.
    """

    def __init__(self, coding: str = "") -> None:
        self.closed = False
        self.compressed = 0  # messages that were
        self._coding = coding
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        self._rest += data
        found: list[Message] = []
        while (one := self._one()) is not None:
            assert not self.closed, f"{one} behind a close frame"
            found.append(one)
            self.closed = one.name == "close"
        return found

    def _one(self) -> Message | None:
        rest = self._rest
        if len(rest) < 2:
            return None
        first, size, at = rest[0], rest[1], 2
        deflated = bool(self._coding) and first == 0xC1
        assert first & 0xF0 == 0x80 or deflated, f"a fragment or a reserved bit: {first:#x}"
        assert size < 0x80, "a server must not mask"
        for marker, form, least in ((126, "!H", 126), (127, "!Q", 65536)):
            if size == marker:
                at = 2 + struct.calcsize(form)
                if len(rest) < at:
                    return None
                (size,) = struct.unpack(form, rest[2:at])
                assert size >= least, "a length that fits a shorter form"
                break
        if len(rest) < at + size:
            return None
        payload, self._rest = rest[at : at + size], rest[at + size :]
        if deflated:
            self.compressed += 1
            payload = self._inflate.decompress(payload + b"\x00\x00\xff\xff")
            if self._coding == "alone":
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._message(first & 0x0F, payload)

    @staticmethod
    def _message(opcode: int, payload: bytes) -> Message:
        if opcode == 1:
            payload.decode()
            return Message("message", payload)
        assert len(payload) <= 125, "a control frame is at most 125 bytes long"
        if opcode == 8:
            (code,) = struct.unpack("!H", payload[:2])
            payload[2:].decode()
            return Message("close", payload[2:], None, code)
        return Message({9: "ping", 10: "pong"}[opcode], payload)


def masked(opcode: int, payload: bytes, *, fin: bool = True, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A client's frame."""
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def command(**members: object) -> bytes:
    """A client's text message: one command."""
    return masked(1, json.dumps(members).encode())

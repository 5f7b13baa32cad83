"""What a gateway answers, read as it comes, in pieces of any size.

From the wire inwards: the head of an answer, chunks, the content's coding, then lines or WebSocket messages. Pure:
bytes in, bytes out. What is no proper answer raises ``Broken``.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final, Protocol

import zstandard

_MAX_HEAD: Final = 64 * 1024
_MAX_SIZE_LINE: Final = 1024


class Broken(Exception):
    """What came is no answer that can be read; its text says why."""


@dataclass(slots=True)
class Head:
    """An answer's status, and its headers by their lower-case names."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


def parse_head(data: bytes) -> tuple[Head, bytes] | None:
    """The head at the beginning, and what stands behind it; None where it is not there as a whole yet.

    Raises:
        Broken: there will be none.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        if len(data) > _MAX_HEAD:
            raise Broken("an answer's head does not end")
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
        raise Broken(f"no HTTP answer begins with {first[:40]!r}")
    pairs = (line.partition(":") for line in lines)
    return Head(int(status[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}), rest


class Chunks:
    """A body in chunks (RFC 9112, section 7.1), without trailers.

    Attributes:
        ended: the last chunk came, with what ends it.
    """

    def __init__(self) -> None:
        self.ended = False
        self._line = b""  # of a size, as far as it came
        self._left = 0  # bytes of content that are still to come in this chunk
        self._skip = 0  # bytes of the line break behind it
        self._last = False

    def feed(self, data: bytes) -> bytes:
        """The content in these bytes."""
        at, out = 0, list[bytes]()
        while at < len(data) and not self.ended:
            if self._left:
                out.append(data[at : at + self._left])
                at, self._left = at + len(out[-1]), self._left - len(out[-1])
                self._skip = 0 if self._left else 2
            elif self._skip:
                taken = min(self._skip, len(data) - at)
                at, self._skip = at + taken, self._skip - taken
                self.ended = self._last and not self._skip
            else:
                at = self._size(data, at)
        return b"".join(out)

    def _size(self, data: bytes, at: int) -> int:
        """Read a chunk's size; returns where its content begins, or the end of the data."""
        end = data.find(b"\n", at)
        self._line += data[at : end if end >= 0 else len(data)]
        if len(self._line) > _MAX_SIZE_LINE:
            raise Broken("a chunk without a size")
        if end < 0:
            return len(data)
        try:
            self._left = int(self._line.partition(b";")[0], 16)
        except ValueError:
            raise Broken(f"{self._line[:20]!r} is no chunk's size") from None
        self._line = b""
        if not self._left:
            self._last, self._skip = True, 2
        return end + 1


class Coding(Protocol):
    """Undoes a content coding, piece by piece."""

    def feed(self, data: bytes) -> bytes: ...


class Identity:
    def feed(self, data: bytes) -> bytes:
        return data


class Gzip:
    """gzip (RFC 1952), members one after another."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(31)

    def feed(self, data: bytes) -> bytes:
        out: list[bytes] = []
        while data:
            try:
                out.append(self._member.decompress(data))
            except zlib.error as error:
                raise Broken(f"no gzip: {error}") from None
            data = b""
            if self._member.eof:
                data, self._member = self._member.unused_data, zlib.decompressobj(31)
        return b"".join(out)


class Deflate:
    """deflate as HTTP has it: in zlib's wrapper (RFC 1950), or, as some send it, without."""

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None
        self._head = b""

    def feed(self, data: bytes) -> bytes:
        if self._stream is None:
            self._head += data
            if len(self._head) < 2:
                return b""
            data, self._head = self._head, b""
            wrapped = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._stream = zlib.decompressobj(15 if wrapped else -15)
        try:
            return self._stream.decompress(data)
        except zlib.error as error:
            raise Broken(f"no deflate: {error}") from None


class Zstd:
    """Zstandard frames, one after another (RFC 8878), those to be skipped included."""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj(read_across_frames=False)

    def feed(self, data: bytes) -> bytes:
        out: list[bytes] = []
        while data:
            try:
                out.append(self._frame.decompress(data))
            except zstandard.ZstdError as error:
                raise Broken(f"no zstd: {error}") from None
            data = b""
            if self._frame.eof:
                data = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj(read_across_frames=False)
        return b"".join(out)


_CODINGS: Final[dict[str, type[Coding]]] = {
    "identity": Identity,
    "gzip": Gzip,
    "deflate": Deflate,
    "zstd": Zstd,
}


class Body:
    """The content of an answer, decoded.

    Attributes:
        coding: how it was encoded; ``identity`` for not at all.
        ended: all of it came.
    """

    def __init__(self, head: Head) -> None:
        self.coding = head.headers.get("content-encoding", "").strip().lower() or "identity"
        if self.coding not in _CODINGS:
            raise Broken(f"a content coding that nobody asked for: {self.coding[:40]}")
        self._coding = _CODINGS[self.coding]()
        chunked = head.headers.get("transfer-encoding", "").lower() == "chunked"
        self._chunks = Chunks() if chunked else None
        length = head.headers.get("content-length", "")
        self._left = int(length) if length.isdecimal() and not chunked else None  # None: until the connection ends
        self.ended = self._left == 0

    def feed(self, data: bytes) -> bytes:
        """The decoded content in these bytes."""
        if self._chunks is not None:
            data = self._chunks.feed(data)
            self.ended = self._chunks.ended
        elif self._left is not None:
            self._left -= len(data)
            self.ended = self._left <= 0
        return self._coding.feed(data)


class Lines:
    """Gives text up to its last line break, so that no line is given before it is whole."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        end = data.rfind(b"\n") + 1
        if not end:
            self._parts.append(data)
            return b""
        self._parts.append(data[:end])
        whole = b"".join(self._parts)
        self._parts = [data[end:]] if end < len(data) else []
        return whole


class Frames:
    """WebSocket frames from a server (RFC 6455), with permessage-deflate (RFC 7692) where it was negotiated.

    Attributes:
        answers: content of the pings that are still to be answered.
        closed: a close frame's code, None as long as there was none.
    """

    def __init__(self, deflate: bool = False, takeover: bool = True) -> None:
        self.answers: list[bytes] = []
        self.closed: int | None = None
        self._deflate, self._takeover = deflate, takeover
        self._inflater = zlib.decompressobj(-15)
        self._buffer = bytearray()
        self._message: list[bytes] = []
        self._compressed = False

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that became whole."""
        buffer = self._buffer
        buffer += data
        at, out = 0, list[bytes]()
        while (frame := _frame(buffer, at)) is not None:
            first, begin, end = frame
            payload, at = bytes(buffer[begin:end]), end
            opcode = first & 0x0F
            if opcode == 0x9:
                self.answers.append(payload)
            elif opcode == 0x8:
                self.closed = int.from_bytes(payload[:2], "big")
            elif opcode < 0x3:
                self._compressed = bool(first & 0x40) if opcode else self._compressed
                self._message.append(payload)
                if first & 0x80:
                    out.append(self._whole())
        del buffer[:at]
        return out

    def _whole(self) -> bytes:
        message, self._message = b"".join(self._message), []
        if not self._compressed:
            return message
        if not self._deflate:
            raise Broken("a compressed message without permessage-deflate")
        try:
            text = self._inflater.decompress(message + b"\x00\x00\xff\xff")
        except zlib.error as error:
            raise Broken(f"no deflate: {error}") from None
        if not self._takeover or self._inflater.eof:
            self._inflater = zlib.decompressobj(-15)
        return text


def _frame(buffer: bytearray, at: int) -> tuple[int, int, int] | None:
    """A frame's first byte, and where its payload begins and ends; None where it is not there as a whole."""
    if len(buffer) - at < 2:
        return None
    size, begin = buffer[at + 1], at + 2
    if size >= 0x80:
        raise Broken("a server must not mask")
    if size >= 126:
        begin += 2 if size == 126 else 8
        if len(buffer) < begin:
            return None
        size = int.from_bytes(buffer[at + 2 : begin], "big")
    return (buffer[at], begin, begin + size) if begin + size <= len(buffer) else None

"""Decoders for the gateway's answers, fed in pieces of any size.

From the outside inwards: the head of an answer, chunks, the content coding, then lines or WebSocket messages. The bench
and the tests use these. They are written from the specifications and share nothing with the gateway's encoders, so that
they reveal its faults. Pure: bytes in, bytes out. An invalid answer raises ``AnswerError``.

``strict`` is for tests: what the standards allow but a gateway never sends is an error, too.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import zstandard

_MAX_HEAD: Final = 64 * 1024
_MAX_SIZE_LINE: Final = 1024
_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]+)[ \t]*(;[^\r\n]*)?\r?")
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_CONTROL: Final = 0x8  # the bit of an opcode that control frames have
_CONTINUATION, _TEXT, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x8, 0x9, 0xA
_MAX_CONTROL: Final = 125  # bytes of a control frame's payload


class AnswerError(Exception):
    """The answer cannot be read; the message says why."""


@dataclass(slots=True)
class AnswerHead:
    """An answer's status, and its headers by their lower-case names."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


def parse_head(data: bytes) -> tuple[AnswerHead, bytes] | None:
    """The head at the beginning, and what follows it; None: it is incomplete.

    Raises:
        AnswerError: it is invalid.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        if len(data) > _MAX_HEAD:
            raise AnswerError("an answer's head does not end")
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
        raise AnswerError(f"no HTTP answer begins with {first[:40]!r}")
    pairs = (line.partition(":") for line in lines)
    return AnswerHead(int(status[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}), rest


# ---- chunks ----


class ChunkedDecoder:
    """A body in chunks (RFC 9112, section 7.1), without trailers.

    Args:
        strict: no chunk has an extension, and nothing follows the last one.

    Attributes:
        ended: the last chunk is complete.
    """

    def __init__(self, strict: bool = False) -> None:
        self.ended = False
        self._strict = strict
        self._line = b""  # of a size, as far as received
        self._left = 0  # bytes of content still to come in this chunk
        self._break = b""  # what is still to come of the line break after it
        self._last = False

    def feed(self, data: bytes) -> list[bytes]:
        """The content in these bytes: one item for each chunk that they contain a part of."""
        at, found = 0, list[bytes]()
        while at < len(data) and not self.ended:
            if self._left:
                found.append(data[at : at + self._left])
                at, self._left = at + len(found[-1]), self._left - len(found[-1])
                self._break = b"" if self._left else b"\r\n"
            elif self._break:
                taken = len(self._break) if data.startswith(self._break, at) else len(data) - at
                if data[at : at + taken] != self._break[:taken]:
                    raise AnswerError("a chunk does not end where its size says")
                at, self._break = at + taken, self._break[taken:]
                self.ended = self._last and not self._break
            else:
                at = self._size(data, at)
        if self._strict and at < len(data):
            raise AnswerError(f"{data[at : at + 40]!r} behind the last chunk")
        return found

    def _size(self, data: bytes, at: int) -> int:
        """Parse a chunk's size; returns where its content begins, or the end of the data."""
        end = data.find(b"\n", at)
        self._line += data[at : end if end >= 0 else len(data)]
        if len(self._line) > _MAX_SIZE_LINE:
            raise AnswerError("a chunk without a size")
        if end < 0:
            return len(data)
        found = _SIZE.fullmatch(self._line)
        if found is None or (self._strict and found[2]):
            raise AnswerError(f"{self._line[:20]!r} is no chunk's size")
        self._left = int(found[1], 16)
        self._line = b""
        if not self._left:
            self._last, self._break = True, b"\r\n"
        return end + 1


# ---- content codings ----


class ContentDecoder(Protocol):
    """Decodes a content coding, piece by piece; flushed data is available at once."""

    @property
    def whole(self) -> bool:
        """Whether the content so far may be complete."""
        ...

    def feed(self, data: bytes) -> bytes: ...


class IdentityContent:
    """No coding."""

    whole = True

    def __init__(self, strict: bool = False) -> None:
        pass

    def feed(self, data: bytes) -> bytes:
        return data


class GzipContent:
    """gzip (RFC 1952), members one after another; ``strict``: one member."""

    def __init__(self, strict: bool = False) -> None:
        self._strict = strict
        self._member = zlib.decompressobj(31)
        self._between = False  # a member has ended, and no other has begun

    @property
    def whole(self) -> bool:
        return self._between

    def feed(self, data: bytes) -> bytes:
        found: list[bytes] = []
        while data:
            if self._between:
                if self._strict:
                    raise AnswerError("something follows the gzip member")
                self._member = zlib.decompressobj(31)
            try:
                found.append(self._member.decompress(data))
            except zlib.error as error:
                raise AnswerError(f"no gzip: {error}") from None
            self._between = self._member.eof
            data = self._member.unused_data
        return b"".join(found)


class DeflateContent:
    """deflate as HTTP has it: in zlib's wrapper (RFC 1950), or, as some send it, without."""

    def __init__(self, strict: bool = False) -> None:
        self._stream: zlib._Decompress | None = None
        self._head = b""

    @property
    def whole(self) -> bool:
        return self._stream is not None and self._stream.eof

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
            raise AnswerError(f"no deflate: {error}") from None


class ZstdContent:
    """Zstandard frames, one after another (RFC 8878); ``strict``: none that is to be skipped."""

    def __init__(self, strict: bool = False) -> None:
        self._strict = strict
        self._head = b""  # of a frame, as far as it came
        self._frame: zstandard.ZstdDecompressionObj | None = None

    @property
    def whole(self) -> bool:
        return self._frame is None and not self._head

    def feed(self, data: bytes) -> bytes:
        found: list[bytes] = []
        while data:
            if self._frame is None:
                data, self._head = self._head + data, b""
                if len(data) < len(_ZSTD_MAGIC):
                    self._head = data
                    break
                if self._strict and not data.startswith(_ZSTD_MAGIC):
                    raise AnswerError(f"no zstd: a frame begins with {data[:4]!r}")
                self._frame = zstandard.ZstdDecompressor().decompressobj(read_across_frames=False)
            try:
                found.append(self._frame.decompress(data))
            except zstandard.ZstdError as error:
                raise AnswerError(f"no zstd: {error}") from None
            data = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        return b"".join(found)


_CONTENT_DECODERS: Final[dict[str, type[IdentityContent | GzipContent | DeflateContent | ZstdContent]]] = {
    "identity": IdentityContent,
    "gzip": GzipContent,
    "deflate": DeflateContent,
    "zstd": ZstdContent,
}


def content_decoder(coding: str, strict: bool = False) -> ContentDecoder:
    """The decoder for a ``Content-Encoding``; empty: none.

    Raises:
        AnswerError: the coding was not requested.
    """
    name = coding.strip().lower() or "identity"
    if name not in _CONTENT_DECODERS:
        raise AnswerError(f"a content coding that nobody asked for: {name[:40]}")
    return _CONTENT_DECODERS[name](strict)


class BodyDecoder:
    """The content of an answer.

    Attributes:
        coding: how it was encoded; ``identity`` for not at all.
        ended: all of it was received.
    """

    def __init__(self, head: AnswerHead) -> None:
        self.coding = head.headers.get("content-encoding", "").strip().lower() or "identity"
        self._decoder = content_decoder(self.coding)
        chunked = head.headers.get("transfer-encoding", "").lower() == "chunked"
        self._chunked = ChunkedDecoder() if chunked else None
        length = head.headers.get("content-length", "")
        self._left = int(length) if length.isdecimal() and not chunked else None  # None: until the connection ends
        self.ended = self._left == 0

    def feed(self, data: bytes) -> bytes:
        """The decoded content in these bytes."""
        if self._chunked is not None:
            data = b"".join(self._chunked.feed(data))
            self.ended = self._chunked.ended
        elif self._left is not None:
            self._left -= len(data)
            self.ended = self._left <= 0
        return self._decoder.feed(data)


# ---- what the content holds ----


class WholeLines:
    """Returns text up to its last line break, so that every line is complete."""

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


class WebSocketMessage(NamedTuple):
    """A message, or a control frame."""

    opcode: int
    payload: bytes


class WebSocketDecoder:
    """WebSocket frames from a server (RFC 6455), with permessage-deflate (RFC 7692) where it was negotiated.

    Args:
        deflate, takeover: it was negotiated, and the server keeps its window from one message to the next.
        strict: text alone, in one frame a message, which says its length in the shortest way; nothing behind a close.

    Attributes:
        compressed: messages that were.
        closed: a close frame came.
    """

    def __init__(self, deflate: bool = False, takeover: bool = True, strict: bool = False) -> None:
        self.compressed = 0
        self.closed = False
        self._deflate, self._takeover, self._strict = deflate, takeover, strict
        self._inflater = zlib.decompressobj(-15)
        self._buffer = bytearray()
        self._parts: list[bytes] = []  # of an incomplete message
        self._inflating = False  # it is compressed

    def feed(self, data: bytes) -> list[WebSocketMessage]:
        """The messages that are complete now, and control frames, in the order in which they ended."""
        buffer = self._buffer
        buffer += data
        at, found = 0, list[WebSocketMessage]()
        while (frame := _frame(buffer, at)) is not None:
            first, begin, end = frame
            if self._strict:
                self._check(first, end - begin, begin - at)
            payload, at = bytes(buffer[begin:end]), end
            opcode = first & 0x0F
            if opcode & _CONTROL:
                self.closed = self.closed or opcode == _CLOSE
                found.append(WebSocketMessage(opcode, payload))
                continue
            self._inflating = bool(first & 0x40) if opcode != _CONTINUATION else self._inflating
            self._parts.append(payload)
            if first & 0x80:
                found.append(WebSocketMessage(opcode or _TEXT, self._whole()))
        del buffer[:at]
        return found

    def _whole(self) -> bytes:
        message, self._parts = b"".join(self._parts), []
        if self._inflating:
            message = self._inflated(message)
        if self._strict:
            try:
                message.decode()
            except UnicodeDecodeError as error:
                raise AnswerError(f"a text message that is no UTF-8: {error}") from None
        return message

    def _inflated(self, message: bytes) -> bytes:
        if not self._deflate:
            raise AnswerError("a compressed message without permessage-deflate")
        self.compressed += 1
        try:
            text = self._inflater.decompress(message + b"\x00\x00\xff\xff")
        except zlib.error as error:
            raise AnswerError(f"no deflate: {error}") from None
        if not self._takeover or self._inflater.eof:
            self._inflater = zlib.decompressobj(-15)
        return text

    def _check(self, first: int, size: int, head: int) -> None:
        """Check a frame in ``strict`` mode."""
        if self.closed:
            raise AnswerError("a frame behind a close frame")
        if first & 0xF0 != 0x80 and first != 0xC1:
            raise AnswerError(f"a fragment or a reserved bit: {first:#x}")
        if first & 0x0F not in (_TEXT, _CLOSE, _PING, _PONG):
            raise AnswerError(f"a frame of opcode {first & 0x0F}")
        if head != (2 if size < 126 else 4 if size < 65536 else 10):
            raise AnswerError("a length that fits a shorter form")
        if first & _CONTROL and size > _MAX_CONTROL:
            raise AnswerError("a control frame of more than 125 bytes")


def _frame(buffer: bytearray, at: int) -> tuple[int, int, int] | None:
    """A frame's first byte, and where its payload begins and ends; None: it is incomplete."""
    if len(buffer) - at < 2:
        return None
    size, begin = buffer[at + 1], at + 2
    if size >= 0x80:
        raise AnswerError("a server must not mask")
    if size >= 126:
        begin += 2 if size == 126 else 8
        if len(buffer) < begin:
            return None
        size = int.from_bytes(buffer[at + 2 : begin], "big")
    return (buffer[at], begin, begin + size) if begin + size <= len(buffer) else None

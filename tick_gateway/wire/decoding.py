"""Incremental decoding of publishers' compressed bodies, in steps of bounded output.

A decoder holds a window and the rest of one slice of input, but no output, so a decompression bomb costs time, step by
step, and no memory. Data is decoded as soon as the sender's compressor has flushed it. Several gzip members or zstd
frames may follow one another.

Pure: no I/O, no asyncio. The caller yields to the event loop between steps.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

import zstandard

from ..errors import BodyError
from .zstd_frame import (
    BLOCK_HEADER,
    LARGEST_BLOCK,
    MAGIC,
    RESERVED,
    SKIPPABLE_HEADER,
    ReservedBit,
    block_header,
    frame_header,
    header_size,
    is_skippable,
)

MAX_STEP: Final = LARGEST_BLOCK  # maximum output of a step, in bytes; no zstd block holds more
MAX_WINDOW: Final = 8 << 20  # maximum window of a zstd frame, in bytes: what RFC 9659 allows for HTTP
_SLICE: Final = 16 * 1024  # bytes of input handled at a time
_GZIP: Final = 16 + zlib.MAX_WBITS  # gzip, not zlib's own format


class DecodingError(BodyError):
    """400: the data is truncated, or is not in the declared coding."""


class Decoder(Protocol):
    """Decodes one body."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode data, in steps of at most ``MAX_STEP`` bytes, some of them empty.

        Consume every step: output is not kept. After an error, the body is over.

        Raises:
            DecodingError: the data is not in the coding, or exceeds a bound. Output before the fault was already
                yielded.
        """
        ...

    def end(self) -> None:
        """The body has ended.

        Raises:
            DecodingError: the coded data is incomplete.
        """
        ...


class IdentityDecoder:
    """No coding: bytes pass unchanged, in one step."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def end(self) -> None:
        pass


class GzipDecoder:
    """gzip (RFC 1952), member after member."""

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None  # None between two members
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _SLICE):
            rest, full = data[at : at + _SLICE], False
            while rest or full:  # after a full step, the member may hold more output without new input
                if self._member is None:
                    self._member = zlib.decompressobj(_GZIP)
                    self._members += 1
                member, before = self._member, self._member.copy()
                try:
                    piece = member.decompress(rest, MAX_STEP)
                except zlib.error as error:
                    yield _until_the_fault(before, rest)
                    raise self._broken(error) from None
                full, rest = len(piece) == MAX_STEP and not member.eof, member.unconsumed_tail
                if member.eof:
                    self._member, rest = None, member.unused_data
                yield piece

    def end(self) -> None:
        if self._member is not None:
            raise DecodingError("the gzip data breaks off before its end")

    def _broken(self, error: zlib.error) -> DecodingError:
        reason = str(error).rpartition(": ")[2]
        if self._members > 1 and reason == "incorrect header check":
            return DecodingError("something that is no gzip follows the gzip data")
        return DecodingError(f"the gzip data is broken: {reason}")


def _until_the_fault(member: zlib._Decompress, data: bytes) -> bytes:
    """The output of a member before the error in ``data``; zlib returns none from a call that fails."""
    parts: list[bytes] = []
    try:
        for at in range(len(data)):
            parts.append(member.decompress(data[at : at + 1], MAX_STEP))
    except zlib.error:
        pass
    return b"".join(parts)


class ZstdDecoder:
    """zstd (RFC 8878), frame after frame; skippable frames are skipped.

    The library does not bound the output of a call, so a step is the output of one block, and the structure of frames
    is parsed here.
    """

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        self._frame: zstandard.ZstdDecompressionObj | None = None  # None between two frames and in a skippable one
        self._frames = 0
        self._held = b""  # the start of an incomplete header
        self._body = b""  # a complete header, decoded together with what follows it
        self._left = 0  # bytes still to come of a block, a checksum or a skippable frame
        self._last = False  # in the frame's last block, or after it
        self._checksum = False  # a checksum is still to come

    def feed(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            if self._left:  # inside a block, a checksum or a skippable frame
                part = data[at : at + min(self._left, _SLICE)]
                self._left -= len(part)
                at += len(part)
                yield self._decompress(part)
            else:
                wanted = self._head_size() - len(self._held)
                self._held += data[at : at + wanted]
                at += wanted
                if len(self._held) < self._head_size():
                    continue
                self._begin(self._held)
                self._held = b""
            if not self._left:
                yield self._finish()

    def end(self) -> None:
        if self._frame is not None or self._left or self._held:
            raise DecodingError("the zstd data breaks off before its end")

    def _head_size(self) -> int:
        """The length of the current or next header (of a block or of a frame), as far as it is known."""
        held = self._held
        if self._frame is not None:
            return BLOCK_HEADER
        if len(held) < len(MAGIC):
            return len(MAGIC)
        if is_skippable(held):
            return SKIPPABLE_HEADER
        if held[: len(MAGIC)] != MAGIC:
            if self._frames:
                raise DecodingError("something that is no zstd follows the zstd data")
            raise DecodingError("the zstd data is broken: it does not begin as a frame")
        return header_size(held)

    def _begin(self, head: bytes) -> None:
        """Handle a complete header."""
        if self._frame is not None:
            block = block_header(head)
            if block.size > MAX_STEP or block.kind == RESERVED:
                raise DecodingError("the zstd data is broken: a block that cannot be")
            self._last, self._left = block.last, block.length
            self._body += head
            return
        self._frames += 1
        if is_skippable(head):
            self._left = int.from_bytes(head[4:], "little")
            return
        try:
            found = frame_header(head)
        except ReservedBit:
            raise DecodingError("the zstd data is broken: a frame's head has a reserved bit set") from None
        assert found is not None, "the head is complete"
        if found.dictionary:
            raise DecodingError(f"the zstd data needs dictionary {found.dictionary}; it has to stand for itself")
        if found.window > MAX_WINDOW:
            told = f"the zstd data needs a window of {found.window} bytes; at most {MAX_WINDOW} are accepted (RFC 9659)"
            raise DecodingError(f"{told}: compress it without --long or --ultra")
        self._frame, self._body = self._decompressor.decompressobj(), head
        self._last, self._checksum = False, found.checksum

    def _decompress(self, part: bytes) -> bytes:
        if self._frame is None:
            return b""  # a skippable frame
        head, self._body = self._body, b""
        try:
            return self._frame.decompress(head + part)
        except zstandard.ZstdError as error:
            raise DecodingError(f"the zstd data is broken: {str(error).rpartition(': ')[2]}") from None

    def _finish(self) -> bytes:
        """Handle a header without a body, or the end of a block or frame."""
        piece = self._decompress(b"") if self._body else b""
        if self._last and self._checksum:
            self._left, self._checksum = 4, False
        elif self._last:
            self._frame = None
        return piece

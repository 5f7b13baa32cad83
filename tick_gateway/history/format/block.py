"""A block's zstd frame: making, reading and completing one (RFC 8878, section 3.1.1).

A frame is a header and a sequence of parts (zstd's blocks, not to be confused with ours), each with its length; after
the last part comes a checksum of the content. Each flush ends a part. So if a frame is cut off, everything flushed
before is still there, and an empty last part and the checksum complete it.

Pure: bytes in, bytes out; no I/O, no clock.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

import zstandard

from ...errors import Damaged
from ...wire.zstd_frame import BLOCK_HEADER, LAST_BLOCK, MAGIC, RESERVED, block_header, has_checksum, header_size

_MOST_BYTES: Final = 1 << 31  # of a cut frame's content: damage must not fill the memory


# ---- making ----


def compressor(level: int) -> zstandard.ZstdCompressionObj:
    """A new frame, with a checksum, to be flushed with ``flush`` and ended with ``finish``."""
    return zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=False).compressobj()


def flush(frame: zstandard.ZstdCompressionObj) -> bytes:
    """The bytes still to be written so that everything compressed so far can be read."""
    return frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


def finish(frame: zstandard.ZstdCompressionObj) -> bytes:
    """The same, and the end of the frame."""
    return frame.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


def closing(data: bytes, content: bytes) -> bytes:
    """The bytes that complete a frame of flushed bytes with this content: an empty last part, unless there is a last
    one, and the checksum, if the frame is to have one."""
    found = scan_frame(data)
    end = b"" if found.closed else LAST_BLOCK
    return end + (checksum(content) if found.checked else b"")


def checksum(content: bytes) -> bytes:
    """The checksum at the end of a frame with this content: the low 32 bits of its XXH64."""
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(content)[-4:]


# ---- reading ----


def decompress(frame: bytes, size: int | None = None) -> bytes:
    """The content of a whole frame.

    Args:
        size: its length in bytes; None: unknown.

    Raises:
        Damaged: it is not a frame of that content, or its checksum does not match.
    """
    reader = zstandard.ZstdDecompressor().decompressobj()
    try:
        content = reader.decompress(frame)
    except zstandard.ZstdError as error:
        raise Damaged(f"a block cannot be decompressed: {error}") from None
    if not reader.eof or reader.unused_data:
        raise Damaged("a block is not one zstd frame")
    if size is not None and len(content) != size:
        raise Damaged(f"a block holds {len(content)} bytes, not {size}")
    return content


class FrameState(Enum):
    """How much of a frame some bytes contain."""

    WHOLE = "a frame, perhaps with other bytes behind it"
    CUT = "the beginning of a frame"
    NONE = "no frame"


class FrameScan(NamedTuple):
    """The extent of a frame, by the lengths in it.

    Attributes:
        state: whether it is complete.
        end: where the frame ends; if it is cut off, where its last complete part ends.
        ends: where each complete part ends.
        closed: the last of them is the last part of the frame.
        checked: the frame has a checksum of its content, or will have one.
    """

    state: FrameState
    end: int
    ends: list[int]
    closed: bool
    checked: bool


def scan_frame(data: bytes) -> FrameScan:
    """Find a frame's parts and its end without decompressing it."""
    if data[:4] != MAGIC[: len(data)]:
        return FrameScan(FrameState.NONE, 0, [], False, False)
    if len(data) < 5:
        return FrameScan(FrameState.CUT, 0, [], False, False)
    checked = has_checksum(data)
    at = header_size(data)
    ends: list[int] = []
    while len(data) - at >= BLOCK_HEADER:
        header = block_header(data, at)
        if header.kind == RESERVED:
            return FrameScan(FrameState.NONE, 0, [], False, checked)
        stop = at + BLOCK_HEADER + header.length
        if stop > len(data):
            break
        ends.append(stop)
        at = stop
        if header.last:
            whole = at + 4 * checked
            state = FrameState.WHOLE if whole <= len(data) else FrameState.CUT
            return FrameScan(state, whole if state is FrameState.WHOLE else at, ends, True, checked)
    return FrameScan(FrameState.CUT, ends[-1] if ends else 0, ends, False, checked)


def proven(data: bytes) -> tuple[bytes, int] | None:
    """The content and the end of the frame at the beginning of data, if it is complete and has a checksum that
    matches."""
    found = scan_frame(data)
    if found.state is not FrameState.WHOLE or not found.checked:
        return None
    try:
        return decompress(data[: found.end]), found.end
    except Damaged:
        return None


def whole_lines(data: bytes) -> tuple[bytes, int]:
    """The content of a frame that is cut off, up to its last part that ends a line, and where that part ends. There is
    no checksum for it.

    Raises:
        Damaged: a complete part cannot be decompressed.
    """
    reader = zstandard.ZstdDecompressor().decompressobj()
    content: list[bytes] = []
    size = kept = end = at = 0
    found = scan_frame(data)
    try:
        for stop in found.ends:
            part = reader.decompress(data[at:stop])
            content.append(part)
            size += len(part)
            at = stop
            closes = found.closed and stop == found.ends[-1]
            if part.endswith(b"\n") or (closes and kept == size):
                kept, end = size, at
            if size > _MOST_BYTES:
                raise Damaged("a block that breaks off holds too much")
    except zstandard.ZstdError as error:
        raise Damaged(f"a block that breaks off cannot be decompressed: {error}") from None
    return b"".join(content)[:kept], end

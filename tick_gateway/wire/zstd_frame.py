"""The structure of zstd data (RFC 8878, section 3.1): magic numbers, frame headers, block headers.

The library parses frame headers, but reports incomplete and invalid ones alike, so they are told apart here. It does
not expose block headers. Pure: bytes in, values out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import zstandard

MAGIC: Final = b"\x28\xb5\x2f\xfd"  # never part of UTF-8 text
LARGEST_BLOCK: Final = zstandard.BLOCKSIZE_MAX  # maximum content of a block, in bytes
BLOCK_HEADER: Final = 3  # bytes
LAST_BLOCK: Final = b"\x01\x00\x00"  # an empty last block, which ends a frame
RLE, COMPRESSED, RESERVED = 1, 2, 3  # types of blocks
SKIPPABLE_HEADER: Final = 8  # bytes: a magic number and the length of what follows
_SKIPPABLE: Final = b"\x2a\x4d\x18"  # after a byte from 0x50 to 0x5f
_LEAST: Final = len(MAGIC) + 1  # with the descriptor, which determines the header's length
_RESERVED_BIT, _CHECKSUM_BIT = 0x08, 0x04  # of the descriptor
_BEYOND: Final = 1 << zstandard.WINDOWLOG_MAX + 1


class ReservedBit(ValueError):
    """A frame header has a reserved bit set."""


class FrameHeader(NamedTuple):
    """A parsed frame header.

    Attributes:
        size: bytes of the header itself.
        window: bytes of content that the frame may refer back to. A window larger than the library supports counts as
            the smallest such one (4 GiB).
        dictionary: the id of the dictionary that it needs; 0: none.
        checksum: the frame ends with a checksum of its content.
    """

    size: int
    window: int
    dictionary: int
    checksum: bool


class BlockHeader(NamedTuple):
    """A parsed block header.

    Attributes:
        last: this is the frame's last block.
        kind: 0 (raw), ``RLE``, ``COMPRESSED`` or ``RESERVED``.
        size: bytes of the block's content; if it is compressed, of the compressed block.
    """

    last: bool
    kind: int
    size: int

    @property
    def length(self) -> int:
        """Bytes of the block after its header."""
        return 1 if self.kind == RLE else self.size


def block_header(data: bytes | bytearray | memoryview, at: int = 0) -> BlockHeader:
    """Parse the header of the block at ``at``, where ``data`` must have at least ``BLOCK_HEADER`` bytes."""
    word = data[at] | data[at + 1] << 8 | data[at + 2] << 16
    return BlockHeader(bool(word & 1), word >> 1 & 3, word >> 3)


def is_skippable(data: bytes) -> bool:
    """Whether this is the start of a skippable frame; ``data`` must have at least four bytes."""
    return data[1:4] == _SKIPPABLE and 0x50 <= data[0] <= 0x5F


def header_size(data: bytes) -> int:
    """The length of the frame header at the start of ``data``; a lower bound if ``data`` is too short to tell."""
    return zstandard.frame_header_size(data) if len(data) >= _LEAST else _LEAST


def has_checksum(data: bytes) -> bool:
    """Whether the frame ends with a checksum; ``data`` must have at least five bytes of its header."""
    return bool(data[_LEAST - 1] & _CHECKSUM_BIT)


def frame_header(data: bytes) -> FrameHeader | None:
    """Parse the frame header at the start of ``data``, with ``MAGIC``; None: it is incomplete.

    Raises:
        ReservedBit: a reserved bit is set.
    """
    size = header_size(data)
    if len(data) >= _LEAST and data[_LEAST - 1] & _RESERVED_BIT:
        raise ReservedBit("a zstd frame's header has a reserved bit set")
    if len(data) < size:
        return None
    try:
        found = zstandard.get_frame_parameters(data[:size])
    except zstandard.ZstdError:  # the only error left: the window is too large
        return FrameHeader(size, _BEYOND, 0, has_checksum(data))
    return FrameHeader(size, found.window_size, found.dict_id, found.has_checksum)

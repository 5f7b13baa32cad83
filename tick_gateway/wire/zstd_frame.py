"""The outline of zstd data (RFC 8878, section 3.1): magic numbers, headers of frames, headers of blocks.

The library reads headers of frames. It says alike of one that is not there as a whole and of one that is wrong that it
cannot, so that is told apart here. Headers of blocks it reads for itself alone. Pure: bytes in, values out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import zstandard

MAGIC: Final = b"\x28\xb5\x2f\xfd"  # never part of UTF-8 text
LARGEST_BLOCK: Final = zstandard.BLOCKSIZE_MAX  # bytes of content in one
BLOCK_HEADER: Final = 3  # bytes
LAST_BLOCK: Final = b"\x01\x00\x00"  # an empty one, which ends a frame
RLE, COMPRESSED, RESERVED = 1, 2, 3  # types of blocks
SKIPPABLE_HEADER: Final = 8  # bytes: a magic number, and how many bytes follow
_SKIPPABLE: Final = b"\x2a\x4d\x18"  # behind one byte 0x50 to 0x5f
_LEAST: Final = len(MAGIC) + 1  # with the descriptor, which says how long the header is
_RESERVED_BIT, _CHECKSUM_BIT = 0x08, 0x04  # of the descriptor
_BEYOND: Final = 1 << zstandard.WINDOWLOG_MAX + 1


class ReservedBit(ValueError):
    """A frame's header has a bit set that no format has given a meaning."""


class FrameHeader(NamedTuple):
    """What a frame's header says.

    Attributes:
        size: bytes of the header itself.
        window: bytes of content that the frame may refer back to. One that is larger than the library knows counts as
            the least of those (4 GiB).
        dictionary: the dictionary that it needs; 0: none.
        checksum: the frame ends with a checksum of its content.
    """

    size: int
    window: int
    dictionary: int
    checksum: bool


class BlockHeader(NamedTuple):
    """What a block's header says.

    Attributes:
        last: it is the frame's last block.
        kind: 0 (bytes as they are), ``RLE``, ``COMPRESSED`` or ``RESERVED``.
        size: bytes of the block's content, or where that is compressed, of the block.
    """

    last: bool
    kind: int
    size: int

    @property
    def length(self) -> int:
        """Bytes of the block behind its header."""
        return 1 if self.kind == RLE else self.size


def block_header(data: bytes | bytearray | memoryview, at: int = 0) -> BlockHeader:
    """The header of the block that begins at ``at``: ``BLOCK_HEADER`` bytes, which have to be there."""
    word = data[at] | data[at + 1] << 8 | data[at + 2] << 16
    return BlockHeader(bool(word & 1), word >> 1 & 3, word >> 3)


def is_skippable(data: bytes) -> bool:
    """Whether a frame begins here that decoders pass over: four bytes tell."""
    return data[1:4] == _SKIPPABLE and 0x50 <= data[0] <= 0x5F


def header_size(data: bytes) -> int:
    """How many bytes the header has of the frame that begins here, as far as that shows: at least so many."""
    return zstandard.frame_header_size(data) if len(data) >= _LEAST else _LEAST


def has_checksum(data: bytes) -> bool:
    """Whether the frame that begins here, of whose header there are at least five bytes, ends with a checksum."""
    return bool(data[_LEAST - 1] & _CHECKSUM_BIT)


def frame_header(data: bytes) -> FrameHeader | None:
    """The header of the frame that begins here, with ``MAGIC``; None: it is not there as a whole yet.

    Raises:
        ReservedBit: nobody knows what it means.
    """
    size = header_size(data)
    if len(data) >= _LEAST and data[_LEAST - 1] & _RESERVED_BIT:
        raise ReservedBit("a zstd frame's header has a reserved bit set")
    if len(data) < size:
        return None
    try:
        found = zstandard.get_frame_parameters(data[:size])
    except zstandard.ZstdError:  # nothing else is left that it refuses
        return FrameHeader(size, _BEYOND, 0, has_checksum(data))
    return FrameHeader(size, found.window_size, found.dict_id, found.has_checksum)

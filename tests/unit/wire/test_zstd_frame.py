"""Headers of zstd frames: what whole ones say, what is not there yet, and what cannot be."""

from __future__ import annotations

import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.wire.zstd_frame import (
    BLOCK_HEADER,
    COMPRESSED,
    LARGEST_BLOCK,
    LAST_BLOCK,
    MAGIC,
    RESERVED,
    RLE,
    SKIPPABLE_HEADER,
    BlockHeader,
    FrameHeader,
    ReservedBit,
    block_header,
    frame_header,
    has_checksum,
    header_size,
    is_skippable,
)


def described(descriptor: int, *rest: int) -> bytes:
    """A header of these bytes behind the magic number."""
    return bytes((*MAGIC, descriptor, *rest))


@given(st.integers(0, 70_000), st.booleans(), st.booleans(), st.integers(10, 24))
def test_the_header_of_what_a_compressor_makes(size: int, checksum: bool, sized: bool, window: int) -> None:
    parameters = zstandard.ZstdCompressionParameters(
        window_log=window, write_checksum=checksum, write_content_size=sized
    )
    data = zstandard.ZstdCompressor(compression_params=parameters).compress(b"x" * size)
    found = frame_header(data)
    assert found is not None
    assert (found.checksum, found.dictionary) == (checksum, 0)
    assert has_checksum(data) is checksum and header_size(data) == found.size
    for there in range(found.size):
        assert frame_header(data[:there]) is None and there < header_size(data[:there]) <= found.size
    assert frame_header(data[: found.size]) == found


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (described(0x00, 0x00), FrameHeader(6, 1024, 0, False)),
        (described(0x04, 0x53), FrameHeader(6, (1 << 20) + 3 * (1 << 17), 0, True)),
        (described(0x20, 5), FrameHeader(6, 5, 0, False)),
        (described(0x60, 1, 0), FrameHeader(7, 257, 0, False)),
        (described(0xE0, *(0, 0, 0, 0, 1, 0, 0, 0)), FrameHeader(13, 1 << 32, 0, False)),
        (described(0x01, 0x00, 7), FrameHeader(7, 1024, 7, False)),
        (described(0x01, 0x00, 0), FrameHeader(7, 1024, 0, False)),
        (described(0x03, 0x00, 1, 2, 3, 4), FrameHeader(10, 1024, 0x04030201, False)),
        (described(0x04, 0xFF), FrameHeader(6, 1 << zstandard.WINDOWLOG_MAX + 1, 0, True)),
    ],
)
def test_what_a_header_says(header: bytes, says: FrameHeader) -> None:
    assert frame_header(header) == frame_header(header + b"behind it") == says
    assert frame_header(header[:-1]) is None


def test_a_reserved_bit_shows_before_the_header_is_whole() -> None:
    for header in (described(0x08), described(0x08, 0xFF), described(0xE8)):
        with pytest.raises(ReservedBit):
            frame_header(header)


@given(st.integers(0, (1 << 32) - 1))
def test_which_frames_are_passed_over(magic: int) -> None:
    head = struct.pack("<II", magic, 3)
    assert len(head) == SKIPPABLE_HEADER
    assert is_skippable(head) is (0x184D2A50 <= magic <= 0x184D2A5F)
    assert all(is_skippable(struct.pack("<I", 0x184D2A50 + kind)) for kind in range(16))
    assert not is_skippable(MAGIC) and not is_skippable(b"\x50\x2a\x4d") and not is_skippable(b"")


@pytest.mark.parametrize(
    ("header", "says", "length"),
    [
        (LAST_BLOCK, BlockHeader(True, 0, 0), 0),
        (b"\x08\x00\x00", BlockHeader(False, 0, 1), 1),
        (b"\x02\x00\x10", BlockHeader(False, RLE, LARGEST_BLOCK), 1),
        (b"\x05\x01\x00", BlockHeader(True, COMPRESSED, 32), 32),
        (b"\xff\xff\xff", BlockHeader(True, RESERVED, (1 << 21) - 1), (1 << 21) - 1),
    ],
)
def test_what_a_header_of_a_block_says(header: bytes, says: BlockHeader, length: int) -> None:
    assert block_header(header) == block_header(b"before" + header + b"behind", 6) == says
    assert block_header(memoryview(header)) == block_header(bytearray(header)) == says
    assert says.length == length


@given(st.binary(max_size=1000), st.integers(0, 400_000))
def test_the_blocks_of_what_a_compressor_makes_end_where_it_does(data: bytes, zeros: int) -> None:
    frame = zstandard.ZstdCompressor(write_checksum=False).compress(data + bytes(zeros))
    header = frame_header(frame)
    assert header is not None
    at, last = header.size, False
    while not last:
        block = block_header(frame, at)
        assert block.kind != RESERVED and block.size <= LARGEST_BLOCK
        at, last = at + BLOCK_HEADER + block.length, block.last
    assert at == len(frame)

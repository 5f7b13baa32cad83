"""Bodies in a content coding, made with the libraries alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import zstandard

MAGIC = b"\x28\xb5\x2f\xfd"
BLOCK_BYTES = 128 << 10  # that a block of zstd holds at most


def gzipped(*parts: bytes) -> bytes:
    """A member that was flushed after each part."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
    pieces = [compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    return b"".join([*pieces, compressor.flush()])


def zstd(*parts: bytes, checksum: bool = True, level: int = 3) -> bytes:
    """A frame that was flushed after each part."""
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=checksum).compressobj()
    flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    return b"".join([*(compressor.compress(part) + compressor.flush(flush) for part in parts), compressor.flush()])


def encoded(coding: str, *parts: bytes) -> bytes:
    return gzipped(*parts) if coding == "gzip" else zstd(*parts)


def skippable(payload: bytes, kind: int = 0) -> bytes:
    return struct.pack("<II", 0x184D2A50 + kind, len(payload)) + payload


def encoded_open(coding: str, parts: Sequence[bytes]) -> bytes:
    """What has been sent after the last flush, the end still to come."""
    if coding == "gzip":
        compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
        return b"".join(compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH) for part in parts)
    framer = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    return b"".join(framer.compress(part) + framer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for part in parts)


def bomb_of_blocks(count: int, byte: bytes = b"\0") -> bytes:
    """A frame of ``count`` blocks, each 128 KiB of one byte in four."""
    block = (BLOCK_BYTES << 3 | 1 << 1).to_bytes(3, "little") + byte
    return MAGIC + bytes([0, 13 << 3]) + block * count + b"\x01\x00\x00"

"""Compression made once for everybody: gzip (RFC 1952), zstd (RFC 8878), and the raw deflate (RFC 1951) under
permessage-deflate (RFC 7692).

Ticks are small because each resembles the last; so all readers of a kind share one compressor, whose stream is cut into
sections. What follows a cut refers to nothing before it: there a reader can join.

    shared       tick ◄─ tick ◄─ tick ◄─ tick │ tick ◄─ tick ◄─ ...
    standalone   tick                 tick            for whoever does not share all since the last cut

A reader that is given bytes of its own leaves the shared stream until the next cut: back-references in it would point
to other bytes in that reader's window.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final, Protocol

import zstandard

from ..settings import DEFAULTS
from .checksum import NOTHING, Checksum
from .zstd_frame import LAST_BLOCK, MAGIC

_EMPTY_FRAME: Final = MAGIC + b"\x20\x00\x01\x00\x00"
_GZIP_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, no system
_WINDOW_LOG: Final = 18  # of zstd, 256 KiB: browsers refuse more than 8 MB, and each reader pays for it
FLUSHED: Final = b"\x00\x00\xff\xff"  # how what deflate has flushed ends
_LAST_DEFLATED: Final = b"\x03\x00"  # an empty block, which ends a deflate stream


class Compressor(Protocol):
    """A compressor whose output can be decoded as it comes."""

    def add(self, data: bytes) -> bytes:
        """Compress, with references into whatever was added since the last cut."""
        ...

    def cut(self) -> None:
        """What is added from now on refers to nothing before."""
        ...


class DeflateCompressor:
    """Raw deflate; what ``add`` returns ends in ``FLUSHED``."""

    def __init__(self, level: int) -> None:
        self._stream = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)

    def add(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def cut(self) -> None:
        self._stream.flush(zlib.Z_FULL_FLUSH)  # nobody needs the empty block: what came before ends on a whole byte


class ZstdFrameCompressor:
    """zstd, a frame a section. The magic number of a section's frame is left out: it went out with the last one."""

    def __init__(self, level: int) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, window_log=_WINDOW_LOG, write_content_size=False
        )
        self._compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self._frame: zstandard.ZstdCompressionObj | None = None

    def add(self, data: bytes) -> bytes:
        begin = 0
        if self._frame is None:
            self._frame, begin = self._compressor.compressobj(), len(MAGIC)
        made = self._frame.compress(data) + self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        return made[begin:]

    def cut(self) -> None:
        self._frame = None


class Stream(Protocol):
    """A compressor for one body that ends, for one reader; it holds back what makes the rest smaller."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Coding(Protocol):
    """A content coding (RFC 9110, section 8.4.1) of a body that goes on and on. Values: equal ones share bytes."""

    @property
    def name(self) -> str:
        """As ``Content-Encoding`` has it."""
        ...

    @property
    def opening(self) -> bytes:
        """What the body begins with."""
        ...

    @property
    def rest(self) -> bytes:
        """What ends a section, for a reader that leaves the shared stream in the middle of one."""
        ...

    def count(self, before: Checksum, content: bytes) -> Checksum:
        """The checksum of the content ``before`` and of this behind it; of nothing where the trailer needs none."""
        ...

    def closing(self, content: Checksum) -> bytes:
        """The end of the body; ``content``: the checksum of all its content."""
        ...

    def alone(self, data: bytes) -> bytes:
        """Compressed without references: it can follow the opening, a section's end, or other standalone bytes."""
        ...

    def whole(self, data: bytes) -> bytes:
        """A whole body."""
        ...

    def stream(self) -> Stream:
        """A compressor for one body that ends."""
        ...

    def compressor(self) -> Compressor:
        """A new compressor, for a shared stream."""
        ...


@dataclass(frozen=True)
class GzipCoding:
    """One member for the whole body. Its trailer has the checksum of the reader's content, which is combined from the
    checksums of the pieces."""

    level: int = DEFAULTS.compression
    name = "gzip"
    opening = _GZIP_HEAD
    rest = b""

    def count(self, before: Checksum, content: bytes) -> Checksum:
        return before.followed_by(content)

    def closing(self, content: Checksum) -> bytes:
        return _LAST_DEFLATED + struct.pack("<LL", content.crc, content.size & 0xFFFFFFFF)

    def alone(self, data: bytes) -> bytes:
        return DeflateCompressor(self.level).add(data)

    def whole(self, data: bytes) -> bytes:
        stream = self.stream()
        return stream.compress(data) + stream.flush()

    def stream(self) -> Stream:
        return zlib.compressobj(self.level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def compressor(self) -> Compressor:
        return DeflateCompressor(self.level)


@dataclass(frozen=True)
class ZstdCoding:
    """Frames in a row, so that stored blocks take their place among them as they are.

    Some decoders fail on a read that ends exactly where a frame does (httpx 0.28); so whatever ends a frame goes out
    with the first bytes, the magic number, of the frame to come.
    """

    level: int = DEFAULTS.compression
    name = "zstd"
    opening = MAGIC
    rest = LAST_BLOCK + MAGIC

    def count(self, before: Checksum, content: bytes) -> Checksum:
        return NOTHING

    def closing(self, content: Checksum) -> bytes:
        return _EMPTY_FRAME[len(MAGIC) :]

    def alone(self, data: bytes) -> bytes:
        return self.stored(zstandard.ZstdCompressor(level=self.level).compress(data))

    def whole(self, data: bytes) -> bytes:
        return zstandard.ZstdCompressor(level=self.level).compress(data)

    def stream(self) -> Stream:
        return zstandard.ZstdCompressor(level=self.level).compressobj()

    def compressor(self) -> Compressor:
        return ZstdFrameCompressor(self.level)

    def stored(self, frames: bytes | bytearray) -> bytes:
        """Frames that were made elsewhere, as standalone bytes."""
        return bytes(frames[len(MAGIC) :]) + MAGIC

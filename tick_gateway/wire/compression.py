"""Compression made once for everybody: gzip (RFC 1952), zstd (RFC 8878), and the raw deflate (RFC 1951) under
permessage-deflate (RFC 7692).

Ticks compress well because each resembles the last, so all readers of a kind share one compressor. Its stream is cut
into sections. Nothing after a cut refers to anything before it, so readers join at a cut.

    shared       tick ◄─ tick ◄─ tick ◄─ tick │ tick ◄─ tick ◄─ ...
        standalone   tick                 tick            for readers that did not get everything since the last cut

A reader that is sent bytes of its own leaves the shared stream until the next cut: back-references in it would point to
different bytes in that reader's window.

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
_WINDOW_LOG: Final = 18  # of zstd: 256 KiB. Browsers refuse more than 8 MB, and every reader allocates one
FLUSHED: Final = b"\x00\x00\xff\xff"  # the end of deflate's output after a flush
_LAST_DEFLATED: Final = b"\x03\x00"  # an empty last block, which ends a deflate stream


class Compressor(Protocol):
    """A compressor whose output can be decoded as it arrives."""

    def add(self, data: bytes) -> bytes:
        """Compress data, with references to anything added since the last cut."""
        ...

    def cut(self) -> None:
        """Start a new section: what is added from now on refers to nothing before."""
        ...


class DeflateCompressor:
    """Raw deflate; what ``add`` returns ends in ``FLUSHED``."""

    def __init__(self, level: int) -> None:
        self._stream = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)

    def add(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def cut(self) -> None:
        self._stream.flush(zlib.Z_FULL_FLUSH)  # its output is not needed: what came before ends on a byte boundary


class ZstdFrameCompressor:
    """zstd, one frame per section. A frame is sent without its magic number, which went out with the frame before."""

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
    """A compressor for one finite body of one reader; it buffers input for a better ratio."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Coding(Protocol):
    """A content coding (RFC 9110, section 8.4.1) of an endless body. A value: equal codings share bytes."""

    @property
    def name(self) -> str:
        """Its name in ``Content-Encoding``."""
        ...

    @property
    def opening(self) -> bytes:
        """The first bytes of the body."""
        ...

    @property
    def rest(self) -> bytes:
        """The bytes that end a section, for a reader that leaves the shared stream inside one."""
        ...

    def count(self, before: Checksum, content: bytes) -> Checksum:
        """The checksum of the content ``before`` followed by ``content``; ``NOTHING`` if the trailer needs none."""
        ...

    def closing(self, content: Checksum) -> bytes:
        """The last bytes of the body; ``content`` is the checksum of all its content."""
        ...

    def alone(self, data: bytes) -> bytes:
        """Compress without references: the result may follow the opening, a section's end, or other standalone
        bytes."""
        ...

    def whole(self, data: bytes) -> bytes:
        """Compress a whole body."""
        ...

    def stream(self) -> Stream:
        """A compressor for one finite body."""
        ...

    def compressor(self) -> Compressor:
        """A new compressor for a shared stream."""
        ...


@dataclass(frozen=True)
class GzipCoding:
    """One gzip member for the whole body. Its trailer has the checksum of the reader's content, combined from the
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
    """A sequence of frames, so that stored blocks can be sent unchanged between other frames.

    Some decoders fail on a read that ends exactly at the end of a frame (httpx 0.28); so the end of a frame is sent
    together with the magic number of the next one.
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
        """Stored frames as standalone bytes."""
        return bytes(frames[len(MAGIC) :]) + MAGIC

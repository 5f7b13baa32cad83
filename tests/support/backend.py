"""Another program that writes ticks into files, as the tests of what the gateway makes of them have it."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from types import TracebackType
from typing import Self

import zstandard


def line_of(t: int, serial: int = 0, size: int = 0, *, noise: bool = False) -> bytes:
    """A tick whose bytes no other has, of about so many; ``noise``: what does not compress."""
    pad = random.Random(serial).randbytes(size // 2).hex() if noise else "p" * size
    return b'{"t":%d,"u":%d,"pad":"%s"}' % (t, serial, pad.encode())


def run_of(file: str, first: bytes) -> str:
    """The name of the run that begins with a line in a file of that name without its ending."""
    return f"{file}-{hashlib.sha256(first).hexdigest()[:8]}"


def frame(*lines: bytes, flush: bool = True, end: bool = True, checksum: bool = False) -> bytes:
    """A zstd frame of lines; ``flush``: a block for each of them."""
    compressor = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=False).compressobj()
    parts: list[bytes] = []
    for line in lines:
        parts.append(compressor.compress(line + b"\n"))
        if flush:
            parts.append(compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return b"".join([*parts, compressor.flush() if end else b""])


class Writer:
    """Appends to one file: zstd where its name says so, else plain. What it has written is on disk."""

    def __init__(self, path: Path, *, anew: bool = False) -> None:
        self.path = path
        self.zstd = path.name.endswith(".zst")
        self._file = path.open("wb" if anew else "ab", buffering=0)
        self._compressor: zstandard.ZstdCompressionObj | None = None

    def write(self, *lines: bytes) -> None:
        for line in lines:
            self._file.write(self._bytes(line))

    def _bytes(self, line: bytes) -> bytes:
        if not self.zstd:
            return line + b"\n"
        if self._compressor is None:
            self._compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
        made = self._compressor.compress(line + b"\n")
        return made + self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def end_frame(self) -> None:
        if self._compressor is not None:
            self._file.write(self._compressor.flush())
        self._compressor = None

    def close(self) -> None:
        self.end_frame()
        self._file.close()

    def die(self, line: bytes, share: float = 0.5) -> None:
        """Be killed in the middle of writing a line: that share of its bytes is on disk, and never all of it."""
        data = self._bytes(line)
        self._file.write(data[: max(int(len(data) * share), 1)][: len(data) - 2])
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

"""A history directory as any program sees it: zstd files of lines, read without anything of the gateway's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import zstandard

from tests.support import needs


def segments(directory: Path, run: str) -> list[Path]:
    """A run's files, oldest first."""
    return sorted((directory / run).glob("*.jsonl.zst"))


def whole(*paths: Path) -> None:
    """Assert that they are whole zstd files, as ``zstd -t`` has it."""
    if paths:
        _zstd("-tq", *paths)


def lines(directory: Path, run: str) -> list[bytes]:
    """All lines of a run whose files are whole, as ``zstdcat`` has them."""
    paths = segments(directory, run)
    return _zstd("-dcq", *paths).splitlines() if paths else []


def _zstd(*arguments: str | Path) -> bytes:
    done = subprocess.run([needs.program("zstd"), *arguments], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Frame(NamedTuple):
    """A zstd frame of a file; ``skippable``: one that decoders pass over."""

    at: int
    size: int
    skippable: bool


def frames(path: Path) -> list[Frame]:
    """The frames of a whole file."""
    data = path.read_bytes()
    found: list[Frame] = []
    at = 0
    while at < len(data):
        skippable = 0x184D2A50 <= int.from_bytes(data[at : at + 4], "little") <= 0x184D2A5F
        if skippable:
            size = 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        else:
            decoder = zstandard.ZstdDecompressor().decompressobj()
            decoder.decompress(data[at:])
            assert decoder.eof, f"{path.name}: the frame at {at} is cut off"
            size = len(data) - at - len(decoder.unused_data)
        found.append(Frame(at, size, skippable))
        at += size
    return found


def decoded(path: Path, frame: Frame) -> list[bytes]:
    """The lines in a frame."""
    data = path.read_bytes()[frame.at : frame.at + frame.size]
    return zstandard.ZstdDecompressor().decompressobj().decompress(data).splitlines()


def lines_of(path: Path) -> list[bytes]:
    """The lines of a whole file."""
    return _zstd("-dcq", path).splitlines()


def flip(path: Path, at: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)

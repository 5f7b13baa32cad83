"""A history directory as any program sees it: zstd files of lines, read without anything of the gateway's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import zstandard

from tests import needs


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


def frames(path: Path) -> list[tuple[int, int, bool]]:
    """Where each zstd frame of a file begins and how long it is, and whether it is a skippable one."""
    data = path.read_bytes()
    found: list[tuple[int, int, bool]] = []
    at = 0
    while at < len(data):
        if 0x184D2A50 <= int.from_bytes(data[at : at + 4], "little") <= 0x184D2A5F:
            size = 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        else:
            decoder = zstandard.ZstdDecompressor().decompressobj()
            decoder.decompress(data[at:])
            assert decoder.eof, f"{path.name}: the frame at {at} is cut off"
            size = len(data) - at - len(decoder.unused_data)
        found.append((at, size, data[at + 1 : at + 4] == b"\x2a\x4d\x18"))
        at += size
    return found

"""Opens a sealed segment to send it unchanged, and verifies all of it before any of it is sent.

Each byte must be in a block with a matching CRC, in that block's footer, or in a seal. A file that was verified is not
read again as long as it is unchanged.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from typing import IO, Final, NamedTuple
from zlib import crc32

from ...errors import Damaged
from ..format.segment import MAX_SEAL, footer_begins, unpack_footer
from ..stored_block import Entry
from .segment_file import Segment, stamp_of

_HEAD_BYTES: Final = 8  # of a footer, with its length


class Opened(NamedTuple):
    """A sealed segment that was verified.

    Attributes:
        stamp: identified the unchanged file then (see ``stamp_of``): if it is the same after a read, so are the bytes.
        crc: CRC-32 of all of it.
    """

    file: IO[bytes]
    stamp: tuple[int, ...]
    crc: int


def open_sealed(segment: Segment, run: str, blocks: Callable[[], Iterable[Entry]]) -> Opened:
    """Open and verify a sealed segment, to be closed by the caller.

    Args:
        blocks: returns its blocks, if they are needed.

    Raises:
        Damaged: some of it is not what was written.
        OSError: it cannot be read.
    """
    # Do not block on a pipe that somebody may have put there.
    fd = os.open(segment.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(fd, "rb", buffering=0)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise Damaged(f"{segment.name} is no file")
        if info.st_size != segment.size:
            raise Damaged(f"{segment.name} has {info.st_size} bytes, not {segment.size}")
        stamp = stamp_of(info)
        if segment.checked is None or segment.checked[0] != stamp:
            crc = _check(fd, segment, run, {entry.offset: entry for entry in blocks()})
            if stamp_of(os.fstat(fd)) != stamp:
                raise Damaged(f"{segment.name} was changed while it was read")
            segment.checked = stamp, crc
        return Opened(file, *segment.checked)
    except BaseException:
        file.close()
        raise


def _check(fd: int, segment: Segment, run: str, entries: dict[int, Entry]) -> int:
    at = crc = 0
    while at < segment.size:
        entry = entries.get(at)
        size = entry.frame + entry.footer if entry is not None else _seal_length(fd, at)
        data = os.pread(fd, size, at)
        if not size or len(data) != size:
            raise Damaged(f"bytes from {at} on of {segment.name} belong to no block")
        footer = unpack_footer(data[entry.frame :] if entry is not None else data)
        if entry is None:
            sound = footer.run == run and not footer.frame
        else:
            named = footer.run, footer.ordinal, footer.crc
            sound = crc32(memoryview(data)[: entry.frame]) == entry.crc and named == (run, entry.ordinal, entry.crc)
        if not sound:
            raise Damaged(f"what lies at byte {at} of {segment.name} is not what was written there")
        crc = crc32(data, crc)
        at += size
    return crc


def _seal_length(fd: int, at: int) -> int:
    """The length of the seal at an offset; 0: there is none."""
    head = os.pread(fd, _HEAD_BYTES, at)
    length = footer_begins(head) if len(head) == _HEAD_BYTES else None
    return length if length is not None and length <= MAX_SEAL else 0

"""The journal of the open block: vouches for a block that has no footer yet.

    journal := head record*

A block's frame is flushed as it grows. The journal has a record for each flush: where it ended, the CRC of its bytes,
and the numbers and receive times for the footer. So after a crash the block is cut back to the last complete flush, and
nothing in it has to be believed without a checksum. Each block has a new journal, created before the block's first
byte. ``docs/reference/segments.md`` specifies every byte.

Pure: bytes in, bytes out; no I/O, no clock.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple
from zlib import crc32

from ...errors import HistoryError
from .segment import little

JOURNAL: Final = "journal"
VERSION: Final = 1

_HEAD: Final = struct.Struct("<4sB3x6q")
_MAGIC: Final = b"TJNL"
_RECORD: Final = struct.Struct("<IQI")  # ticks, end of the flush in the block, CRC of its bytes
# a CRC: one after the fixed part, so that the length can be believed, one after the numbers
_U32: Final = struct.Struct("<I")


class JournalHead(NamedTuple):
    """The block that a journal belongs to: the run's facts for the footer, and where it begins."""

    seq: int
    started: int
    origin: int
    ordinal: int
    segment: int  # in the name of its file
    offset: int  # of the block in the segment

    def pack(self) -> tuple[bytes, int]:
        """Its bytes, and the initial value of its records' CRCs: records are valid only with this head."""
        data = _HEAD.pack(_MAGIC, VERSION, *self)
        seed = crc32(data)
        return data + _U32.pack(seed), seed


class Flush(NamedTuple):
    """A flush of the open block: the frame up to ``end`` contains these ticks in addition to those before."""

    end: int
    crc: int  # of the bytes since the previous flush
    ts: Sequence[int]
    ats: Sequence[int]

    def pack(self, seed: int) -> bytes:
        """Its bytes; ``seed`` is the initial value of its CRC, so that a record is not valid in another block's
        journal."""
        fixed = _RECORD.pack(len(self.ts), self.end, self.crc)
        check = crc32(fixed, seed)
        numbers = little(array("q", [*self.ts, *self.ats])).tobytes()
        return b"".join((fixed, _U32.pack(check), numbers, _U32.pack(crc32(numbers, check))))


class Ending(Enum):
    """What follows the last valid record."""

    CLEAN = "nothing"
    CUT = "the beginning of another record, as a crash leaves it"
    DAMAGED = "a record whose CRC does not match"


class Journal(NamedTuple):
    """The content of a journal.

    Attributes:
        head: of its block; None: the journal is empty, or too damaged to tell.
        flushes: up to the first record that is incomplete or damaged.
        ending: what follows those.
    """

    head: JournalHead | None
    flushes: list[Flush]
    ending: Ending

    @property
    def published(self) -> int:
        """How many ticks its run had published up to the last flush; 0: unknown."""
        return self.head.ordinal + sum(len(flush.ts) for flush in self.flushes) if self.head is not None else 0


def unpack_journal(data: bytes) -> Journal:
    """Read a journal, as far as it is valid.

    Raises:
        HistoryError: it is valid, in a format that this program does not know.
    """
    size = _HEAD.size
    if len(data) < size + 4:
        return Journal(None, [], Ending.CUT if data else Ending.CLEAN)
    seed = crc32(data[:size])
    magic, version, *fields = _HEAD.unpack_from(data)
    if magic != _MAGIC or _U32.unpack_from(data, size)[0] != seed:
        return Journal(None, [], Ending.DAMAGED)
    if version != VERSION:
        raise HistoryError(f"a journal has format {version}; this program knows format {VERSION}")
    flushes: list[Flush] = []
    at = size + 4
    while len(data) - at >= _RECORD.size + 4:
        count, end, flush_crc = _RECORD.unpack_from(data, at)
        check = crc32(memoryview(data)[at : at + _RECORD.size], seed)
        begin = at + _RECORD.size + 4
        stop = begin + 16 * count
        if _U32.unpack_from(data, begin - 4)[0] != check:
            return Journal(JournalHead(*fields), flushes, Ending.DAMAGED)
        if stop + 4 > len(data):
            break
        if _U32.unpack_from(data, stop)[0] != crc32(memoryview(data)[begin:stop], check):
            return Journal(JournalHead(*fields), flushes, Ending.DAMAGED)
        numbers = little(array("q", data[begin:stop]))
        flushes.append(Flush(end, flush_crc, list(numbers[:count]), list(numbers[count:])))
        at = stop + 4
    return Journal(JournalHead(*fields), flushes, Ending.CLEAN if at == len(data) else Ending.CUT)


def vouched(frame: bytes, flushes: Sequence[Flush]) -> list[Flush]:
    """The flushes whose bytes are complete and sound in what is left of the open block's frame."""
    sound: list[Flush] = []
    begin = 0
    for flush in flushes:
        if flush.end > len(frame) or crc32(memoryview(frame)[begin : flush.end]) != flush.crc:
            break
        sound.append(flush)
        begin = flush.end
    return sound

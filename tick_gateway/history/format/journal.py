"""The journal of the open block: what vouches for a block that has no footer yet.

    journal := head record*

A block's frame is flushed as it grows. For each flush the journal has where it ended, the CRC of its bytes, and the
numbers and receive times that the footer will have. So whatever a crash leaves of the block is cut back to the last
flush that was whole, and nothing in it has to be believed without a checksum. A journal is made anew for each block,
before the block's first byte. ``docs/reference/segments.md`` specifies every byte.

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
_U32: Final = struct.Struct("<I")  # a CRC: one behind these, so that a length is believed, one behind the numbers


class JournalHead(NamedTuple):
    """Which block a journal is of: the run's facts as its footer will have them, and where it begins."""

    seq: int
    started: int
    origin: int
    ordinal: int
    segment: int  # by which its file is named
    offset: int  # where the block begins in the segment

    def pack(self) -> tuple[bytes, int]:
        """Its bytes, and the seed for its records' CRCs: they count under this head alone."""
        data = _HEAD.pack(_MAGIC, VERSION, *self)
        seed = crc32(data)
        return data + _U32.pack(seed), seed


class Flush(NamedTuple):
    """One flush of the open block: the bytes of the frame up to ``end`` hold these ticks beside those before."""

    end: int
    crc: int  # of the bytes since the flush before
    ts: Sequence[int]
    ats: Sequence[int]

    def pack(self, seed: int) -> bytes:
        """Its bytes; ``seed`` begins its CRC, so that no record passes for one of another block's journal."""
        fixed = _RECORD.pack(len(self.ts), self.end, self.crc)
        check = crc32(fixed, seed)
        numbers = little(array("q", [*self.ts, *self.ats])).tobytes()
        return b"".join((fixed, _U32.pack(check), numbers, _U32.pack(crc32(numbers, check))))


class Ending(Enum):
    """What stands behind the last record that counts."""

    CLEAN = "nothing"
    CUT = "the beginning of another record, as a crash leaves it"
    DAMAGED = "a record whose CRC does not match"


class Journal(NamedTuple):
    """What a journal vouches for.

    Attributes:
        head: the block that it is of; None: the journal is too damaged to tell, or empty.
        flushes: those up to the first record that is cut off or damaged.
        ending: what comes behind those.
    """

    head: JournalHead | None
    flushes: list[Flush]
    ending: Ending

    @property
    def published(self) -> int:
        """How many ticks its run had published up to the last flush; 0: it does not tell."""
        return self.head.ordinal + sum(len(flush.ts) for flush in self.flushes) if self.head is not None else 0


def unpack_journal(data: bytes) -> Journal:
    """Read a journal, as far as it can be believed.

    Raises:
        HistoryError: it is sound, of a format that this program does not know.
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
    """Those flushes whose bytes lie whole and sound in what is left of the open block's frame."""
    sound: list[Flush] = []
    begin = 0
    for flush in flushes:
        if flush.end > len(frame) or crc32(memoryview(frame)[begin : flush.end]) != flush.crc:
            break
        sound.append(flush)
        begin = flush.end
    return sound

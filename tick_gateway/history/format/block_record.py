"""The record of a block in an index: ``RECORD_BYTES`` bytes; an index has one after the other, in the order of ticks.

A record has the fields of the block's footer without the numbers and times of single ticks, the block's offset, and how
many ticks its file has before it: so the first and last record of a range of blocks give its totals. Each has a
checksum. ``docs/reference/segments.md`` specifies every byte.

Pure: bytes in, bytes out; no I/O, no clock.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple
from zlib import crc32

from ...errors import Damaged

HEAD: Final = b"TICKIDX\x02"
"""What a file of records begins with; the last byte is the format."""

_RECORD: Final = struct.Struct("<9q4I")
_CRC: Final = struct.Struct("<I")
RECORD_BYTES: Final = _RECORD.size + _CRC.size
_WITH_CRC: Final = struct.Struct(f"<{_RECORD.size}sI")

Buffer = bytes | bytearray


class BlockRecord(NamedTuple):
    """The record of a block; see ``segment.Footer`` for fields with the same names.

    Attributes:
        offset: of its frame in the file.
        before: number of ticks in the file before it.
        footer: bytes of the footer after the frame; 0: it has none.
    """

    offset: int
    ordinal: int
    first: int
    last: int
    first_at: int
    last_at: int
    size: int
    frame: int
    before: int
    count: int  # type: ignore[assignment]  # a block's ticks, as everywhere; a tuple's own is not needed
    step: int
    footer: int
    crc: int

    def pack(self, seed: int = 0) -> bytes:
        """Its bytes; ``seed`` is the initial value of its CRC."""
        data = _RECORD.pack(*self)
        return data + _CRC.pack(crc32(data, seed))


def pack_records(records: Iterable[BlockRecord], seed: int) -> bytes:
    """The bytes of all of them."""
    return b"".join([record.pack(seed) for record in records])


def unpack_record(data: Buffer, at: int = 0) -> BlockRecord:
    """The record at an offset, without checking its checksum."""
    return BlockRecord._make(_RECORD.unpack_from(data, at))


def check_records(data: bytes, seed: int) -> None:
    """Check the checksum of each record; they were packed with ``seed``.

    Raises:
        Damaged: one does not match, or the last record is incomplete.
    """
    if len(data) % RECORD_BYTES:
        raise Damaged("a record of an index is cut off")
    if any(crc32(record, seed) != crc for record, crc in _WITH_CRC.iter_unpack(data)):
        raise Damaged("the CRC of a record does not match")


class RecordField(NamedTuple):
    """A field of records: its name, its offset, and how to read it."""

    name: str
    offset: int
    unpack: Callable[[Buffer, int], tuple[int, ...]]

    def of(self, data: Buffer, at: int) -> int:
        """Its value in the record at an offset."""
        return self.unpack(data, at + self.offset)[0]


def _field(name: str) -> RecordField:
    number = BlockRecord._fields.index(name)
    wide = min(number, 9)
    layout = struct.Struct("<q" if number < 9 else "<I")
    return RecordField(name, 8 * wide + 4 * (number - wide), layout.unpack_from)


OFFSET: Final = _field("offset")
ORDINAL: Final = _field("ordinal")
FIRST: Final = _field("first")
LAST: Final = _field("last")
FIRST_AT: Final = _field("first_at")
LAST_AT: Final = _field("last_at")
BEFORE: Final = _field("before")
COUNT: Final = _field("count")

"""What the index says of each block: a record of ``RECORD_BYTES`` bytes, one behind the other in the order of ticks.

A record holds what the block's footer says but for the ticks' own numbers and times, where the block lies, and how many
ticks its file has before it: so what some blocks of a file hold together is known from the first and the last of them.
Each has a checksum. ``docs/reference/segments.md`` specifies every byte.

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
    """What is known of a block; see ``segment.Footer`` for the fields that bear the same names.

    Attributes:
        offset: where its frame begins in its file.
        before: how many ticks the file's blocks before it hold.
        footer: bytes of the footer behind the frame; 0 where there is none.
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
        """Its bytes; its CRC begins with ``seed``."""
        data = _RECORD.pack(*self)
        return data + _CRC.pack(crc32(data, seed))


def pack_records(records: Iterable[BlockRecord], seed: int) -> bytes:
    """Their bytes, one behind the other."""
    return b"".join([record.pack(seed) for record in records])


def unpack_record(data: Buffer, at: int = 0) -> BlockRecord:
    """The record that begins at an offset, its checksum not looked at."""
    return BlockRecord._make(_RECORD.unpack_from(data, at))


def check_records(data: bytes, seed: int) -> None:
    """Look at the checksum of each of some records, which were packed with ``seed``.

    Raises:
        Damaged: one does not match, or the last is cut off.
    """
    if len(data) % RECORD_BYTES:
        raise Damaged("a record of an index is cut off")
    if any(crc32(record, seed) != crc for record, crc in _WITH_CRC.iter_unpack(data)):
        raise Damaged("the CRC of a record does not match")


class RecordField(NamedTuple):
    """A number of all records: its name, where it lies in each, and how it is read there."""

    name: str
    offset: int
    unpack: Callable[[Buffer, int], tuple[int, ...]]

    def of(self, data: Buffer, at: int) -> int:
        """Its value in the record that begins at an offset."""
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

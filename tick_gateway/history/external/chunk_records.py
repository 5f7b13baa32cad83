"""The records of chunks in a temporary file, so that memory need not hold them.

        spool   := page | columns …           one temporary file for an engine, which no directory lists
        page    := up to 64 records of one file's chunks
        record  := block record, offset and length of the chunk's columns in the spool

The files are another program's, so nothing is written beside them, and a start reads them anew. A page is written once
it is full: memory holds its offset, and the records of the page that is being filled. If the spool cannot be written (a
full disk), memory holds those that it did not take.

The event loop waits for this file: some kilobytes at a time, which the system nearly always has in memory.
"""

from __future__ import annotations

import logging
import os
import struct
import tempfile
from array import array
from typing import Final

from ...errors import Damaged
from ..format.block_record import RECORD_BYTES, BlockRecord, RecordField, unpack_record
from ..stored_block import Entry, Page, Volume

log = logging.getLogger("tick_gateway.history")

_PAGE: Final = 64  # records
_COLUMNS: Final = struct.Struct("<qI")  # offset, length
_WIDTH: Final = RECORD_BYTES + _COLUMNS.size


class Spool:
    """A temporary file that is only appended to. Any thread may read; one thread appends."""

    def __init__(self) -> None:
        self._fd = -1  # created once something is appended
        self._size = 0
        self._held: dict[int, bytes] = {}  # by offset: what the disk did not take
        self._told = False

    def append(self, data: bytes) -> int:
        """Append; returns the offset."""
        offset = self._size
        self._size += len(data)
        try:
            if self._fd < 0:
                self._fd = _temporary_file()
            if os.pwrite(self._fd, data, offset) != len(data):
                raise OSError("no space left")
        except OSError as error:
            self._held[offset] = data
            if not self._told:
                self._told = True
                log.warning(
                    "history: %s: %s; what is known of the files that are followed is kept in memory instead",
                    tempfile.gettempdir(), error.strerror or error,
                )  # fmt: skip
        return offset

    def read(self, offset: int, size: int) -> bytes:
        """Read what was appended at an offset.

        Raises:
            Damaged: it is no longer there.
            OSError: it cannot be read.
        """
        if size == 0:
            return b""
        held = self._held.get(offset)
        if held is not None:
            return held
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise Damaged("the temporary file of what is known of followed files was cut off")
        return data

    def close(self) -> None:
        """Delete the file, once nobody reads."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _temporary_file() -> int:
    """A descriptor of a file without a name."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class FileChunk(Entry):
    """A chunk of a file; ``offset`` and ``frame`` are its offset and length in the file's content.

    Attributes:
        columns: numbers and receive times of its ticks, packed, until its record is in the spool; empty: received at
            even intervals.
        columns_at: then, their offset and length there.
    """

    __slots__ = ("columns", "columns_at")

    columns: bytes
    columns_at: tuple[int, int]

    @classmethod
    def of_chunk(cls, volume: Volume, record: BlockRecord, columns: bytes, columns_at: tuple[int, int]) -> FileChunk:
        """The entry of a chunk with this record."""
        chunk = cls.of_record(volume, record)
        assert isinstance(chunk, cls)
        chunk.raw = False
        chunk.columns, chunk.columns_at = columns, columns_at
        return chunk


class ChunkRecords:
    """The records of a file's chunks, in a spool."""

    __slots__ = ("_full", "_last", "_spool", "_ticks")

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._full = array("q")  # offsets of pages in the spool
        self._last = bytearray()  # the page that is being filled
        self._ticks = 0

    def takes(self, entry: Entry) -> bool:
        """See ``HeldSource.takes``."""
        return isinstance(entry, FileChunk)

    def add(self, entry: Entry) -> None:
        """See ``HeldSource.add``."""
        assert isinstance(entry, FileChunk)
        columns_at = entry.columns_at
        if entry.columns:
            columns_at = self._spool.append(entry.columns), len(entry.columns)
        self._last += entry.record(self._ticks).pack() + _COLUMNS.pack(*columns_at)
        self._ticks += entry.count
        if len(self._last) == _PAGE * _WIDTH:
            self._full.append(self._spool.append(bytes(self._last)))
            self._last = bytearray()

    def __len__(self) -> int:
        return len(self._full) * _PAGE + len(self._last) // _WIDTH

    def page(self, begin: int, end: int, volume: Volume) -> Page:
        """See ``RecordSource.page``; includes records that are added later."""
        return _ChunkPage(self, begin, end, volume)

    def read(self, begin: int, end: int) -> bytes:
        """Some of the records.

        Raises:
            Damaged, OSError: they cannot be read.
        """
        parts = [self._read_page(number) for number in range(begin // _PAGE, (end - 1) // _PAGE + 1)]
        skipped = begin // _PAGE * _PAGE
        return b"".join(parts)[(begin - skipped) * _WIDTH : (end - skipped) * _WIDTH]

    def _read_page(self, number: int) -> bytes:
        if number < len(self._full):
            return self._spool.read(self._full[number], _PAGE * _WIDTH)
        return bytes(self._last)


class _ChunkPage:
    """Records of chunks, read when the page was asked for, and again for those that were added since."""

    __slots__ = ("_begin", "_data", "_records", "_volume", "verified")

    def __init__(self, records: ChunkRecords, begin: int, end: int, volume: Volume) -> None:
        self._records = records
        self._begin = begin
        self._volume = volume
        self._data = records.read(begin, end)
        self.verified = 0  # chunks are checked whenever they are read

    def _at(self, number: int) -> int:
        """The offset of a record in the data."""
        if len(self._data) < (number + 1) * _WIDTH:
            self._data = self._records.read(self._begin, self._begin + number + 1)
        return number * _WIDTH

    def value(self, number: int, field: RecordField) -> int:
        """See ``Page.value``."""
        at = self._at(number)
        return field.of(self._data, at)

    def entry(self, number: int) -> Entry:
        """See ``Page.entry``."""
        at = self._at(number)
        offset, length = _COLUMNS.unpack_from(self._data, at + RECORD_BYTES)
        return FileChunk.of_chunk(self._volume, unpack_record(self._data, at), b"", (offset, length))

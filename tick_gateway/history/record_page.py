"""Pages of block records, and their sources: an index file, or memory for blocks that are in none yet.

No I/O of its own: an index file is a ``RecordSource``, and reads a page at a time.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from ..errors import Damaged
from .format.block_record import BEFORE, RECORD_BYTES, Buffer, RecordField, pack_records, unpack_record
from .stored_block import Entry, HeldSource, Page, Volume


class UnreadableIndex(Damaged):
    """The records of a file's blocks can be read neither from its index nor from the file itself.

    Attributes:
        volume: the file.
    """

    def __init__(self, volume: Volume, problem: str) -> None:
        self.volume = volume
        super().__init__(problem)


class RecordPage:
    """Records as bytes; entries are made on request."""

    __slots__ = ("_begin", "_data", "_made", "_verified", "_volume")

    def __init__(self, data: Buffer, begin: int, volume: Volume) -> None:
        self._data = data
        self._begin = begin  # in the data
        self._volume = volume
        self._made: dict[int, Entry] = {}
        self._verified = 0

    @property
    def verified(self) -> int:
        """See ``Page``."""
        return self._verified | sum(entry.verified << number for number, entry in self._made.copy().items())

    @verified.setter
    def verified(self, value: int) -> None:
        self._verified = value

    def value(self, number: int, field: RecordField) -> int:
        """See ``Page.value``."""
        return field.of(self._data, self._begin + number * RECORD_BYTES)

    def entry(self, number: int) -> Entry:
        """See ``Page.entry``."""
        found = self._made.get(number)
        if found is None:
            record = unpack_record(self._data, self._begin + number * RECORD_BYTES)
            entry = Entry.of_record(self._volume, record)
            entry.verified = bool(self._verified >> number & 1)
            found = self._made.setdefault(number, entry)  # one for all threads
        return found


class HeldRecords:
    """Records in memory, of blocks that are not in an index file yet."""

    __slots__ = ("_data", "_ticks")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._data = bytearray()
        self._ticks = 0
        for entry in entries:
            self.add(entry)

    def takes(self, entry: Entry) -> bool:
        """See ``HeldSource.takes``."""
        return entry.raw

    def add(self, entry: Entry) -> None:
        """Append a block's record."""
        self._data += entry.record(self._ticks).pack()
        self._ticks += entry.count

    def pack(self, seed: int) -> bytes:
        """All records, as in an index file; see ``pack_records``."""
        data = self._data
        return pack_records((unpack_record(data, at) for at in range(0, len(data), RECORD_BYTES)), seed)

    def __len__(self) -> int:
        return len(self._data) // RECORD_BYTES

    def page(self, begin: int, end: int, volume: Volume) -> Page:
        """See ``RecordSource.page``; includes records that are added later."""
        return RecordPage(self._data, begin * RECORD_BYTES, volume)


class HeldEntries:
    """Entries in memory with more than a record has: those whose frames cannot be sent unchanged."""

    __slots__ = ("_before", "_entries")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._before = array("q")  # number of ticks before each

    def takes(self, entry: Entry) -> bool:
        """See ``HeldSource.takes``."""
        return not entry.raw

    def add(self, entry: Entry) -> None:
        """Append an entry."""
        before = self._before[-1] + self._entries[-1].count if self._entries else 0
        self._before.append(before)
        self._entries.append(entry)

    def __len__(self) -> int:
        return len(self._entries)

    def page(self, begin: int, end: int, volume: Volume) -> Page:
        """See ``RecordSource.page``; includes entries that are added later."""
        return _EntryPage(self._entries, self._before, begin)


class _EntryPage:
    """The entries of a ``HeldEntries`` from one on; each has its own ``verified``."""

    __slots__ = ("_before", "_begin", "_entries", "verified")

    def __init__(self, entries: list[Entry], before: array[int], begin: int) -> None:
        self._entries = entries
        self._before = before
        self._begin = begin
        self.verified = 0

    def value(self, number: int, field: RecordField) -> int:
        """See ``Page.value``."""
        at = self._begin + number
        return self._before[at] if field is BEFORE else int(getattr(self._entries[at], field.name))

    def entry(self, number: int) -> Entry:
        """See ``Page.entry``."""
        return self._entries[self._begin + number]


def held_source(entry: Entry) -> HeldSource:
    """A new source in memory that takes an entry."""
    return HeldRecords() if entry.raw else HeldEntries()

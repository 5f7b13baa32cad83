"""A stored block: its content, the file that it is in, and what an index knows of it: its record.

Pure: no I/O. A ``Volume`` reads from disk, in threads that may wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from .format.block_record import BlockRecord, RecordField
from .format.segment import Footer


class Block(NamedTuple):
    """A block's content: its lines, each with its line feed, and the number and receive time (ms) of each."""

    lines: bytes
    ts: Sequence[int]
    ats: Sequence[int]


class Volume(Protocol):
    """A file of blocks. Its methods read from disk: they are for threads that may wait.

    Attributes:
        retired: it is being deleted on purpose, so blocks that cannot be read are not damaged.
    """

    retired: bool

    def read(self, entry: Entry) -> Block:
        """Read and check a block.

        Raises:
            Damaged: it is not what was written.
            OSError: the file cannot be read.
        """
        ...

    def lines(self, entry: Entry) -> bytes:
        """A block's lines, checked, but not parsed. Raises like ``read``."""
        ...

    def frames(self, row: Sequence[Entry], *, wait: bool = True) -> bytearray | None:
        """Adjacent blocks unchanged, as zstd frames, checked. Raises like ``read``.

        Args:
            wait: wait for the disk; if false, returns None unless the system has all of it in memory.
        """
        ...

    def new_records(self, entry: Entry) -> HeldSource:
        """A new source for the records of its blocks, which takes the one of this entry."""
        ...


class Entry:
    """The place of a stored block, and its content; see ``segment.Footer`` for fields with the same names.

    Attributes:
        volume: its file.
        offset: of its frame in the file.
        footer: bytes of the footer after the frame; 0: it has none.
        raw: its frame can be sent unchanged.
        verified: its bytes were checked, which is done about once per process.
    """

    __slots__ = (
        "count", "crc", "first", "first_at", "footer", "frame", "last", "last_at", "offset", "ordinal", "raw", "size",
        "step", "verified", "volume",
    )  # fmt: skip

    def __init__(
        self, volume: Volume, offset: int, footer: int, *, ordinal: int, first: int, last: int, first_at: int,
        last_at: int, count: int, step: int, size: int, frame: int, crc: int, raw: bool = True,
    ) -> None:  # fmt: skip
        self.volume = volume
        self.offset = offset
        self.footer = footer
        self.ordinal = ordinal
        self.first = first
        self.last = last
        self.first_at = first_at
        self.last_at = last_at
        self.count = count
        self.step = step
        self.size = size
        self.frame = frame
        self.crc = crc
        self.raw = raw
        self.verified = False

    @classmethod
    def of(cls, volume: Volume, offset: int, footer: Footer, footer_bytes: int) -> Entry:
        """The entry of a block at ``offset`` with this footer."""
        return cls(
            volume, offset, footer_bytes, ordinal=footer.ordinal, first=footer.first, last=footer.last,
            first_at=footer.first_at, last_at=footer.last_at, count=footer.count, step=footer.step, size=footer.size,
            frame=footer.frame, crc=footer.crc,
        )  # fmt: skip

    @classmethod
    def of_record(cls, volume: Volume, record: BlockRecord) -> Entry:
        """The entry of a block with this record."""
        return cls(
            volume, record.offset, record.footer, ordinal=record.ordinal, first=record.first, last=record.last,
            first_at=record.first_at, last_at=record.last_at, count=record.count, step=record.step, size=record.size,
            frame=record.frame, crc=record.crc,
        )  # fmt: skip

    def record(self, before: int = 0) -> BlockRecord:
        """Its record, if its file has ``before`` ticks before it."""
        return BlockRecord(
            self.offset, self.ordinal, self.first, self.last, self.first_at, self.last_at, self.size, self.frame,
            before, self.count, self.step, self.footer, self.crc,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return self is other or (self.volume is other.volume and self.offset == other.offset and self.crc == other.crc)

    def __hash__(self) -> int:
        return hash((id(self.volume), self.offset))

    def passing(self, every: int) -> int | None:
        """How many of its ticks have a ``t`` that is a multiple of ``every``; None: its bounds do not tell."""
        if every == 1 or self.count == 0:
            return self.count
        step = 1 if self.last - self.first == self.count - 1 else self.step
        if self.count == 1:
            return int(self.first % every == 0)
        if step == 1:
            return self.last // every - (self.first - 1) // every
        if step and step % every == 0:
            return self.count if self.first % every == 0 else 0
        return None


# ---- records, and their sources ----


class Page(Protocol):
    """Consecutive records of a file.

    Attributes:
        verified: bit set of the records whose blocks were verified.
    """

    @property
    def verified(self) -> int: ...

    @verified.setter
    def verified(self, value: int) -> None: ...

    def value(self, number: int, field: RecordField) -> int:
        """A field of one record, without decoding the rest."""
        ...

    def entry(self, number: int) -> Entry:
        """One record, as an entry."""
        ...


class RecordSource(Protocol):
    """A source of the records of a file's blocks, in the order of their ticks."""

    def __len__(self) -> int:
        """The number of records."""
        ...

    def page(self, begin: int, end: int, volume: Volume) -> Page:
        """Some of the records, for the blocks of ``volume``.

        Raises:
            Damaged, OSError: they cannot be read.
        """
        ...


class HeldSource(RecordSource, Protocol):
    """A source to which records are added, of blocks that are in no index file yet."""

    def takes(self, entry: Entry) -> bool:
        """Whether it can hold the entry of a block."""
        ...

    def add(self, entry: Entry) -> None:
        """Append the record of a block."""
        ...

"""The block index: the records of a run's stored blocks, found by bisection.

        index   := range*
        range   := consecutive blocks of one file: their bounds, and a source of their records
        records := in an index file; in memory if they are in none yet

So memory holds a range for each file, but nothing for each block, except the most recently written ones. Bounds answer
most questions; for the others a page of records is read, and some pages stay in memory. An ``Entry`` is made from a
record on request, and is a value: equal ones are the same block.

No I/O of its own and no clock: an index file is a ``RecordSource``, which reads a page at a time. An index belongs to
one thread; cached pages are shared by all.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any, Final, NamedTuple, Protocol, overload

from ..errors import HistoryError
from .format.block_record import (
    BEFORE,
    COUNT,
    FIRST,
    FIRST_AT,
    LAST,
    LAST_AT,
    OFFSET,
    ORDINAL,
    RecordField,
)
from .record_page import UnreadableIndex
from .stored_block import Entry, HeldSource, Page, RecordSource, Volume

_PAGE: Final = 64  # records
_PAGES: Final = 256  # kept in memory, for all runs
_VERIFIED: Final = 8192  # pages whose verified blocks are remembered, though the pages themselves are not kept


class _PageCache:
    """The most recently used pages and, for those used before, which blocks were verified. For any thread: each step is
    one dict operation."""

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[RecordSource, int], Page] = OrderedDict()
        self._verified: OrderedDict[tuple[RecordSource, int], int] = OrderedDict()

    def get(self, block_range: BlockRange, number: int) -> Page:
        key = block_range.records, number
        found = self._pages.pop(key, None)
        if found is None:
            found = self._load(block_range, number)
        self._pages[key] = found
        if len(self._pages) > _PAGES:
            old, page = self._pages.popitem(last=False)
            if verified := page.verified:
                self._verified[old] = verified
                if len(self._verified) > _VERIFIED:
                    self._verified.popitem(last=False)
        return found

    def peek(self, block_range: BlockRange, number: int) -> Page:
        """As ``get``, for going through all pages: keeps nothing."""
        return self._pages.get((block_range.records, number)) or self._load(block_range, number)

    def _load(self, block_range: BlockRange, number: int) -> Page:
        page = _load(block_range, number)
        page.verified = self._verified.get((block_range.records, number), 0)
        return page

    def forget(self, gone: Iterable[RecordSource]) -> None:
        """Drop what is kept of records that are no longer used."""
        some = {id(records) for records in gone}
        for key in [key for key in self._pages.copy() if id(key[0]) in some]:
            self._pages.pop(key, None)
        for key in [key for key in self._verified.copy() if id(key[0]) in some]:
            self._verified.pop(key, None)


def _load(block_range: BlockRange, number: int) -> Page:
    """Read a page of a range's records.

    Raises:
        UnreadableIndex: it cannot be read.
    """
    begin = number * _PAGE
    try:
        return block_range.records.page(begin, min(begin + _PAGE, len(block_range.records)), block_range.volume)
    except OSError as error:
        raise UnreadableIndex(block_range.volume, error.strerror or str(error)) from error
    except HistoryError as error:
        raise UnreadableIndex(block_range.volume, str(error)) from error


_cache: Final = _PageCache()


# ---- ranges ----


class BlockRange(NamedTuple):
    """Consecutive blocks of one file.

    Attributes:
        records: the source of the records of its file.
        begin: the number of its first block's record there.
        blocks: the number of blocks.
        first, last, first_at, last_at, ordinal: of all of them together.
        end: how many ticks the run published up to the end of the last block.
        ticks: the number of ticks.
    """

    volume: Volume
    records: RecordSource
    begin: int
    blocks: int
    first: int
    last: int
    first_at: int
    last_at: int
    ordinal: int
    end: int
    ticks: int

    @classmethod
    def of(cls, entry: Entry, records: RecordSource, begin: int) -> BlockRange:
        """The range of one block, whose record has this number."""
        end = entry.ordinal + entry.count
        return cls(
            entry.volume, records, begin, 1, entry.first, entry.last, entry.first_at, entry.last_at, entry.ordinal,
            end, entry.count,
        )  # fmt: skip

    @property
    def whole(self) -> bool:
        """Whether no published ticks are missing between its blocks."""
        return self.ticks == self.end - self.ordinal

    def joined(self, more: BlockRange) -> BlockRange:
        """Together with the range that follows it in the same file."""
        return self._replace(
            blocks=self.blocks + more.blocks, last=more.last, last_at=more.last_at, end=more.end,
            ticks=self.ticks + more.ticks,
        )  # fmt: skip

    def value(self, at: int, field: RecordField) -> int:
        """A field of one of its blocks."""
        number, within = divmod(self.begin + at, _PAGE)
        return _cache.get(self, number).value(within, field)

    def entry(self, at: int) -> Entry:
        """One of its blocks."""
        number, within = divmod(self.begin + at, _PAGE)
        return _cache.get(self, number).entry(within)

    def entries(self) -> Iterator[Entry]:
        """All of its blocks, for iteration."""
        page, held = None, -1
        for row in range(self.begin, self.begin + self.blocks):
            number, within = divmod(row, _PAGE)
            if page is None or number != held:
                page, held = _cache.peek(self, number), number
            yield page.entry(within)

    def find(self, bisect: _Bisect, value: int, field: RecordField, begin: int = 0) -> int:
        """Bisect its blocks, from one on, by a field that rises from each to the next.

        If the field is likely to rise evenly, the expected page is tried first, and then one beside it.
        """
        rows, lower, upper = range(self.blocks), begin, self.blocks
        if field in _EVEN:
            low, high = self._least_and_most(field)
            guess = (value - low) * self.blocks // max(high - low, 1)
            number = (self.begin + min(max(guess, begin), self.blocks - 1)) // _PAGE
            for _ in range(2):
                left, right = max(number * _PAGE - self.begin, lower), min((number + 1) * _PAGE - self.begin, upper)
                if left >= right:
                    break
                at = self._find_in_page(number, bisect, value, field, left, right)
                if left < at < right:
                    return at
                lower, upper = (at, upper) if at == right else (lower, at)
                number += 1 if at == right else -1
        return bisect(rows, value, lower, upper, key=lambda row: self.value(row, field))

    def _find_in_page(self, number: int, bisect: _Bisect, value: int, field: RecordField, left: int, right: int) -> int:
        begin, look = number * _PAGE - self.begin, _cache.get(self, number).value
        return bisect(range(right), value, left, key=lambda row: look(row - begin, field))

    def _least_and_most(self, field: RecordField) -> tuple[int, int]:
        """The field's value for the first block, and its approximate value for the last."""
        if field is LAST_AT:
            return self.first_at, self.last_at
        if field is ORDINAL:
            return self.ordinal, self.end
        if field is BEFORE:
            before = self.value(0, BEFORE) if self.begin else 0
            return before, before + self.ticks
        return self.first, self.last

    def newest(self, end: int, count: int, every: int) -> Iterator[tuple[BlockRange, int]]:
        """The blocks before ``end``, backwards and in parts, that have only ticks among the last ``count`` multiples of
        ``every``, as far as their bounds tell; each part with the number of its multiples."""
        at, step = end, end
        whole = self.passing(every) if end == self.blocks else None
        if whole is not None and whole <= count:
            yield self, whole
            return
        if every == 1 or self.last - self.first + 1 == self.ticks:
            at, step = self._first_of_newest(end, count, every), 0
            if at < end:
                part = self.part(at, end)
                passing = part.passing(every)
                assert passing is not None, "it is whole"
                yield part, passing
        while at and step:
            part = self.part(max(at - step, 0), at)
            passing = part.passing(every)
            if passing is None or passing > count:
                step //= 2
                continue
            yield part, passing
            count, at, step = count - passing, at - part.blocks, step * 2

    def _first_of_newest(self, end: int, count: int, every: int) -> int:
        """The first of these blocks, if it can be found by a field alone."""
        if every == 1:
            ticks = self.value(end - 1, BEFORE) + self.value(end - 1, COUNT)
            return min(self.find(bisect_left, ticks - count, BEFORE), end)
        first = (self.value(end - 1, LAST) // every - count) * every + 1  # the first ``t`` that may be among them
        return min(self.find(bisect_left, first, FIRST), end)

    def part(self, begin: int, end: int) -> BlockRange:
        """Some of its blocks, at least one."""
        if begin == 0 and end == self.blocks:
            return self
        last = end - 1
        before, count = self.value(last, BEFORE), self.value(last, COUNT)
        return self._replace(
            begin=self.begin + begin, blocks=end - begin, first=self.value(begin, FIRST), last=self.value(last, LAST),
            first_at=self.value(begin, FIRST_AT), last_at=self.value(last, LAST_AT),
            ordinal=self.value(begin, ORDINAL), end=self.value(last, ORDINAL) + count,
            ticks=before + count - self.value(begin, BEFORE),
        )  # fmt: skip

    def unbroken(self, at: int) -> int:
        """How many blocks, from ``at`` on, have no published ticks missing between them."""
        if self.whole:
            return self.blocks - at

        def missing(number: int) -> int:
            return self.value(number, ORDINAL) - self.value(number, BEFORE)

        return bisect_right(range(self.blocks), missing(at), at, key=missing) - at

    def passing(self, every: int) -> int | None:
        """See ``Entry.passing``."""
        if every == 1:
            return self.ticks
        if self.last - self.first + 1 == self.ticks:
            return self.last // every - (self.first - 1) // every
        return self.entry(0).passing(every) if self.blocks == 1 else None


def joined_ranges(ranges: Sequence[BlockRange]) -> BlockRange:
    """The bounds of ranges of the same file, at least one."""
    return reduce(BlockRange.joined, ranges)


class _Bisect(Protocol):
    """``bisect_left`` or ``bisect_right``."""

    def __call__(self, a: Any, x: int, lo: int = 0, hi: int | None = None, *, key: Callable[[Any], int]) -> int: ...


_EVEN: Final = (BEFORE, FIRST, LAST, LAST_AT, ORDINAL)
"""Numbers that mostly rise evenly from block to block."""


# ---- the index ----


class Blocks(Sequence[Entry]):
    """The blocks of one run, in order.

    Raises ``UnreadableIndex`` whenever a record that is needed cannot be read.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._ranges: list[BlockRange] = []
        self._starts: list[int] = []  # the number of each range's first block
        self._count = 0
        self._own: HeldSource | None = None  # to which it may add; others are only read
        if isinstance(entries, Blocks):
            self._set(list(entries._ranges))
        else:
            self.extend(entries)

    # ---- as a sequence ----

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        for block_range in list(self._ranges):
            yield from block_range.entries()

    def __reversed__(self) -> Iterator[Entry]:
        for block_range in self._ranges[::-1]:
            for at in range(block_range.blocks - 1, -1, -1):
                yield block_range.entry(at)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(index)
        number = self._number_of(at)
        return self._ranges[number].entry(at - self._starts[number])

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, Entry):
            return False
        at = self.below(value.first)
        return at < len(self) and self[at] == value

    # ---- changes ----

    def append(self, value: Entry) -> None:
        """Append a block."""
        last, own = self._ranges[-1] if self._ranges else None, self._own
        if (
            last is not None
            and own is not None
            and last.records is own
            and own.takes(value)
            and last.volume is value.volume
            and last.begin + last.blocks == len(own)
            and last.last < value.first
            and last.end <= value.ordinal
        ):
            own.add(value)
            self._ranges[-1] = last.joined(BlockRange.of(value, own, 0))
        else:
            self._own = own = value.volume.new_records(value)
            own.add(value)
            self._starts.append(self._count)
            self._ranges.append(BlockRange.of(value, own, 0))
        self._count += 1

    def extend(self, values: Iterable[Entry]) -> None:
        """Append blocks."""
        for value in values:
            self.append(value)

    def add(self, block_range: BlockRange) -> None:
        """Append a range of blocks."""
        self._ranges.append(block_range)
        self._starts.append(self._count)
        self._count += block_range.blocks

    def put(self, value: Entry) -> None:
        """Insert a block at its place; rare, after a crash."""
        at = self.upto(value.first)
        if at == len(self):
            self.append(value)
            return
        number = self._number_of(at)
        block_range, at = self._ranges[number], at - self._starts[number]
        one = Blocks([value])._ranges
        parts = [block_range.part(0, at), *one, block_range.part(at, block_range.blocks)] if at else [*one, block_range]
        self._set([*self._ranges[:number], *parts, *self._ranges[number + 1 :]])

    def remove(self, value: Entry) -> None:
        """Remove a block.

        Raises:
            ValueError: it is not in the index.
        """
        at = self.below(value.first)
        if at >= len(self) or self[at] != value:
            raise ValueError(f"there is no block that begins with tick {value.first}")
        number = self._number_of(at)
        block_range, at = self._ranges[number], at - self._starts[number]
        parts = [block_range.part(0, at)] if at else []
        parts += [block_range.part(at + 1, block_range.blocks)] if at + 1 < block_range.blocks else []
        self._set([*self._ranges[:number], *parts, *self._ranges[number + 1 :]])

    def drop(self, volume: Volume) -> list[BlockRange]:
        """Remove the blocks of one file; returns their ranges."""
        gone = self.ranges(volume)
        _cache.forget(block_range.records for block_range in gone)
        self._set([block_range for block_range in self._ranges if block_range.volume is not volume])
        return gone

    def sort(self) -> None:
        """Sort the blocks in the order of their ticks."""
        if not self._in_order():
            self._set(sorted(self._ranges, key=_first))
        if not self._in_order() or not self.disjoint:
            entries = sorted(self, key=_first)
            self._set([])
            self.extend(entries)

    def settle(self, sources: Mapping[Volume, RecordSource]) -> None:
        """Take the records of some files from other sources from now on; those that these lack stay where they are."""
        for number, block_range in enumerate(self._ranges):
            records = sources.get(block_range.volume)
            if records is not None and block_range.records is not records:
                at = _place_in(block_range, records)
                if at is not None:
                    _cache.forget([block_range.records])
                    self._ranges[number] = block_range._replace(records=records, begin=at)
        joined: list[BlockRange] = []
        for block_range in self._ranges:
            before = joined[-1] if joined else None
            if before and before.records is block_range.records and before.begin + before.blocks == block_range.begin:
                joined[-1] = before.joined(block_range)
            else:
                joined.append(block_range)
        self._set(joined)

    def _set(self, ranges: list[BlockRange]) -> None:
        self._ranges, self._starts, self._count = ranges, [], 0
        for block_range in ranges:
            self._starts.append(self._count)
            self._count += block_range.blocks

    def _in_order(self) -> bool:
        return all(a.first <= b.first for a, b in pairwise(self._ranges))

    def _number_of(self, at: int) -> int:
        """The number of the range of a block."""
        return bisect_right(self._starts, at) - 1

    # ---- bisection ----

    def after(self, t: int) -> int:
        """The number of the first block with a tick after ``t``."""
        return self._find(bisect_right(self._ranges, t, key=_last), bisect_right, t, LAST)

    def below(self, t: int) -> int:
        """How many blocks begin before ``t``."""
        return self._find(bisect_left(self._ranges, t, key=_first) - 1, bisect_left, t, FIRST)

    def upto(self, t: int) -> int:
        """How many blocks begin at or before ``t``."""
        return self._find(bisect_right(self._ranges, t, key=_first) - 1, bisect_right, t, FIRST)

    def since(self, at: int) -> int:
        """The number of the first block whose last tick was received at or after a time."""
        return self._find(bisect_left(self._ranges, at, key=_last_at), bisect_left, at, LAST_AT)

    def _find(self, number: int, bisect: _Bisect, value: int, field: RecordField) -> int:
        """The number of a block, by bisection in its range."""
        if number < 0:
            return 0
        if number == len(self._ranges):
            return self._count
        return self._starts[number] + self._ranges[number].find(bisect, value, field)

    def has(self, ordinal: int) -> bool:
        """Whether a block begins after this many published ticks."""
        number = bisect_right(self._ranges, ordinal, key=_ordinal) - 1
        if number < 0 or ordinal >= self._ranges[number].end:
            return False
        block_range = self._ranges[number]
        at = block_range.find(bisect_left, ordinal, ORDINAL)
        return at < block_range.blocks and block_range.value(at, ORDINAL) == ordinal

    # ---- by bounds ----

    @property
    def ticks(self) -> int:
        """The number of ticks in all blocks."""
        return sum(block_range.ticks for block_range in self._ranges)

    @property
    def bounds(self) -> tuple[BlockRange, BlockRange] | None:
        """The first and the last range; None: there are no blocks."""
        return (self._ranges[0], self._ranges[-1]) if self._ranges else None

    @property
    def files(self) -> list[BlockRange]:
        """The bounds of each file that has blocks, in order."""
        found: list[BlockRange] = []
        for block_range in self._ranges:
            if found and found[-1].volume is block_range.volume:
                found[-1] = found[-1].joined(block_range)
            else:
                found.append(block_range)
        return found

    @property
    def disjoint(self) -> bool:
        """Whether no tick can be in two blocks; those of one range never overlap."""
        return all(a.last < b.first for a, b in pairwise(self._ranges))

    def ranges(self, volume: Volume) -> list[BlockRange]:
        """The ranges of one file."""
        return [block_range for block_range in self._ranges if block_range.volume is volume]

    def by_volume(self) -> dict[Volume, list[BlockRange]]:
        """The ranges of each file."""
        found: dict[Volume, list[BlockRange]] = {}
        for block_range in self._ranges:
            found.setdefault(block_range.volume, []).append(block_range)
        return found

    def bounds_of(self, volume: Volume) -> BlockRange | None:
        """The bounds of all blocks of one file; None: it has none."""
        ranges = self.ranges(volume)
        return joined_ranges(ranges) if ranges else None

    def end_before(self, at: int) -> int:
        """How many ticks the run published up to the end of the previous block; 0: there is none."""
        if at == 0:
            return 0
        number = self._number_of(at - 1)
        block_range, at = self._ranges[number], at - 1 - self._starts[number]
        return (
            block_range.end
            if at + 1 == block_range.blocks
            else block_range.value(at, ORDINAL) + block_range.value(at, COUNT)
        )

    # ---- blocks of a file ----

    def of(self, volume: Volume) -> list[Entry]:
        """The blocks of one file."""
        return self.later(volume)()

    def later(self, volume: Volume) -> Callable[[], list[Entry]]:
        """A function that returns the file's blocks as they are now, reading all records; for any thread."""
        ranges = self.ranges(volume)
        return lambda: [entry for block_range in ranges for entry in block_range.entries()]

    # ---- missing ticks ----

    def unbroken(self, at: int, high: int) -> int:
        """The ``t``, at most ``high``, up to which no published tick is missing after a block begins: the last of a
        block.

        Args:
            at: the number of that block.
        """
        number = self._number_of(at)
        block_range, at = self._ranges[number], at - self._starts[number]
        end, least = block_range.value(at, ORDINAL), 1  # the block itself counts, whatever ``high`` is
        last = -1
        while True:
            if at == 0 and block_range.ordinal != end:
                return last
            if at == 0 and block_range.whole and block_range.last <= high:
                upto = block_range.blocks
            else:
                beyond = at + block_range.unbroken(at)
                upto = max(min(block_range.find(bisect_right, high, LAST, at), beyond), at + least)
            if upto == at:
                return last
            last = block_range.last if upto == block_range.blocks else block_range.value(upto - 1, LAST)
            if upto < block_range.blocks or number + 1 == len(self._ranges):
                return last
            end, least = block_range.end, 0
            number, at = number + 1, 0
            block_range = self._ranges[number]

    def back(self, upto: int, count: int, every: int) -> tuple[int, int, int | None]:
        """Skip blocks backwards, from those that end at ``upto``: blocks that have only ticks among the last ``count``
        multiples of ``every``, as far as their bounds tell.

        Returns:
            What is left of ``count``; the ``t`` up to which to continue; and the ``t`` before the first tick that was
            counted, or
                None.
        """
        before: int | None = None
        number = bisect_right(self._ranges, upto, key=_first)
        while number and count:
            block_range = self._ranges[number - 1]
            rows = block_range.blocks if block_range.last <= upto else block_range.find(bisect_right, upto, LAST)
            if rows < block_range.blocks and block_range.value(rows, FIRST) <= upto:
                break  # it ends within a block
            for part, passing in block_range.newest(rows, count, every):
                count, upto, rows = count - passing, part.first - 1, rows - part.blocks
                before = upto + -part.first % every if passing else before
            if rows:
                break
            number -= 1
        return count, upto, before


def _place_in(block_range: BlockRange, records: RecordSource) -> int | None:
    """The number of a range's first block among other records of its file; None: not all of its blocks are there."""
    there = block_range._replace(records=records, begin=0, blocks=len(records))
    try:
        offset = block_range.value(0, OFFSET)
        at = there.find(bisect_left, offset, OFFSET)
        last = at + block_range.blocks - 1
        if last >= there.blocks or there.value(at, OFFSET) != offset:
            return None
        return at if there.value(last, OFFSET) == block_range.value(block_range.blocks - 1, OFFSET) else None
    except UnreadableIndex:
        return None


def _first(one: Entry | BlockRange) -> int:
    return one.first


def _last(one: Entry | BlockRange) -> int:
    return one.last


def _last_at(one: Entry | BlockRange) -> int:
    return one.last_at


def _ordinal(one: Entry | BlockRange) -> int:
    return one.ordinal

"""The block index: what is known of a run's stored blocks, in little memory, found by bisection.

    index := page* tail
    page  := up to 64 blocks of one file, packed: some twenty bytes a block, and the page's own bounds
    tail  := the newest blocks, as they are

A block that is asked for is unpacked together with its page; a few pages stay unpacked for whoever asks next, so an
``Entry`` is a value: equal ones are the same block. Bounds of files and pages answer most questions without unpacking
any.

Pure: no I/O, no clock. An index belongs to one thread; the unpacked pages are shared by all.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from itertools import accumulate, islice, pairwise, takewhile
from operator import add, sub
from typing import Any, Final, NamedTuple, Protocol, overload

from .format.segment import Footer

_PAGE: Final = 64  # blocks
_UNPACKED: Final = 256  # pages that stay unpacked, of all runs
_COLUMNS: Final = 12


class Block(NamedTuple):
    """A block's content: its lines, each with its line feed, and the number and receive time (ms) of each."""

    lines: bytes
    ts: Sequence[int]
    ats: Sequence[int]


class Volume(Protocol):
    """A file of blocks. Its methods read from disk: they are for threads that may wait.

    Attributes:
        retired: it is deleted on purpose. That its blocks cannot be had then is no damage.
    """

    retired: bool

    def read(self, entry: Entry) -> Block:
        """A block, checked.

        Raises:
            Damaged: it is not what was written.
            OSError: the file cannot be read.
        """
        ...

    def lines(self, entry: Entry) -> bytes:
        """A block's lines, checked, without a look at what they are. Raises as ``read`` does."""
        ...

    def frames(self, row: Sequence[Entry], *, wait: bool = True) -> bytearray | None:
        """Blocks that lie one behind the other, as they lie on disk: zstd frames, checked. Raises as ``read`` does.

        Args:
            wait: wait for the disk; without, None where the system does not hold all of it in memory.
        """
        ...


class Entry:
    """Where a stored block lies, and what it holds; see ``segment.Footer`` for the fields that bear the same names.

    Attributes:
        volume: the file it lies in.
        offset: where its frame begins there.
        footer: bytes of the footer behind the frame; 0 where there is none.
        raw: whether its frame can be sent as it lies there.
        verified: its bytes were found to be what was written; looked at once a process, or a little more often.
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
        """The entry of a block that lies at ``offset`` and has this footer."""
        return cls(
            volume, offset, footer_bytes, ordinal=footer.ordinal, first=footer.first, last=footer.last,
            first_at=footer.first_at, last_at=footer.last_at, count=footer.count, step=footer.step, size=footer.size,
            frame=footer.frame, crc=footer.crc,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return self is other or (self.volume is other.volume and self.offset == other.offset and self.crc == other.crc)

    def __hash__(self) -> int:
        return hash((id(self.volume), self.offset))

    def passing(self, every: int) -> int | None:
        """How many of its ticks have a ``t`` that ``every`` divides; None: that cannot be told from here."""
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


class FileOf(NamedTuple):
    """What a file holds, or several blocks of it that follow each other.

    Attributes:
        first, last, ordinal, end, ticks, whole: as in ``Page``.
        blocks: how many.
        page, pages: the number of the first page that they are in, and how many these are.
    """

    volume: Volume
    first: int
    last: int
    ordinal: int
    end: int
    ticks: int
    blocks: int = 1
    whole: bool = True
    page: int = 0
    pages: int = 0

    def joined(self, more: FileOf) -> FileOf:
        """With what follows in the same file."""
        return self._replace(
            last=more.last, end=more.end, ticks=self.ticks + more.ticks, blocks=self.blocks + more.blocks,
            whole=self.whole and more.whole and self.end == more.ordinal, pages=self.pages + more.pages,
        )  # fmt: skip


class Page:
    """Some blocks of one file that follow each other.

    Attributes:
        blocks: how many.
        first, last, first_at, last_at, ordinal: of the first and the last of them.
        ticks: in all of them.
        end: how many ticks the run published up to the end of the last one.
        whole: no published tick is missing between them.
    """

    __slots__ = (
        "_data", "_kept", "_verified", "blocks", "end", "first", "first_at", "last", "last_at", "ordinal", "ticks",
        "volume", "whole",
    )  # fmt: skip

    def __init__(self, entries: Sequence[Entry]) -> None:
        first, last = entries[0], entries[-1]
        self.volume = first.volume
        self.blocks = len(entries)
        self.first, self.first_at, self.ordinal = first.first, first.first_at, first.ordinal
        self.last, self.last_at, self.end = last.last, last.last_at, last.ordinal + last.count
        self.ticks = sum(entry.count for entry in entries)
        self.whole = self.ticks == self.end - self.ordinal
        plain = all(type(entry) is Entry and entry.raw for entry in entries)
        self._kept = None if plain else list(entries)  # those of files of other programs know more than fits here
        self._data = _pack(entries) if plain else b""
        self._verified = _verified(entries)

    def file(self, number: int) -> FileOf:
        """What its file holds in it, the page of that number."""
        return FileOf(
            self.volume, self.first, self.last, self.ordinal, self.end, self.ticks, self.blocks, self.whole, number, 1
        )

    def entries(self) -> Sequence[Entry]:
        """The blocks, unpacked for this one time."""
        if self._kept is not None:
            return self._kept
        return _PageEntries(_unpack(self._data, self.blocks), self.volume, self._verified)

    def note(self, entries: Sequence[Entry]) -> None:
        """Remember which of them were verified."""
        self._verified = _verified(entries)


def _verified(entries: Sequence[Entry]) -> bytes:
    """One byte a block; none at all where none was verified."""
    if isinstance(entries, _PageEntries):
        return entries.verified
    found = bytes(entry.verified for entry in entries)
    return found if any(found) else b""


def _passing(one: FileOf | Page, every: int) -> int | None:
    """See ``Entry.passing``."""
    if every == 1:
        return one.ticks
    dense = one.last - one.first + 1 == one.ticks
    return one.last // every - (one.first - 1) // every if dense else None


class _PageEntries(Sequence[Entry]):
    """The blocks of a page, each made when it is asked for."""

    __slots__ = ("_columns", "_made", "_verified", "_volume")

    def __init__(self, columns: list[array[int]], volume: Volume, verified: bytes) -> None:
        self._columns = columns
        self._volume = volume
        self._verified = verified
        self._made: dict[int, Entry] = {}

    def __len__(self) -> int:
        return len(self._columns[0])

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        found = self._made.get(index)
        return found if found is not None else self._made.setdefault(index, self._make(index))  # one for all threads

    def _make(self, at: int) -> Entry:
        offset, ordinal, first, last, first_at, last_at, count, step, size, frame, footer, crc = (
            column[at] for column in self._columns
        )
        entry = Entry(
            self._volume, offset, footer, ordinal=ordinal, first=first, last=last, first_at=first_at, last_at=last_at,
            count=count, step=step, size=size, frame=frame, crc=crc,
        )  # fmt: skip
        entry.verified = bool(self._verified and self._verified[at])
        return entry

    @property
    def verified(self) -> bytes:
        """See ``_verified``."""
        made = self._made.copy()
        if not any(entry.verified for entry in made.values()):
            return self._verified
        found = bytearray(self._verified or bytes(len(self)))
        for at, entry in made.items():
            found[at] = entry.verified
        return bytes(found)


def _pack(entries: Sequence[Entry]) -> bytes:
    """Columns of differences from what is to be expected, so that most of them are small or 0."""
    rows: list[tuple[int, ...]] = []
    offset = ordinal = last = last_at = 0
    for one in entries:
        rows.append((
            one.offset - offset, one.ordinal - ordinal, one.first - last, one.last - one.first, one.first_at - last_at,
            one.last_at - one.first_at, one.count, one.step, one.size, one.frame, one.footer, one.crc,
        ))  # fmt: skip
        offset, ordinal = one.offset + one.frame + one.footer, one.ordinal + one.count
        last, last_at = one.last, one.last_at
    columns = array("q", [value for column in zip(*rows, strict=True) for value in column])
    data = columns.tobytes()
    # Byte planes: the high bytes of small numbers are all alike, and lie together.
    return zlib.compress(b"".join([data[plane::8] for plane in range(8)]), 6)


def _unpack(data: bytes, blocks: int) -> list[array[int]]:
    """The columns, each as the fields of blocks are: offset, ordinal, first, last, first_at, last_at, and the rest."""
    planes = zlib.decompress(data)
    size = blocks * _COLUMNS
    joined = bytearray(8 * size)
    for plane in range(8):
        joined[plane::8] = planes[plane * size : (plane + 1) * size]
    values = array("q", bytes(joined))
    columns = [values[column * blocks : (column + 1) * blocks] for column in range(_COLUMNS)]
    offset, ordinal, first, last, first_at, last_at, count, _, _, frame, footer, _ = columns
    columns[0] = array("q", accumulate(map(sum, zip(offset, [0, *frame], [0, *footer], strict=False))))
    columns[1] = array("q", accumulate(map(add, ordinal, [0, *count])))
    columns[3] = array("q", accumulate(map(add, first, last)))
    columns[2] = array("q", map(sub, columns[3], last))
    columns[5] = array("q", accumulate(map(add, first_at, last_at)))
    columns[4] = array("q", map(sub, columns[5], last_at))
    return columns


class _Unpacked:
    """Pages that stay unpacked, those that were asked for last; for any thread: each step is one of the dict's."""

    def __init__(self) -> None:
        self._pages: OrderedDict[Page, Sequence[Entry]] = OrderedDict()

    def get(self, page: Page) -> Sequence[Entry]:
        found = self._pages.pop(page, None)
        if found is None:
            found = page.entries()
        self._pages[page] = found
        if len(self._pages) > _UNPACKED:
            old, entries = self._pages.popitem(last=False)
            old.note(entries)
        return found

    def peek(self, page: Page) -> Sequence[Entry]:
        """The same, for one who goes through all of them: nothing is kept for that."""
        return self._pages.get(page) or page.entries()


_unpacked: Final = _Unpacked()


class _Bisect(Protocol):
    """``bisect_left`` or ``bisect_right``."""

    def __call__(self, a: Any, x: int, *, key: Callable[[Any], int]) -> int: ...


class Blocks(MutableSequence[Entry]):
    """The blocks of one run, in order."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._pages: list[Page] = []
        self._starts: list[int] = []  # the number of each page's first block
        self._files: list[FileOf] = []  # what the pages hold by files
        self._tail: list[Entry] = []
        if isinstance(entries, Blocks):  # pages never change, so two indexes may have the same
            self._pages, self._starts, self._tail = [*entries._pages], [*entries._starts], [*entries._tail]
            self._files = [*entries._files]
        else:
            self._fill(entries)

    # ---- as a sequence ----

    def __len__(self) -> int:
        return self._packed + len(self._tail)

    def __iter__(self) -> Iterator[Entry]:
        for page in list(self._pages):
            yield from _unpacked.peek(page)
        yield from list(self._tail)

    def __reversed__(self) -> Iterator[Entry]:
        yield from self._tail[::-1]
        for page in self._pages[::-1]:
            yield from _unpacked.peek(page)[::-1]

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
        if at >= self._packed:
            return self._tail[at - self._packed]
        number = bisect_right(self._starts, at) - 1
        return _unpacked.get(self._pages[number])[at - self._starts[number]]

    def __setitem__(self, index: Any, value: Any) -> None:
        entries = list(self)
        entries[index] = value
        self._fill(entries)

    def __delitem__(self, index: int | slice) -> None:
        entries = list(self)
        del entries[index]
        self._fill(entries)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, Entry):
            return False
        at = self.below(value.first)
        return at < len(self) and self[at] == value

    def append(self, value: Entry) -> None:
        """Add a block behind all others."""
        if self._tail and (len(self._tail) >= _PAGE or self._tail[-1].volume is not value.volume):
            self._pack_tail()
        self._tail.append(value)

    def remove(self, value: Entry) -> None:
        """Take a block away. Its page alone is packed anew: others are damaged while readers are served.

        Raises:
            ValueError: it is not there.
        """
        at = self.below(value.first)
        if at >= len(self) or self[at] != value:
            raise ValueError(f"there is no block that begins with tick {value.first}")
        if at >= self._packed:
            del self._tail[at - self._packed]
            return
        number = bisect_right(self._starts, at) - 1
        left = [entry for entry in _unpacked.peek(self._pages[number]) if entry != value]
        self._pages[number : number + 1] = [Page(left)] if left else []
        self._number_from(number)

    def insert(self, index: int, value: Entry) -> None:
        """Put a block where it belongs: seldom, after a crash."""
        if index >= len(self):
            self.append(value)
            return
        entries = list(self)
        entries.insert(index, value)
        self._fill(entries)

    def sort(self) -> None:
        """Bring them into the order of their ticks."""
        entries = list(self)
        if any(a.first > b.first for a, b in pairwise(entries)):
            self._fill(sorted(entries, key=_first))

    def _fill(self, entries: Iterable[Entry]) -> None:
        self._pages, self._starts, self._files, self._tail = [], [], [], []
        for entry in entries:
            self.append(entry)

    def _pack_tail(self) -> None:
        self._starts.append(self._packed)
        self._pages.append(Page(self._tail))
        _note(self._files, self._pages[-1].file(len(self._pages) - 1))
        self._tail = []

    def _number_from(self, number: int) -> None:
        """Count the blocks anew from a page on."""
        start = self._starts[number - 1] + self._pages[number - 1].blocks if number else 0
        del self._starts[number:]
        for page in self._pages[number:]:
            self._starts.append(start)
            start += page.blocks
        self._files = []
        for at, page in enumerate(self._pages):
            _note(self._files, page.file(at))

    @property
    def _packed(self) -> int:
        return self._starts[-1] + self._pages[-1].blocks if self._pages else 0

    # ---- found by bisection ----

    def after(self, t: int) -> int:
        """The number of the first block that ends behind ``t``."""
        return self._find(bisect_right, t, _last)

    def below(self, t: int) -> int:
        """How many blocks begin before ``t``."""
        return self._find(bisect_left, t, _first)

    def upto(self, t: int) -> int:
        """How many blocks begin at ``t`` or before."""
        return self._find(bisect_right, t, _first)

    def since(self, at: int) -> int:
        """The number of the first block whose last tick was received at a time or after it."""
        return self._find(bisect_left, at, _last_at)

    def _find(self, bisect: _Bisect, value: int, key: Callable[[Entry | Page], int]) -> int:
        """Bisect over all: by the bounds of pages, then in one page. What pages are bisected by need not be what their
        first blocks are: a page that begins before a value may hold the place."""
        number = bisect(self._pages, value, key=key)
        if key is _first and number:
            number -= 1
        for at in range(number, len(self._pages)):
            found = bisect(_unpacked.get(self._pages[at]), value, key=key)
            if found < self._pages[at].blocks:
                return self._starts[at] + found
        return self._packed + bisect(self._tail, value, key=key)

    def has(self, ordinal: int) -> bool:
        """Whether a block begins behind so many published ticks."""
        number = bisect_right(self._pages, ordinal, key=_ordinal) - 1
        if number >= 0:
            entries = _unpacked.get(self._pages[number])
            at = bisect_left(entries, ordinal, key=_ordinal)
            if at < len(entries) and entries[at].ordinal == ordinal:
                return True
        return any(entry.ordinal == ordinal for entry in self._tail)

    # ---- all of them, by pages ----

    @property
    def ticks(self) -> int:
        """How many there are in all blocks."""
        return sum(file.ticks for file in self._files) + sum(entry.count for entry in self._tail)

    @property
    def files(self) -> list[FileOf]:
        """What each file holds that has blocks, in order."""
        found = [*self._files]
        for entry in self._tail:
            end = entry.ordinal + entry.count
            _note(found, FileOf(entry.volume, entry.first, entry.last, entry.ordinal, end, entry.count))
        return found

    def of(self, volume: Volume) -> list[Entry]:
        """The blocks of one file."""
        return self.later(volume)()

    def later(self, volume: Volume) -> Callable[[], list[Entry]]:
        """What gives the blocks that one file has now, on any thread: many take some milliseconds."""
        tail = [entry for entry in self._tail if entry.volume is volume]
        files = [file for file in self._files if file.volume is volume]
        pages = [page for file in files for page in self._pages[file.page : file.page + file.pages]]
        return lambda: [entry for page in pages for entry in _unpacked.peek(page)] + tail

    def drop(self, volume: Volume) -> None:
        """Take the blocks of one file away."""
        self._tail = [entry for entry in self._tail if entry.volume is not volume]
        self._pages = [page for page in self._pages if page.volume is not volume]
        self._number_from(0)

    def unbroken(self, at: int, high: int) -> int:
        """Up to which ``t``, ``high`` or before, no published tick is missing from a block on: the last one of a block.

        Args:
            at: the number of that block.
        """
        entry = self[at]
        end, last = entry.ordinal + entry.count, entry.last
        at += 1
        while at < len(self) and last < high:
            number = bisect_right(self._starts, at) - 1 if at < self._packed else len(self._pages)
            begin = at
            if number < len(self._pages) and self._starts[number] == at:
                for one in self._from(number, high):
                    if one.ordinal != end:
                        return last
                    end, last, at = one.end, one.last, at + one.blocks
            if at > begin:
                continue
            entry = self[at]
            if entry.ordinal != end or entry.last > high:
                break
            end, last, at = entry.ordinal + entry.count, entry.last, at + 1
        return last

    def _file(self, number: int) -> FileOf:
        """The file that a page is in."""
        return self._files[bisect_right(self._files, number, key=_page) - 1]

    def _from(self, number: int, high: int) -> Iterator[FileOf | Page]:
        """The files from a page on, else the page, in which nothing is missing, and which end at ``high`` or before."""
        at, page = bisect_left(self._files, number, key=_page), self._pages[number]
        if at < len(self._files) and self._files[at].page == number and self._files[at].whole:
            if self._files[at].last <= high:
                yield from takewhile(lambda file: file.whole and file.last <= high, islice(self._files, at, None))
                return
        if page.whole and page.last <= high:
            yield page

    def back(self, upto: int, count: int, every: int) -> tuple[int, int, int | None]:
        """Pass over whole files and pages, from the one that ends at ``upto`` on: those of which all ticks that
        ``every`` divides are among the last ``count``, as far as that can be told by their bounds.

        Returns:
            What is left of ``count``; up to which ``t`` there is more; and the ``t`` before the first tick that was
            counted, or None.
        """
        before: int | None = None
        number = bisect_right(self._pages, upto, key=_first) if not self._tail or self._tail[0].first > upto else 0
        while number:
            file = self._file(number - 1)
            some: FileOf | Page = file if file.page + file.pages == number else self._pages[number - 1]
            passing = _passing(some, every)
            if some is file and (passing is None or passing > count or file.last > upto):
                some = self._pages[number - 1]
                passing = _passing(some, every)
            if some.last > upto or passing is None or passing > count:
                break
            count, upto = count - passing, some.first - 1
            before = upto + -some.first % every if passing else before
            number -= file.pages if some is file else 1
        return count, upto, before

    def __sizeof__(self) -> int:
        """Bytes of what is kept for good."""
        pages = sum(sys.getsizeof(page) + sys.getsizeof(page._data) + sys.getsizeof(page._verified)
                    for page in self._pages)  # fmt: skip
        lists = sys.getsizeof(self._pages) + sys.getsizeof(self._starts) + sys.getsizeof(self._tail)
        return pages + lists + sum(map(sys.getsizeof, self._tail))


def _note(files: list[FileOf], more: FileOf) -> None:
    """Add what follows in the last file, or a file behind it."""
    if files and files[-1].volume is more.volume:
        files[-1] = files[-1].joined(more)
    else:
        files.append(more)


def _first(one: Entry | Page) -> int:
    return one.first


def _last(one: Entry | Page) -> int:
    return one.last


def _last_at(one: Entry | Page) -> int:
    return one.last_at


def _ordinal(one: Entry | Page) -> int:
    return one.ordinal


def _page(file: FileOf) -> int:
    return file.page

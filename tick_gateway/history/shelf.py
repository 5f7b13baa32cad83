"""Shelves: the stored blocks of one run in order, and what is missing between them.

A block knows how many ticks its run published before it (its ordinal). Where that is more than stand before it on the
shelf, some are missing: deleted, damaged, or never written. That one comparison finds every hole.

Pure: no I/O, no clock, no asyncio.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ..ring import BATCH_BYTES, Batch, Run
from ..tick import Tick
from .segment import Foot


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
    """Where a stored block lies, and what it holds; see ``segment.Foot`` for the fields that bear the same names.

    Attributes:
        volume: the file it lies in.
        offset: where its frame begins there.
        foot: bytes of the foot behind the frame; 0 where there is none.
        raw: whether its frame can be sent as it lies there.
        verified: its bytes were found to be what was written; looked at once a process.
    """

    __slots__ = (
        "count", "crc", "first", "first_at", "foot", "frame", "last", "last_at", "offset", "ordinal", "raw", "size",
        "step", "verified", "volume",
    )  # fmt: skip

    def __init__(
        self, volume: Volume, offset: int, foot: int, *, ordinal: int, first: int, last: int, first_at: int,
        last_at: int, count: int, step: int, size: int, frame: int, crc: int, raw: bool = True,
    ) -> None:  # fmt: skip
        self.volume = volume
        self.offset = offset
        self.foot = foot
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
    def of(cls, volume: Volume, offset: int, foot: Foot, foot_bytes: int) -> Entry:
        """The entry of a block that lies at ``offset`` and has this foot."""
        return cls(
            volume, offset, foot_bytes, ordinal=foot.ordinal, first=foot.first, last=foot.last,
            first_at=foot.first_at, last_at=foot.last_at, count=foot.count, step=foot.step, size=foot.size,
            frame=foot.frame, crc=foot.crc,
        )  # fmt: skip

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

    def batches(self, run: Run, block: Block) -> list[Batch]:
        """The block as the ring would hold it: portions of about 256 KiB."""
        return batches_of(run, block, self.ordinal)


def batches_of(run: Run, block: Block, ordinal: int) -> list[Batch]:
    """A block, before which its run published so many ticks, in portions of about 256 KiB."""
    data = block.lines.split(b"\n")
    data.pop()
    ticks = list(map(Tick._make, zip(block.ts, data, block.ats, strict=True)))
    if len(block.lines) <= BATCH_BYTES or len(ticks) == 1:
        return [Batch(run, ticks, len(block.lines) - len(ticks), False, ordinal)]
    found: list[Batch] = []
    begin = size = 0
    for index, line in enumerate(data):
        if size and size + len(line) > BATCH_BYTES:
            found.append(Batch(run, ticks[begin:index], size, False, ordinal + begin))
            begin, size = index, 0
        size += len(line)
    found.append(Batch(run, ticks[begin:], size, False, ordinal + begin))
    return found


_MOST_BLOCKS = 256  # read in one go: two buffers each, and systems take 1,024

Stored = Entry | Batch
"""A stored block, or a batch of the open one, which memory still has."""


class Shelf:
    """The stored blocks of one run.

    Attributes:
        run: the run.
        entries: closed blocks, in order.
        open: the batches that were written since, in order.
    """

    __slots__ = ("_edges", "entries", "open", "run")

    def __init__(self, run: Run, entries: Iterable[Entry] = (), edges: Mapping[int, int] | None = None) -> None:
        self.run = run
        self.entries = list(entries)
        self.open: list[Batch] = []
        self._edges = dict(edges or {})  # by what follows (its ordinal): the last ``t`` before it, which was removed

    def after(self, t: int) -> Stored | None:
        """The first that holds a tick after ``t``, or None."""
        at = bisect_right(self.entries, t, key=_last)
        if at < len(self.entries):
            return self.entries[at]
        at = bisect_right(self.open, t, key=_last)
        return self.open[at] if at < len(self.open) else None

    def upto(self, t: int) -> list[Stored]:
        """All that hold a tick up to ``t``, newest first."""
        opened = self.open[: bisect_right(self.open, t, key=_first)]
        closed = self.entries[: bisect_right(self.entries, t, key=_first)]
        return [*reversed(opened), *reversed(closed)]

    def row(self, entry: Entry, high: int | None, most: int) -> list[Entry]:
        """Blocks from ``entry`` on that lie one behind the other in its file, with nothing missing between them.

        Args:
            high: none that holds a tick beyond it; None: any.
            most: bytes of their frames, about; ``entry`` itself counts whatever its size.
        """
        row = [entry]
        size = entry.frame
        for at in range(bisect_right(self.entries, entry.first, key=_first), len(self.entries)):
            one, before = self.entries[at], row[-1]
            size += one.frame
            if size > most or len(row) == _MOST_BLOCKS or one.volume is not entry.volume:
                break
            if entry.raw and one.offset != before.offset + before.frame + before.foot:
                break
            if one.ordinal != before.ordinal + before.count or (high is not None and one.last > high):
                break
            row.append(one)
        return row

    def received_since(self, at: int) -> Stored | None:
        """The first that holds a tick received at or after a time, or None."""
        index = bisect_left(self.entries, at, key=_last_at)
        if index < len(self.entries):
            return self.entries[index]
        return next((batch for batch in self.open if batch.ticks[-1].at >= at), None)

    def missing_before(self, stored: Stored, t: int) -> bool:
        """Whether published ticks after ``t`` and before this one, the first behind ``t``, are missing here."""
        if t >= self._edges.get(stored.ordinal, stored.first - 1):
            return False
        at = bisect_left(self.entries, stored.first, key=_first)
        if isinstance(stored, Batch) and (index := bisect_left(self.open, stored.first, key=_first)):
            before = self.open[index - 1]
            return stored.ordinal != before.ordinal + len(before.ticks)
        if at == 0:
            return stored.ordinal > 0
        closed = self.entries[at - 1]
        return stored.ordinal != closed.ordinal + closed.count

    def edge(self, ordinal: int) -> int | None:
        """The ``t`` before what follows so many published ticks, where that was removed from here; else None."""
        return self._edges.get(ordinal)

    def holds(self, low: int, high: int) -> bool:
        """Whether all that was published with low <= t <= high, both of which were, is stored."""
        t, stored = low - 1, self.after(low - 1)
        while stored is not None and (stored.first <= low if t < low else not self.missing_before(stored, t)):
            t = stored.last
            if t >= high:
                return True
            stored = self.after(t)
        return False

    @property
    def first(self) -> int | None:
        """The lowest ``t`` that is stored, or None."""
        return self.entries[0].first if self.entries else self.open[0].first if self.open else None

    @property
    def last(self) -> int | None:
        """The highest ``t`` that is stored, or None."""
        return self.open[-1].last if self.open else self.entries[-1].last if self.entries else None

    def close(self, entry: Entry) -> None:
        """The open block was closed (or what was stored of it was found again); it stands on disk alone now."""
        self.open = [batch for batch in self.open if batch.first > entry.last]
        self.entries.append(entry)

    def remove(self, entries: Iterable[Entry]) -> None:
        """Blocks are gone; where they ended is known from here on (see ``edge``)."""
        gone = {id(entry): entry for entry in entries}
        self.entries = [entry for entry in self.entries if id(entry) not in gone]
        edges = self._edges | {entry.ordinal + entry.count: entry.last for entry in gone.values()}
        left: list[Stored] = [*self.entries, *self.open[:1]]
        self._edges = {stored.ordinal: edges[stored.ordinal] for stored in left if stored.ordinal in edges}


def _first(stored: Stored) -> int:
    return stored.first


def _last(stored: Stored) -> int:
    return stored.last


def _last_at(entry: Entry) -> int:
    return entry.last_at

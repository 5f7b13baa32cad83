"""The history of a run: its stored blocks in order, and what is missing between them.

A block has the number of ticks that its run published before it (its ordinal). If fewer are stored before it, some are
missing: deleted, damaged, or never written. This one comparison finds every hole.

Pure: no I/O, no clock, no asyncio.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from ..bus.ring import Batch, Run, split
from ..model.tick import PublishedTick
from .block_index import BlockRange, Blocks
from .record_page import UnreadableIndex
from .stored_block import Block, Entry, Volume


def batches_of(run: Run, block: Block, ordinal: int) -> list[Batch]:
    """The ticks of a block as batches, bounded only by bytes: a reader of blocks is catching up, and takes large
    writes.

    Args:
        ordinal: how many ticks the run published before the block.
    """
    data = block.lines.split(b"\n")
    data.pop()
    ticks = list(map(PublishedTick._make, zip(block.ts, data, block.ats, strict=True)))
    return split(run, ticks, len(block.lines) - len(ticks), ordinal)


_MOST_BLOCKS = 256  # in one read: two buffers each, and systems allow 1,024

Stored = Entry | Batch
"""A stored block, or a batch of the open one, which memory still has."""

Lost = Callable[[Run, Sequence[BlockRange], UnreadableIndex], None]
_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def _despite_loss(
    look: Callable[Concatenate[RunHistory, _Args], _Result],
) -> Callable[Concatenate[RunHistory, _Args], _Result]:
    """Decorates a look-up: if a file's records cannot be read, it drops that file and tries again."""

    @wraps(look)
    def again(history: RunHistory, /, *args: _Args.args, **named: _Args.kwargs) -> _Result:
        while True:
            try:
                return look(history, *args, **named)
            except UnreadableIndex as error:
                problem = error
            history.give_up(problem)

    return again


class RunHistory:
    """The stored blocks of one run.

    A file whose records cannot be read any more is dropped, and look-ups continue with the others.

    Args:
        edges: as in ``StoredRun``.
        lost: called with what was dropped.

    Attributes:
        run: the run.
        entries: closed blocks, in order.
        open: the batches written since, in order.
    """

    __slots__ = ("_edges", "_told_lost", "entries", "open", "run")

    def __init__(
        self, run: Run, entries: Iterable[Entry] = (), edges: Mapping[int, int] | None = None, lost: Lost | None = None
    ) -> None:
        self.run = run
        self._told_lost = lost
        self.entries = Blocks(entries)
        self.open: list[Batch] = []
        self._edges = dict(edges or {})  # by the ordinal of what follows: the last ``t`` before it, which was deleted

    @_despite_loss
    def after(self, t: int) -> Stored | None:
        """The first block or batch with a tick after ``t``, or None."""
        at = self.entries.after(t)
        if at < len(self.entries):
            return self.entries[at]
        at = bisect_right(self.open, t, key=_last)
        return self.open[at] if at < len(self.open) else None

    def upto(self, t: int) -> Iterator[Stored]:
        """All with a tick up to ``t``, newest first; blocks may be added and removed meanwhile."""
        while (at := bisect_right(self.open, t, key=_first)) > 0:
            batch = self.open[at - 1]
            yield batch
            t = batch.first - 1
        yield from self.newest_first(t)

    def newest_first(self, t: int | None = None) -> Iterator[Entry]:
        """All closed blocks with a tick up to ``t`` (None: all), newest first; they may change meanwhile."""
        bounds = self.entries.bounds
        t = bounds[1].last if t is None and bounds else t
        while t is not None and (entry := self._newest(t)) is not None:
            yield entry
            t = entry.first - 1

    @_despite_loss
    def _newest(self, t: int) -> Entry | None:
        at = self.entries.upto(t)
        return self.entries[at - 1] if at else None

    @_despite_loss
    def has(self, entry: Entry) -> bool:
        """Whether the block is part of it."""
        return entry in self.entries

    @_despite_loss
    def between(self, low: int, high: int) -> tuple[int, Entry | None]:
        """About how many closed blocks have ticks with low < t <= high, and the first of them."""
        at = self.entries.after(low)
        count = self.entries.upto(high) - at
        return count, self.entries[at] if count > 0 else None

    @_despite_loss
    def row(self, entry: Entry, high: int | None, most: int) -> list[Entry]:
        """Adjacent blocks of one file from ``entry`` on, with nothing missing between them.

        Args:
            high: stop before blocks with ticks beyond it; None: no bound.
            most: approximate bytes of their frames; ``entry`` itself is always included.
        """
        row = [entry]
        size = entry.frame
        for at in range(self.entries.upto(entry.first), len(self.entries)):
            one, before = self.entries[at], row[-1]
            size += one.frame
            if size > most or len(row) == _MOST_BLOCKS or one.volume is not entry.volume:
                break
            if entry.raw and one.offset != before.offset + before.frame + before.footer:
                break
            if one.ordinal != before.ordinal + before.count or (high is not None and one.last > high):
                break
            row.append(one)
        return row

    @_despite_loss
    def received_since(self, at: int) -> Stored | None:
        """The first block or batch with a tick received at or after a time, or None."""
        index = self.entries.since(at)
        if index < len(self.entries):
            return self.entries[index]
        return next((batch for batch in self.open if batch.ticks[-1].at >= at), None)

    @_despite_loss
    def missing_before(self, stored: Stored, t: int) -> bool:
        """Whether published ticks between ``t`` and ``stored``, the first after ``t``, are missing."""
        if t >= self._edges.get(stored.ordinal, stored.first - 1):
            return False
        at = self.entries.below(stored.first)
        if isinstance(stored, Batch) and (index := bisect_left(self.open, stored.first, key=_first)):
            before = self.open[index - 1]
            return stored.ordinal != before.ordinal + len(before.ticks)
        return stored.ordinal != self.entries.end_before(at) if at else stored.ordinal > 0

    @_despite_loss
    def back(self, upto: int, count: int, every: int) -> tuple[int, int, int | None]:
        """See ``Blocks.back``."""
        if not count or (self.open and self.open[0].first <= upto):
            return count, upto, None
        return self.entries.back(upto, count, every)

    @_despite_loss
    def unbroken(self, entry: Entry, high: int) -> int:
        """See ``Blocks.unbroken``."""
        return self.entries.unbroken(self.entries.below(entry.first), high)

    def edge(self, ordinal: int) -> int | None:
        """The ``t`` before the tick with this ordinal, if it was deleted; else None."""
        return self._edges.get(ordinal)

    def holds(self, low: int, high: int) -> bool:
        """Whether everything published with low <= t <= high is stored; both must have been published."""
        t, stored = low - 1, self.after(low - 1)
        while stored is not None and (stored.first <= low if t < low else not self.missing_before(stored, t)):
            t = stored.last
            if t >= high:
                return True
            stored = self.after(t)
        return False

    @property
    def first(self) -> int | None:
        """The lowest stored ``t``, or None."""
        bounds = self.entries.bounds
        return bounds[0].first if bounds else self.open[0].first if self.open else None

    @property
    def closed(self) -> int:
        """The highest ``t`` in closed blocks, -1: there are none."""
        bounds = self.entries.bounds
        return bounds[1].last if bounds else -1

    @property
    def last(self) -> int | None:
        """The highest stored ``t``, or None."""
        bounds = self.entries.bounds
        return self.open[-1].last if self.open else bounds[1].last if bounds else None

    @_despite_loss
    def close(self, entry: Entry) -> None:
        """The open block was closed (or a part of it was recovered), and is now read from disk."""
        self.open = [batch for batch in self.open if batch.first > entry.last]
        self.entries.put(entry)  # after a crash, possibly between others

    @_despite_loss
    def remove(self, entry: Entry) -> None:
        """A block is gone; from now on ``edge`` knows where it ended."""
        self.entries.remove(entry)
        self._note({entry.ordinal + entry.count: entry.last})

    def drop(self, volume: Volume) -> list[BlockRange]:
        """The same for all blocks of a file; returns their bounds."""
        gone = self.entries.drop(volume)
        self._note({block_range.end: block_range.last for block_range in gone})
        return gone

    def _note(self, gone: dict[int, int]) -> None:
        """Remember where something deleted ended; see ``edge``."""
        self._edges |= gone
        follows = self.open[0].ordinal if self.open else None
        with suppress(UnreadableIndex):  # then they are kept for now
            self._edges = {
                number: t for number, t in self._edges.items() if number == follows or self.entries.has(number)
            }

    def give_up(self, problem: UnreadableIndex) -> None:
        """The records of a file's blocks cannot be read: drop them."""
        gone = self.drop(problem.volume)
        if self._told_lost is not None:
            self._told_lost(self.run, gone, problem)


def _first(stored: Stored) -> int:
    return stored.first


def _last(stored: Stored) -> int:
    return stored.last

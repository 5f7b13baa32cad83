"""The history of a run: its stored blocks in order, and what is missing between them.

A block knows how many ticks its run published before it (its ordinal). Where that is more than stand before it here,
some are missing: deleted, damaged, or never written. That one comparison finds every hole.

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
from .block_index import Block, BlockRange, Blocks, Entry, UnreadableIndex, Volume


def batches_of(run: Run, block: Block, ordinal: int) -> list[Batch]:
    """The ticks of a block as batches, bounded by bytes alone: who reads blocks catches up, and takes large writes.

    Args:
        ordinal: how many ticks the run published before the block.
    """
    data = block.lines.split(b"\n")
    data.pop()
    ticks = list(map(PublishedTick._make, zip(block.ts, data, block.ats, strict=True)))
    return split(run, ticks, len(block.lines) - len(ticks), ordinal)


_MOST_BLOCKS = 256  # read in one go: two buffers each, and systems take 1,024

Stored = Entry | Batch
"""A stored block, or a batch of the open one, which memory still has."""

Lost = Callable[[Run, Sequence[BlockRange], UnreadableIndex], None]
_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def _despite_loss(
    look: Callable[Concatenate[RunHistory, _Args], _Result],
) -> Callable[Concatenate[RunHistory, _Args], _Result]:
    """A look-up that, where what is known of a file's blocks cannot be read, goes on without them."""

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

    Where the records of a file's blocks cannot be read any more, they leave it, and a look-up goes on with the others.

    Args:
        edges: as in ``StoredRun``.
        lost: told of such blocks.

    Attributes:
        run: the run.
        entries: closed blocks, in order.
        open: the batches that were written since, in order.
    """

    __slots__ = ("_edges", "_told_lost", "entries", "open", "run")

    def __init__(
        self, run: Run, entries: Iterable[Entry] = (), edges: Mapping[int, int] | None = None, lost: Lost | None = None
    ) -> None:
        self.run = run
        self._told_lost = lost
        self.entries = Blocks(entries)
        self.open: list[Batch] = []
        self._edges = dict(edges or {})  # by what follows (its ordinal): the last ``t`` before it, which was removed

    @_despite_loss
    def after(self, t: int) -> Stored | None:
        """The first that holds a tick after ``t``, or None."""
        at = self.entries.after(t)
        if at < len(self.entries):
            return self.entries[at]
        at = bisect_right(self.open, t, key=_last)
        return self.open[at] if at < len(self.open) else None

    def upto(self, t: int) -> Iterator[Stored]:
        """All that hold a tick up to ``t``, newest first; blocks may come and go meanwhile."""
        while (at := bisect_right(self.open, t, key=_first)) > 0:
            batch = self.open[at - 1]
            yield batch
            t = batch.first - 1
        yield from self.newest_first(t)

    def newest_first(self, t: int | None = None) -> Iterator[Entry]:
        """All closed blocks that hold a tick up to ``t`` (None: all), newest first; they may come and go meanwhile."""
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
        """Whether it has a closed block."""
        return entry in self.entries

    @_despite_loss
    def between(self, low: int, high: int) -> tuple[int, Entry | None]:
        """How many closed blocks hold ticks with low < t <= high, about, and the first of them."""
        at = self.entries.after(low)
        count = self.entries.upto(high) - at
        return count, self.entries[at] if count > 0 else None

    @_despite_loss
    def row(self, entry: Entry, high: int | None, most: int) -> list[Entry]:
        """Blocks from ``entry`` on that lie one behind the other in its file, with nothing missing between them.

        Args:
            high: none that holds a tick beyond it; None: any.
            most: bytes of their frames, about; ``entry`` itself counts whatever its size.
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
        """The first that holds a tick received at or after a time, or None."""
        index = self.entries.since(at)
        if index < len(self.entries):
            return self.entries[index]
        return next((batch for batch in self.open if batch.ticks[-1].at >= at), None)

    @_despite_loss
    def missing_before(self, stored: Stored, t: int) -> bool:
        """Whether published ticks after ``t`` and before this one, the first behind ``t``, are missing here."""
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
        bounds = self.entries.bounds
        return bounds[0].first if bounds else self.open[0].first if self.open else None

    @property
    def closed(self) -> int:
        """The highest ``t`` in closed blocks, -1: there is none."""
        bounds = self.entries.bounds
        return bounds[1].last if bounds else -1

    @property
    def last(self) -> int | None:
        """The highest ``t`` that is stored, or None."""
        bounds = self.entries.bounds
        return self.open[-1].last if self.open else bounds[1].last if bounds else None

    @_despite_loss
    def close(self, entry: Entry) -> None:
        """The open block was closed (or what was stored of it was found again); it stands on disk alone now."""
        self.open = [batch for batch in self.open if batch.first > entry.last]
        self.entries.put(entry)  # after a crash, perhaps among others

    @_despite_loss
    def remove(self, entry: Entry) -> None:
        """A block is gone; where it ended is known from here on (see ``edge``)."""
        self.entries.remove(entry)
        self._note({entry.ordinal + entry.count: entry.last})

    def drop(self, volume: Volume) -> list[BlockRange]:
        """The same of all blocks of a file; returns their bounds."""
        gone = self.entries.drop(volume)
        self._note({block_range.end: block_range.last for block_range in gone})
        return gone

    def _note(self, gone: dict[int, int]) -> None:
        """Note where something ended that is gone; see ``edge``."""
        self._edges |= gone
        follows = self.open[0].ordinal if self.open else None
        with suppress(UnreadableIndex):  # then they are kept for now
            self._edges = {
                number: t for number, t in self._edges.items() if number == follows or self.entries.has(number)
            }

    def give_up(self, problem: UnreadableIndex) -> None:
        """What is known of a file's blocks cannot be read: they are gone from here."""
        gone = self.drop(problem.volume)
        if self._told_lost is not None:
            self._told_lost(self.run, gone, problem)


def _first(stored: Stored) -> int:
    return stored.first


def _last(stored: Stored) -> int:
    return stored.last

"""Cursors, and what reading with one yields: values, which nobody changes.

Which cursor comes behind another one is decided in this package alone: ``start_position`` makes the first one of a
request, ``Feed.read`` gives what comes next and the cursor behind it, and a reader that was given less, or something
else, than was read takes the cursor that ``behind`` or ``told`` says. Whoever writes nothing keeps the cursor it had.

What a reader has of its own beside that, a block that it waits for or comes back to, is no part of its cursor: it is
handed to ``Feed.read`` and comes back with the ``Portion``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..bus.ring import Batch, Run
from ..history.archive import Load
from ..history.block_index import Entry
from ..model.notices import End, Gap, Reset
from ..model.query import Query
from ..model.tick import Position, PublishedTick
from ..model.view import View


class Span(NamedTuple):
    """The ticks ``batch.ticks[begin:end]``."""

    batch: Batch
    begin: int
    end: int

    @property
    def whole(self) -> bool:
        return self.begin == 0 and self.end == len(self.batch.ticks)

    @property
    def first(self) -> int:
        """The lowest ``t`` of its batch."""
        return self.batch.first

    @property
    def last(self) -> int:
        """The highest ``t`` of its batch."""
        return self.batch.last

    @property
    def ticks(self) -> list[PublishedTick]:
        return self.batch.ticks if self.whole else self.batch.ticks[self.begin : self.end]

    @property
    def position(self) -> Position:
        return Position(self.batch.run.id, self.batch.ticks[self.end - 1].t)


class RawBlocks(NamedTuple):
    """Stored blocks as they lie on disk: zstd frames of lines."""

    run: Run
    row: Sequence[Entry]
    data: bytes | bytearray

    @property
    def position(self) -> Position:
        return Position(self.run.id, self.row[-1].last)


Item = Span | RawBlocks | Gap | Reset


class BlockRef(NamedTuple):
    """A block on disk."""

    run: Run
    entry: Entry

    @property
    def first(self) -> int:
        """The lowest ``t`` in it."""
        return self.entry.first

    @property
    def last(self) -> int:
        """The highest ``t`` in it."""
        return self.entry.last


class Cursor(NamedTuple):
    """Where a reader stands.

    Attributes:
        position: the last tick that it was given or that its view left out; None before the first tick ever, and before
            its start position is known.
        until_run: the run at whose end it stops, or None.
        complete: nothing of the position's run has been skipped since the last reset.
        not_before: pass over ticks received before this time (a ``since`` that has not come), ms since the epoch; or
            None.
        over: ``until_run`` is over and everything of it was read.
        notices: what finding its start position found out, to be told before anything that is read. The position lies
            behind them.
        query: what its start position is found by, until it is known; then None.
        deadline: when to stop waiting for the tip to reach the position, monotonic seconds, or None.
        again: what its start position is found by anew if the tip does not come by the deadline, or None.
        oldest: where the query names no starting point, begin at the oldest tick that can be read (pulls), not at the
            newest (streams).
    """

    position: Position | None = None
    until_run: str | None = None
    complete: bool = True
    not_before: int | None = None
    over: bool = False
    notices: tuple[Item, ...] = ()
    query: Query | None = None
    deadline: float | None = None
    again: Query | None = None
    oldest: bool = False

    @classmethod
    def of(cls, query: Query, *, oldest: bool = False) -> Cursor:
        """The cursor of a request whose start position is not known yet."""
        return cls(until_run=query.run, query=query, oldest=oldest)

    def behind(self, items: Sequence[Item | End]) -> Cursor:
        """The cursor behind the first of the items that were read from here, the last one perhaps cut short: no end,
        and no gap to a run's end without the reset behind it."""
        if not items:
            return self
        position = items[-1].position if len(items) > len(self.notices) else self.position
        read = any(isinstance(item, Span) for item in items)
        complete = _complete(self.complete, items)
        return Cursor(position, self.until_run, complete, None if read else self.not_before)

    def told(self, items: Iterable[Item | End]) -> Cursor:
        """The same place, where the reader was told these items at last: its notices, or others in the place of what
        was read."""
        return self._replace(complete=_complete(self.complete, items), notices=())

    def seen_as(self, view: View) -> Cursor:
        """The same, of a reader that takes another view: by that the ticks are counted that its query asks for."""
        return self if self.query is None else self._replace(query=replace(self.query, view=view))


class Portion(NamedTuple):
    """What a read gave.

    Attributes:
        items: ticks and notices, in order.
        cursor: the one behind all of them.
        load: the block that was read from last, or that has to come before anything more can be read.
    """

    items: list[Item]
    cursor: Cursor
    load: Load | None = None

    @property
    def waits(self) -> bool:
        """Whether nothing more can be read before ``load`` is done."""
        return self.load is not None and not self.load.done


class PortionBuilder:
    """Puts a portion together: what a reader is given, and where it stands behind that.

    Args:
        cursor: where it stands.
        position: the same, where it is known otherwise.
    """

    __slots__ = ("complete", "cursor", "items", "load", "not_before", "over", "position")

    def __init__(self, cursor: Cursor, position: Position) -> None:
        self.cursor = cursor
        self.position = position
        self.complete = cursor.complete
        self.not_before = cursor.not_before
        self.over = False
        self.items: list[Item] = [*cursor.notices]
        self.load: Load | None = None

    def gap(self, run: Run, after: int, next: int | None) -> None:
        """Ticks of a run are gone after ``after``: before ``next``, or (None) to the run's end."""
        self.items.append(Gap(run.id, after, next))
        self.complete = False
        self.position = Position(run.id, run.shown if next is None else next - 1)

    def next_run(self, run: Run) -> Run:
        """A run is over: go before the one that follows, which there is."""
        following = run.following
        assert following is not None, "it is not the last one"
        self.items.append(Reset(following.id, run.id, self.complete))
        self.position, self.complete = Position(following.id, -1), True
        return following

    def reset(self, run: Run, old: str, position: Position | None = None) -> None:
        """Go over to a run in the place of ``old``, which was not read to its end: before its first tick, or to
        ``position``."""
        self.items.append(Reset(run.id, old, False))
        self.position, self.complete = position or Position(run.id, -1), True

    def batch(self, batch: Batch) -> int:
        """Read a batch from the position to its end; returns the bytes of it, 0 where nothing is given."""
        begin = batch.index_after(self.position.t)
        self.position = Position(batch.run.id, batch.last)
        if self.not_before is not None:
            begin = max(begin, bisect_left(batch.ticks, self.not_before, key=_at))
            if begin == len(batch.ticks):
                return 0
            self.not_before = None
        self.items.append(Span(batch, begin, len(batch.ticks)))
        return batch.size

    def portion(self) -> Portion:
        """What it has come to."""
        before = self.cursor
        if not self.items and self.position == before.position and before.deadline is None and not self.over:
            return Portion(self.items, before, self.load)
        after = Cursor(self.position, before.until_run, self.complete, self.not_before, self.over)
        return Portion(self.items, after, self.load)


def _complete(before: bool, items: Iterable[Item | End]) -> bool:
    """Whether nothing of its run was skipped for a reader that was given these."""
    for item in items:
        before = isinstance(item, Reset) or (before and not isinstance(item, Gap))
    return before


def _at(tick: PublishedTick) -> int:
    return tick.at

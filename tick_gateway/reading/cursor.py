"""Cursors, and the portions that reading with a cursor returns: immutable values.

Only this package decides which cursor follows another one: ``start_position`` makes the first cursor of a request, and
``Feed.read`` returns what comes next and the cursor after it. A reader that delivered only a part of a portion, or
something else in its place, continues with ``behind`` or ``told``. One that delivered nothing keeps its old cursor.

A block that a reader waits for, or will read again, is not part of its cursor: it is passed to ``Feed.read`` and
returned in the ``Portion``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..bus.ring import Batch, Run
from ..history.archive import Load
from ..history.stored_block import Entry
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
    """Stored blocks, unchanged as on disk: zstd frames of lines."""

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
    """A reader's position, and how it continues.

    Attributes:
        position: the last tick that it was given or that its view left out; None before the first tick ever, and until
            its start position is known.
        until_run: the run after which it stops, or None.
        complete: nothing of the position's run has been skipped since the last reset.
        not_before: skip ticks received before this time, ms since the epoch (a ``since`` in the future); or None.
        over: everything of ``until_run`` was read, and the run is over.
        notices: found while looking for the start position, and to be given before anything else. The position lies
            after them.
        query: the request, until its start position is known; then None.
        deadline: when to stop waiting for the tip to reach the position, monotonic seconds, or None.
        again: the request, whose start position is found again if the tip does not come by the deadline; or None.
        oldest: if the query names no starting point, begin at the oldest readable tick (pulls), not at the newest
            (streams).
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
        """The cursor after the first of the items that were read with this one. The last item may be cut short;
        ``items`` must not end in an ``End``, nor between a gap at a run's end and the reset after it."""
        if not items:
            return self
        position = items[-1].position if len(items) > len(self.notices) else self.position
        read = any(isinstance(item, Span) for item in items)
        complete = _complete(self.complete, items)
        return Cursor(position, self.until_run, complete, None if read else self.not_before)

    def told(self, items: Iterable[Item | End]) -> Cursor:
        """The same position, after the reader was given its notices, or these items in place of what was read."""
        return self._replace(complete=_complete(self.complete, items), notices=())

    def seen_as(self, view: View) -> Cursor:
        """The same for a reader with another view, which decides the ticks that its query counts."""
        return self if self.query is None else self._replace(query=replace(self.query, view=view))


class Portion(NamedTuple):
    """What a read returned.

    Attributes:
        items: ticks and notices, in order.
        cursor: the one after all of them.
        load: the block that was read last, or that is needed before anything more can be read.
    """

    items: list[Item]
    cursor: Cursor
    load: Load | None = None

    @property
    def waits(self) -> bool:
        """Whether nothing more can be read until ``load`` is done."""
        return self.load is not None and not self.load.done


class PortionBuilder:
    """Collects the items of a portion and the position after them.

    Args:
        cursor: the cursor that is read with.
        position: its position; of a new reader, which has none, where it begins.
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
        """Ticks of a run after ``after`` are gone: up to ``next``, or (None) to the run's end."""
        self.items.append(Gap(run.id, after, next))
        self.complete = False
        self.position = Position(run.id, run.shown if next is None else next - 1)

    def next_run(self, run: Run) -> Run:
        """A run is over: move to the start of the one that follows, which must exist."""
        following = run.following
        assert following is not None, "it is not the last one"
        self.items.append(Reset(following.id, run.id, self.complete))
        self.position, self.complete = Position(following.id, -1), True
        return following

    def reset(self, run: Run, old: str, position: Position | None = None) -> None:
        """Move to a run in place of ``old``, which was not read to its end: before its first tick, or to
        ``position``."""
        self.items.append(Reset(run.id, old, False))
        self.position, self.complete = position or Position(run.id, -1), True

    def batch(self, batch: Batch) -> int:
        """Read a batch from the position to its end; returns its size in bytes, 0 if nothing of it is given."""
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
        """The portion so far."""
        before = self.cursor
        if not self.items and self.position == before.position and before.deadline is None and not self.over:
            return Portion(self.items, before, self.load)
        after = Cursor(self.position, before.until_run, self.complete, self.not_before, self.over)
        return Portion(self.items, after, self.load)


def _complete(before: bool, items: Iterable[Item | End]) -> bool:
    """Whether nothing of its run was skipped for a reader after these items."""
    for item in items:
        before = isinstance(item, Reset) or (before and not isinstance(item, Gap))
    return before


def _at(tick: PublishedTick) -> int:
    return tick.at

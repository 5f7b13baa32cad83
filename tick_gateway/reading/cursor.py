"""Cursors, and what reading with one yields. Values only: every decision about a cursor is made in ``feed``."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

from ..bus.ring import Batch, Run
from ..history.archive import Load
from ..history.block_index import Entry
from ..model.notices import Gap, Reset
from ..model.query import Query
from ..model.tick import Position, Tick


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
    def ticks(self) -> list[Tick]:
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


Steps = Generator[BlockRef, list[Batch] | None, Position]
"""Finds a position; yields each block that it has to look into, and is sent its ticks, or None where they are gone."""


class Cursor:
    """Where a reader stands.

    Attributes:
        position: the last tick that it was given or that its view left out; None before it was placed.
        query: how to place it, until it was placed; then None.
        asked: the same, for good: what it says of the past holds again where a position beyond the tip is reset.
        until_run: the run at whose end it stops, or None.
        complete: nothing of the position's run has been skipped since the last reset.
        deadline: when to stop waiting for the tip to reach the position, or None.
        oldest: where the query names no starting point, begin at the oldest tick that can be read (pulls), not at the
            newest (streams).
        over: ``until_run`` is over and everything of it was read.
        not_before: pass over ticks received before this time (a ``since`` that has not come), ms since the epoch; or
            None.
        notices: what placing it found out, to be told before anything that is read.
        frames: it takes whole blocks as they lie on disk.
        holds: it comes back to a block again and again (``speed``), and so keeps the one that it reads.
        held: that block and its ticks.
        awaits: what is on its way from disk; where it is not done, nothing can be read before it is.
        steps: placing it is under way, and waits for ``awaits``.
    """

    __slots__ = (
        "asked", "awaits", "complete", "deadline", "frames", "held", "holds", "not_before", "notices", "oldest", "over",
        "position", "query", "steps", "until_run",
    )  # fmt: skip

    def __init__(
        self,
        query: Query | None = None,
        *,
        position: Position | None = None,
        until_run: str | None = None,
        oldest: bool = False,
        frames: bool = False,
    ) -> None:
        self.query = self.asked = query
        self.position = position
        self.until_run = query.run if query else until_run
        self.complete = True
        self.deadline: float | None = None
        self.oldest = oldest
        self.over = False
        self.not_before: int | None = None
        self.notices: list[Item] | None = None
        self.frames = frames
        self.holds = False
        self.held: tuple[Entry, list[Batch]] | None = None
        self.awaits: Load | None = None
        self.steps: Steps | None = None

    def let_go(self) -> None:
        """Its reader does not read: hold no block for it, which is looked up again when it does."""
        if self.steps is None:
            self.awaits = self.held = None

    @property
    def waits(self) -> bool:
        """Whether something that it needs is on its way from disk."""
        return self.awaits is not None and not self.awaits.done

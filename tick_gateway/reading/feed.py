"""The Feed: reads after a position, in memory or history. It decides what a reader is given, and the cursor after that;
``start_position`` decides where a request begins, and ``extents`` finds the ticks.

A reader is a ``Cursor``, a value. ``Feed.read`` returns what comes next for it, ticks and notices in order, and the
cursor after them. It reads memory first, then history. Replay and live are the same read, so there is no hand-over
between them in which a tick could be lost or repeated:

    position unknown run ────────────► reset (complete: false), the current run from its first tick
    position before what is left ────► gap, then what is left
    position inside an older run ────► its rest, then the runs after it in order, a reset before each
    position at the tip ─────────────► nothing yet
    position beyond the tip ─────────► nothing for 10 s since it was asked for first, then a reset
        in a block on disk ──────────────► nothing yet: the portion ``waits`` for its ``load``
        nothing published yet ───────────► nothing, until the first tick arrives

No asyncio and no clock: callers pass ``now`` (seconds, monotonic) and wait for ticks and loads themselves. Called on
the loop's thread only.
"""

from __future__ import annotations

from dataclasses import replace

from ..bus.ring import Run
from ..bus.tick_bus import TickBus
from ..history.archive import Archive, Form, Load
from ..model.notices import Gap, Hello
from ..model.tick import Position
from .cursor import BlockRef, Cursor, Portion, PortionBuilder, RawBlocks, Span
from .extents import Extents
from .start_position import StartPositions


class Feed(Extents):
    """Reads the bus and its history for cursors.

    Streams read up to the horizon, which the fan-out moves at each flush, so that all of them see the same ticks at the
    same time; pulls read everything that was collected.

    Args:
        beyond_tip_seconds: how long a position beyond the tip waits for it.

    Attributes:
        starts: finds start positions.
    """

    def __init__(self, bus: TickBus, archive: Archive | None = None, *, beyond_tip_seconds: float = 10.0) -> None:
        super().__init__(bus, archive if archive is not None else Archive())
        self.starts = StartPositions(bus, self.archive, beyond_tip_seconds)
        self._offered = 0  # the number of batches ever appended before the horizon
        self._tip: Position | None = None
        self._tip_run: Run | None = None
        self.restored()

    def restored(self) -> None:
        """Offer the ticks that the bus was restored with."""
        self._offered, self._tip, self._tip_run = self._ring.appended, self.bus.tip, self._ring.newest

    def offer(self, max_bytes: int) -> bool:
        """Move the horizon over new batches of about ``max_bytes``; returns whether there were any."""
        behind = self._ring.appended - self._offered
        index = max(len(self._ring) - behind, 0)
        if index == len(self._ring):
            return False
        while index < len(self._ring) and max_bytes > 0:
            batch = self._ring[index]
            max_bytes -= batch.size
            self._tip, self._tip_run = Position(batch.run.id, batch.last), batch.run
            index += 1
        self._offered = self._ring.appended - (len(self._ring) - index)
        return True

    @property
    def behind(self) -> bool:
        """Whether there are batches beyond the horizon."""
        return self._offered < self._ring.appended

    @property
    def _horizon(self) -> int:
        """The index of the first batch beyond the horizon."""
        return max(len(self._ring) - (self._ring.appended - self._offered), 0)

    @property
    def empty(self) -> bool:
        """Whether nothing was ever published."""
        return self._ring.newest is None

    @property
    def offered(self) -> Position | None:
        """The newest tick before the horizon."""
        return self._tip

    def hello(self, run: Run | None) -> Hello:
        """The hello for a reader whose next tick is of this run; None: nothing was published yet."""
        return Hello(run.id, self.first(run), run.shown) if run else Hello(None, None, None)

    def run_of(self, cursor: Cursor) -> Run | None:
        """The run of a cursor's next tick; None before the first tick ever."""
        name = cursor.notices[0].position.run if cursor.notices else cursor.position.run if cursor.position else ""
        return self.bus.runs.get(name) or self.bus.runs.get(cursor.until_run or "") or self._ring.newest

    # ---- reading on ----

    def read(
        self,
        cursor: Cursor,
        now: float,
        max_bytes: int,
        *,
        load: Load | None = None,
        pull: bool = False,
        raw: bool = False,
    ) -> Portion:
        """Read what comes next for a cursor: about ``max_bytes``, and at least one item if there is any.

        It returns nothing while the start position is unknown (the cursor has a ``query``), at the tip (with ``pull``,
        of the bus; else the horizon), while a block is loading, until the cursor's ``deadline``, and when it is
        ``over``.

        Args:
            load: the block that the last portion waited for, or that the reader reads again.
            raw: return whole blocks on disk unchanged.
        """
        if cursor.query is not None:
            return Portion([], cursor)
        newest = self._ring.newest if pull else self._tip_run
        if newest is None or cursor.over:
            return _notices_of(cursor)
        at_tip = cursor.position == self._tip and not pull  # the usual case
        if at_tip and cursor.deadline is None and cursor.until_run is None and not cursor.notices:
            return Portion([], cursor)
        position = cursor.position or Position(list(self.bus.runs)[0], -1)  # noqa: RUF015 - publishers may add runs meanwhile
        at = _Reading(cursor, position)
        at.most = at.left = max_bytes
        at.end = len(self._ring) if pull else self._horizon
        at.held, at.raw = load, raw
        if cursor.deadline is not None:
            if self._still_waits(cursor, at, now):
                return _notices_of(cursor)
            if cursor.again is not None and at.position != position:
                query = replace(cursor.again, start=at.position)
                return Portion([], Cursor.of(query)._replace(position=position, notices=tuple(at.items)))
        run = self._run_at(at)
        while self._read_run(at, run):
            if cursor.until_run == run.id:
                at.over = run.over and at.position.t >= run.shown
                if at.over:
                    _pass_lost_tail(at, run)
                break
            if run.following is None or run.following.seq > newest.seq:
                break
            _pass_lost_tail(at, run)
            run = at.next_run(run)
        return at.portion()

    def _still_waits(self, cursor: Cursor, at: _Reading, now: float) -> bool:
        """Whether a cursor beyond the tip still has to wait; if not, the tip came, or the time is up and it is
        reset."""
        run = self.bus.runs.get(at.position.run)
        if run is None or at.position.t <= run.shown:
            return False
        if run.following is None and now < (cursor.deadline or 0):
            return True
        at.reset(run if cursor.until_run == run.id else run.following or run, run.id)
        return False

    def _run_at(self, at: _Reading) -> Run:
        """The run to read; if it is unknown, the current one after a reset."""
        run = self.bus.runs.get(at.position.run)
        if run is None:
            newest = self._ring.newest
            assert newest is not None, "nothing was published yet"
            run = self.bus.runs.get(at.cursor.until_run or "", newest)
            at.reset(run, at.position.run)
        return run

    # ---- reading one run ----

    def _read_run(self, at: _Reading, run: Run) -> bool:
        """Read one run; returns whether its end, for now, was reached with room for more."""
        while at.left > 0:
            t = at.position.t
            extent = self.next(run, t, end=at.end)
            if extent is None:
                if t >= run.evicted:
                    break
                index = self._ring.after(run, t)
                there = index < len(self._ring) and self._ring[index].run is run
                if not there and not run.over:
                    break  # its newest ticks are gone: the next run ends the gap
                at.gap(run, t, self._ring[index].first if there else None)
                continue
            if self.missing(run, t, extent):
                at.gap(run, t, extent.first)
            if isinstance(extent, Span):
                at.left -= at.batch(extent.batch)
            elif at.raw and at.not_before is None and at.position.t < extent.first:
                if not self._read_raw(at, extent):
                    return False
            elif not self._read_block(at, extent):
                return False
        return at.left > 0

    def _read_block(self, at: _Reading, block: BlockRef) -> bool:
        """Read the ticks of a block (none if the block was deleted); False: it is still loading."""
        load = at.take_load(block, "ticks")
        if load is None:
            got = self.archive.get(*block)
            load = got if isinstance(got, Load) else Load.of(block.entry, got)
        at.load = load
        if not load.done:
            return False
        for batch in load.batches or ():
            if batch.last > at.position.t and at.left > 0:
                at.left -= at.batch(batch)
        return True

    def _read_raw(self, at: _Reading, block: BlockRef) -> bool:
        """As ``_read_block``, for blocks that are returned unchanged."""
        run, entry = block
        load = at.take_load(block, "frames")
        if load is None:
            row = self.archive.history(run).row(entry, None, at.most)
            got = self.archive.frames(run, row)
            if not isinstance(got, Load):
                at.blocks(RawBlocks(run, row, got))
                return True
            load = got
        at.load = load
        if load.done and load.frames:
            at.blocks(RawBlocks(run, load.row, load.frames))
        return load.done


class _Reading(PortionBuilder):
    """A read in progress; its maker sets all attributes.

    Attributes:
        held: the load that the reader passed in.
        most: about how many bytes to return.
        left: how many of them are left.
        end: index of the first batch in memory that may not be read.
        raw: return whole blocks on disk unchanged.
    """

    __slots__ = ("end", "held", "left", "most", "raw")

    end: int
    held: Load | None
    left: int
    most: int
    raw: bool

    def take_load(self, block: BlockRef, form: Form) -> Load | None:
        """The reader's load, if it is of this block; used once."""
        load, self.held = self.held, None
        return load if load is not None and load.entry == block.entry and load.form == form else None

    def blocks(self, blocks: RawBlocks) -> None:
        """Read blocks that are returned unchanged."""
        self.items.append(blocks)
        self.position = blocks.position
        self.left -= len(blocks.data)


def _notices_of(cursor: Cursor) -> Portion:
    """The portion of a reader that cannot read any further."""
    return Portion([*cursor.notices], cursor.told(cursor.notices)) if cursor.notices else Portion([], cursor)


def _pass_lost_tail(at: PortionBuilder, run: Run) -> None:
    """At a run's end, report that ticks after it were dropped, unless the last gap already reaches to the end."""
    last = at.items[-1] if at.items else None
    if run.lost_tail and not (isinstance(last, Gap) and last.run == run.id and last.next is None):
        at.gap(run, run.shown, None)

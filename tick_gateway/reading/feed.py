"""The Feed: read after a position, wherever it lies. Where a reader goes on, and what it is told of, is decided here
and in ``start_position``; what there is to read is found in ``extents``. A session that wrote less than it read, and a
group whose bytes could not be made, put their cursor back.

A reader is a ``Cursor``. ``Feed.read`` returns what comes next for it, ticks and notices in order, and moves it past
them. Memory is asked first, then history. Replay and live are the same read, so there is no seam between them at which
a tick could be lost or repeated:

    position unknown run ────────────► reset (complete: false), the current run from its first tick
    position before what is left ────► gap, then what is left
    position inside an older run ────► its rest, then the runs after it in order, a reset before each
    position at the tip ─────────────► nothing yet
    position beyond the tip ─────────► nothing for 10 s since it was asked for first, then a reset
    in a block that is on disk ──────► nothing yet: ``cursor.awaits`` is on its way
    nothing published yet ───────────► nothing; judged when the first tick arrives

No asyncio and no clock: callers pass ``now`` (seconds, monotonic) and wait for ticks and loads themselves. Callers on
the loop's thread only.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

from ..bus.ring import Batch, Run
from ..bus.tick_bus import TickBus
from ..history.archive import Archive, Load
from ..history.block_index import Entry
from ..model.notices import Gap, Hello, Reset
from ..model.query import Query
from ..model.tick import Position
from ..model.view import View
from .cursor import Cursor, Item, RawBlocks, Span, Steps
from .extents import Extents
from .start_position import Placing, next_run, pass_gap


class Feed(Extents):
    """Reads the bus and its history for cursors.

    Streams read up to the horizon, which the fan-out moves at each flush, so that all of them see the same ticks at
    the same time; pulls read whatever was collected.

    Args:
        beyond_tip_seconds: how long a position beyond the tip waits for it.
    """

    def __init__(self, bus: TickBus, archive: Archive | None = None, *, beyond_tip_seconds: float = 10.0) -> None:
        super().__init__(bus, archive if archive is not None else Archive())
        self.placing = Placing(bus, self.archive, beyond_tip_seconds)
        self._offered = 0  # batches ever taken in that lie before the horizon
        self._tip: Position | None = None
        self._tip_run: Run | None = None
        self.restored()

    def restored(self) -> None:
        """Offer what the bus was restored with."""
        self._offered, self._tip, self._tip_run = self._ring.appended, self.bus.tip, self._ring.newest

    def offer(self, max_bytes: int) -> bool:
        """Move the horizon over new batches, about ``max_bytes`` of them; returns whether it could."""
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
        """Whether batches were collected that streams may not read yet."""
        return self._offered < self._ring.appended

    @property
    def _horizon(self) -> int:
        """The index of the first batch that streams may not read yet."""
        return max(len(self._ring) - (self._ring.appended - self._offered), 0)

    @property
    def offered(self) -> Position | None:
        """The newest tick before the horizon."""
        return self._tip

    def hello(self, run: Run | None) -> Hello:
        """What is known of the run whose ticks come next; None: nothing was published yet."""
        return Hello(run.id, self.first(run), run.shown) if run else Hello(None, None, None)

    def run_of(self, cursor: Cursor) -> Run | None:
        """The run whose ticks come next for a cursor; None before the first tick ever."""
        name = cursor.notices[0].position.run if cursor.notices else cursor.position.run if cursor.position else ""
        return self.bus.runs.get(name) or self.bus.runs.get(cursor.until_run or "") or self._ring.newest

    # ---- placing ----

    def place(self, cursor: Cursor, now: float) -> bool:
        """Turn what a request asked for into a position, if that was not done yet; ``read`` does it too. Returns
        whether that is done; if not, ``cursor.awaits`` is on its way.

        On an empty bus a position waits to be judged; without one, everything to come is new.
        """
        steps, query, load = cursor.steps, cursor.query, cursor.awaits
        found: list[Batch] | None = None
        if steps is None:
            if query is None:
                return True
            if self._ring.newest is None:
                if query.start is None and query.run is None:
                    cursor.query, cursor.not_before = None, query.since
                return True
            steps = cursor.steps = self.placing.place(cursor, query, now)
        elif load is not None:
            if not load.done:
                return False
            cursor.awaits, found = None, load.batches
        try:
            while True:
                look = steps.send(found)
                got = self.archive.get(look.run, look.entry)
                if isinstance(got, Load):
                    cursor.awaits = got
                    return False
                found = got
        except StopIteration:
            cursor.steps = None
        return True

    def skip(self, cursor: Cursor, view: View) -> list[Item]:
        """A slow reader with ``lag=skip``: move it before the newest tick, and say what it missed."""
        items: list[Item] = []
        home = self._ring.newest
        if cursor.position is None or home is None or cursor.query is not None:
            return items
        if cursor.until_run in (None, home.id):
            self.placing.skip(cursor, home, view, items)
        return items

    def before(self, query: Query, run: Run, high: int) -> Steps | None:
        """Find the position in a run before what ``tail`` or ``since`` asks for of its ticks up to ``high``; None: it
        asks for neither. Where nothing was received since, the position is ``high``."""
        if query.tail is not None:
            return self.placing.back(query.tail, query.view, run, high)
        return self._since(query.since, run, high) if query.since is not None else None

    def _since(self, since: int, run: Run, high: int) -> Steps:
        found = yield from self.placing.since(since, run, True)
        return found or Position(run.id, high)

    # ---- reading on ----

    def read(self, cursor: Cursor, now: float, max_bytes: int, *, pull: bool = False) -> list[Item]:
        """What comes next for a cursor, about ``max_bytes`` of it, and at least one item where there is any; moves
        the cursor.

        Nothing comes where the cursor stands at the tip (``pull``: of the bus; else at the horizon), waits (for a
        block, or until ``cursor.deadline``), or is ``over``.
        """
        items: list[Item] = []
        if not self.place(cursor, now):
            return items
        if cursor.notices is not None:  # placing moved the cursor behind them: whoever ends here has been told
            items, cursor.notices = cursor.notices, None
        newest = self._ring.newest if pull else self._tip_run
        if newest is None or cursor.over:
            return items
        end = len(self._ring) if pull else self._horizon
        if cursor.position is None:
            cursor.position = Position(list(self.bus.runs)[0], -1)  # noqa: RUF015 - publishers may add to it meanwhile
        if cursor.deadline is not None:
            if not self._settle(cursor, cursor.position, now, items):
                return items
            if cursor.query is not None:
                return self.read(cursor, now, max_bytes, pull=pull)
        run = self._run_of(cursor, cursor.position, items)
        while (max_bytes := self._read_run(cursor, run, items, max_bytes, end)) > 0:
            if cursor.until_run == run.id:
                cursor.over = run.over and cursor.position.t >= run.shown
                if cursor.over:
                    self._pass_lost_tail(cursor, run, items)
            elif run.following is not None and run.following.seq <= newest.seq:
                self._pass_lost_tail(cursor, run, items)
                run = next_run(cursor, run, run.following, items)
                continue
            break
        return items

    def _ticks(self, cursor: Cursor, run: Run, entry: Entry) -> list[Batch] | None:
        """A block's ticks for a cursor (none, where they are gone, and the block with them); None: on their way."""
        if cursor.held is not None and cursor.held[0] == entry:
            return cursor.held[1]
        load, cursor.awaits = cursor.awaits, None
        if load is None or load.entry != entry or load.form != "ticks":
            got = self.archive.get(run, entry)
            if not isinstance(got, Load):
                return got
            load = got
        if not load.done:
            cursor.awaits = load
            return None
        return load.batches or []

    def _frames(self, cursor: Cursor, run: Run, entry: Entry, most: int) -> RawBlocks | None:
        """Blocks for a cursor as they lie on disk (no bytes, where they are gone); None: on their way."""
        load, cursor.awaits = cursor.awaits, None
        if load is None or load.entry != entry or load.form != "frames":
            row = self.archive.history(run).row(entry, None, most)
            got = self.archive.frames(run, row)
            if not isinstance(got, Load):
                return RawBlocks(run, row, got)
            load = got
        if not load.done:
            cursor.awaits = load
            return None
        return RawBlocks(run, load.row, load.frames or b"")

    def _settle(self, cursor: Cursor, position: Position, now: float, items: list[Item]) -> bool:
        """Whether a cursor beyond the tip need wait no longer: the tip came, or the time is up and it is reset."""
        run = self.bus.runs.get(position.run)
        if run is not None and position.t > run.shown:
            if run.following is None and now < (cursor.deadline or 0):
                return False
            new = run if cursor.until_run == run.id else run.following or run
            items.append(Reset(new.id, run.id, False))
            cursor.position = Position(new.id, -1)
            if cursor.asked is not None and cursor.asked.backlog is not None:  # it bounds what comes of that run, too
                cursor.query, cursor.notices = replace(cursor.asked, start=cursor.position), items
        cursor.deadline = None
        return True

    # ---- reading one run ----

    def _run_of(self, cursor: Cursor, position: Position, items: list[Item]) -> Run:
        """The run to read on in; where it is not known, the current one after a reset."""
        run = self.bus.runs.get(position.run)
        if run is None:
            newest = self._ring.newest
            assert newest is not None, "nothing was published yet"
            run = self.bus.runs.get(cursor.until_run or "", newest)
            items.append(Reset(run.id, position.run, False))
            cursor.position, cursor.complete = Position(run.id, -1), True
        return run

    def _read_run(self, cursor: Cursor, run: Run, items: list[Item], max_bytes: int, end: int) -> int:
        """Read on in one run, up to batch ``end`` in memory; returns what is left of ``max_bytes``, 0 or less where
        more may follow."""
        portion = max_bytes
        while max_bytes > 0:
            assert cursor.position is not None
            t = cursor.position.t
            extent = self.next(run, t, end=end)
            if extent is None:
                if t >= run.evicted:
                    break
                index = self._ring.after(run, t)
                there = index < len(self._ring) and self._ring[index].run is run
                if not there and not run.over:
                    break  # its newest ticks are gone: the next one ends the gap
                pass_gap(cursor, run, Gap(run.id, t, self._ring[index].first if there else None), items)
                continue
            first = extent.first
            if self.missing(run, t, extent):
                pass_gap(cursor, run, Gap(run.id, t, first), items)
            if isinstance(extent, Span):
                max_bytes -= self._give(cursor, extent.batch, items)
            elif cursor.frames and cursor.not_before is None and cursor.position.t < first:
                frames = self._frames(cursor, run, extent.entry, portion)
                if frames is None:
                    return 0
                if frames.data:
                    items.append(frames)
                    cursor.position = frames.position
                    max_bytes -= len(frames.data)
            else:
                batches = self._ticks(cursor, run, extent.entry)
                if batches is None:
                    return 0
                cursor.held = (extent.entry, batches) if cursor.holds and batches else None
                for batch in batches:
                    if batch.last > cursor.position.t and max_bytes > 0:
                        max_bytes -= self._give(cursor, batch, items)
        return max_bytes

    def _pass_lost_tail(self, cursor: Cursor, run: Run, items: list[Item]) -> None:
        """At a run's end: say that ticks behind it were dropped, unless the gap just told reaches to the end."""
        last = items[-1] if items else None
        if run.lost_tail and not (isinstance(last, Gap) and last.run == run.id and last.next is None):
            pass_gap(cursor, run, Gap(run.id, run.shown, None), items)

    def _give(self, cursor: Cursor, batch: Batch, items: list[Item]) -> int:
        """Read a batch from the cursor's position to its end; returns its size."""
        assert cursor.position is not None
        begin = batch.index_after(cursor.position.t)
        cursor.position = Position(batch.run.id, batch.last)
        if cursor.not_before is not None:
            begin = max(begin, bisect_left(batch.ticks, cursor.not_before, key=lambda tick: tick.at))
            if begin == len(batch.ticks):
                return 0
            cursor.not_before = None
        items.append(Span(batch, begin, len(batch.ticks)))
        return batch.size

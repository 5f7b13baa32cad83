"""The Feed: read after a position, wherever it lies. Every decision about a reader's cursor is made here.

A reader is a ``Cursor``. ``Feed.read`` returns what comes next for it, ticks and notices in order, and moves it past
them. Replay and live are the same read, so there is no seam between them at which a tick could be lost or repeated:

    position unknown run ────────────► reset (complete: false), the current run from its first tick
    position before what is left ────► gap, then what is left
    position inside an older run ────► its rest, then the runs after it in order, a reset before each
    position at the tip ─────────────► nothing yet
    position beyond the tip ─────────► nothing for up to 10 s, then a reset
    nothing published yet ───────────► nothing; judged when the first tick arrives

No asyncio and no clock: callers pass ``now`` (seconds, monotonic) and wait for ticks themselves. Callers on the
loop's thread only.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from .bus import TickBus
from .cursor import Cursor, Item, Span
from .notices import Gap, Hello, Reset
from .params import Query
from .ring import Run
from .tick import Position
from .view import View

READ_BYTES: Final = 256 * 1024
BEYOND_TIP_WAIT: Final = 10.0  # seconds


class Feed:
    """Reads the bus for cursors.

    Streams read up to the horizon, which the fan-out moves at each flush, so that all of them see the same ticks at
    the same time; pulls read whatever was collected.
    """

    def __init__(self, bus: TickBus) -> None:
        self.bus = bus
        self._ring = bus.ring
        self._offered = 0  # batches ever taken in that lie before the horizon

    def offer(self, max_bytes: int) -> bool:
        """Move the horizon over new batches, about ``max_bytes`` of them; returns whether it could."""
        behind = self._ring.appended - self._offered
        index = max(len(self._ring) - behind, 0)
        if index == len(self._ring):
            return False
        while index < len(self._ring) and max_bytes > 0:
            max_bytes -= self._ring[index].size
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
        index = self._horizon
        return Position(self._ring[index - 1].run.id, self._ring[index - 1].last) if index else None

    def hello(self, run: Run | None) -> Hello:
        """What is known of the run whose ticks come next; None: nothing was published yet."""
        return Hello(run.id, self._ring.first_of(run), run.shown) if run else Hello(None, None, None)

    def run_of(self, cursor: Cursor) -> Run | None:
        """The run whose ticks come next for a cursor; None before the first tick ever."""
        name = cursor.notices[0].position.run if cursor.notices else cursor.position.run if cursor.position else ""
        return self.bus.runs.get(name) or (self._ring[-1].run if len(self._ring) else None)

    def place(self, cursor: Cursor, now: float) -> None:
        """Turn what a request asked for into a position, if that was not done yet; ``read`` does it too.

        On an empty bus a position waits to be judged; without one, everything to come is new.
        """
        query = cursor.query
        if query is not None and len(self._ring):
            cursor.notices = []
            self._place(cursor, query, now, cursor.notices)
        elif query is not None and query.start is None and query.run is None:
            cursor.query, cursor.not_before = None, query.since

    def read(self, cursor: Cursor, now: float, max_bytes: int = READ_BYTES, *, pull: bool = False) -> list[Item]:
        """What comes next for a cursor, about ``max_bytes`` of it, and at least one item where there is any; moves
        the cursor.

        Nothing comes where the cursor stands at the tip (``pull``: of the bus; else at the horizon), waits (until
        ``cursor.deadline``), or is ``over``.
        """
        self.place(cursor, now)
        items: list[Item] = []
        end = len(self._ring) if pull else self._horizon
        if not end or cursor.over:
            return items
        if cursor.notices is not None:
            items, cursor.notices = cursor.notices, None
        if cursor.position is None:
            cursor.position = Position(list(self.bus.runs)[0], -1)  # noqa: RUF015 - publishers may add to it meanwhile
        if cursor.deadline is not None and not self._settle(cursor, cursor.position, now, items):
            return items
        run = self._run_of(cursor, cursor.position, items)
        while (max_bytes := self._read_run(cursor, run, items, max_bytes, end)) > 0:
            if cursor.until_run == run.id:
                cursor.over = run.over and cursor.position.t >= run.shown
                if cursor.over and run.lost_tail:
                    self._gap(cursor, items, Gap(run.id, run.shown, None))
            elif run.following is not None and self._ring.after(run.following, -1) < end:
                if run.lost_tail:
                    self._gap(cursor, items, Gap(run.id, run.shown, None))
                run = self._next_run(cursor, run, run.following, items)
                continue
            break
        return items

    def skip(self, cursor: Cursor, view: View) -> list[Item]:
        """A slow reader with ``lag=skip``: move it before the newest tick, and say what it missed."""
        items: list[Item] = []
        position = cursor.position
        home = self._ring[-1].run if len(self._ring) else None
        if position is None or home is None or cursor.query is not None or cursor.until_run not in (None, home.id):
            return items
        target = self._back(1, view, home)
        if position.run == home.id:
            self._skip_to(cursor, position, target, items)
        else:
            items.append(Reset(home.id, position.run, False))
            cursor.position, cursor.complete = target, True
        return items

    def range(
        self, name: str | None, t0: int | None, t1: int | None, max_bytes: int = READ_BYTES
    ) -> tuple[list[Span], Gap | None]:
        """The ticks t0 <= t <= t1 of a run (None: the current one; from its first; to its tip), about ``max_bytes`` of
        them, and what at their front is gone. Go on with ``t0`` one beyond the last; no spans: that was all.

        Raises:
            NotFound: the run is not known, or nothing was published yet.
        """
        run = self.bus.run(name)
        low, high = (t0 or 0) - 1, run.shown if t1 is None else t1
        ring, spans, gap = self._ring, list[Span](), None
        index = ring.after(run, low)
        if t0 is not None and low < run.evicted:
            gap = Gap(run.id, low, ring[index].first if index < len(ring) and ring[index].run is run else None)
        while max_bytes > 0 and index < len(ring) and (batch := ring[index]).run is run and batch.first <= high:
            span = Span(batch, batch.index_after(low), batch.index_after(high))
            if span.begin < span.end:
                spans.append(span)
                max_bytes -= batch.size
            index += 1
        return spans, gap

    def newest(self, name: str | None, view: View) -> Span | None:
        """The newest tick of a run that a view lets through, as a span of one; None where there is none.

        Raises:
            NotFound: the run is not known, or nothing was published yet.
        """
        run = self.bus.run(name)
        position = self._back(1, view, run)
        spans, _ = self.range(run.id, position.t + 1, None)
        index = spans[0].begin if spans else 0
        return Span(spans[0].batch, index, index + 1) if spans and view.passes(spans[0].batch.ticks[index].t) else None

    # ---- placing ----

    def _place(self, cursor: Cursor, query: Query, now: float, items: list[Item]) -> None:
        """Turn what the request asked for into a position."""
        cursor.query = None
        home = self.bus.runs.get(query.run or "", self._ring[-1].run)
        start = query.start
        if isinstance(start, Position):
            position = start
        elif start is not None:
            position = Position(home.id, start)
            if start > home.shown:  # at once: the simulation has started over since the client's last visit
                items.append(Reset(home.id, home.id, False))
                position = Position(home.id, -1)
        elif query.since is not None:
            found = self._since(query.since, home, query.run is not None)
            position = found or Position(home.id, home.shown)
            cursor.not_before = query.since if found is None else None
        elif query.run is not None and query.tail is None:
            position = Position(home.id, -1)
        elif cursor.oldest and query.tail is None:
            position = Position(home.id, home.evicted)
        else:
            position = self._back(1 if query.tail is None else query.tail, query.view, home)
        cursor.position = position
        run = self.bus.runs.get(position.run)
        if run is not None and position.t > run.shown:
            cursor.deadline = now if run.over else now + BEYOND_TIP_WAIT
        elif query.skip and position.run != home.id and query.run is None:
            items.append(Reset(home.id, position.run, False))
            cursor.position = self._back(1, query.view, home)
        elif query.backlog is not None:
            self._skip_to(cursor, position, self._back(query.backlog, query.view, home if query.run else None), items)

    def _settle(self, cursor: Cursor, position: Position, now: float, items: list[Item]) -> bool:
        """Whether a cursor beyond the tip need wait no longer: the tip came, or the time is up and it is reset."""
        run = self.bus.runs.get(position.run)
        if run is not None and position.t > run.shown:
            if run.following is None and now < (cursor.deadline or 0):
                return False
            new = run if cursor.until_run == run.id else run.following or run
            items.append(Reset(new.id, run.id, False))
            cursor.position = Position(new.id, -1)
        cursor.deadline = None
        return True

    def _since(self, since: int, home: Run, within: bool) -> Position | None:
        """The position before the first tick received at or after ``since``, in whichever run; None: not yet."""
        for run in list(self.bus.runs.values()):  # a publisher may begin another meanwhile
            if run.evicted >= 0 and run.evicted_at >= since and (run is home or not within):
                return Position(run.id, -1)  # some of what was asked for is gone: a gap will say so
        at = bisect_left(self._ring, since, key=lambda batch: batch.ticks[-1].at)
        while at < len(self._ring):
            batch = self._ring[at]
            if not within or batch.run is home:
                tick = batch.ticks[bisect_left(batch.ticks, since, key=lambda tick: tick.at)]
                return Position(batch.run.id, tick.t - 1)
            at += 1
        return None

    def _back(self, count: int, view: View, run: Run | None) -> Position:
        """The position before the last ``count`` ticks that pass the view, as far as memory reaches; in ``run`` alone
        if given."""
        newest = len(self._ring) if run is None else self._ring.after(run, run.shown)
        if newest == 0:
            return Position(run.id, run.shown) if run else Position(self._ring[-1].run.id, -1)
        position = Position(self._ring[newest - 1].run.id, self._ring[newest - 1].last)
        for index in range(newest - 1, -1, -1):
            batch = self._ring[index]
            if count == 0 or (run is not None and batch.run is not run):
                break
            passing = [tick for tick in batch.ticks if view.passes(tick.t)] if view.every > 1 else batch.ticks
            if passing:
                position = Position(batch.run.id, passing[-min(count, len(passing))].t - 1)
            count -= min(count, len(passing))
        return position

    def _skip_to(self, cursor: Cursor, position: Position, target: Position, items: list[Item]) -> None:
        """Move a cursor forward to ``target``, and say what it leaves out."""
        run = self.bus.runs.get(position.run)
        goal = self.bus.runs[target.run]
        if run is None:
            cursor.position = target
            items.append(Reset(goal.id, position.run, False))
            if self._any_between(goal, -1, target.t):
                self._gap(cursor, items, Gap(goal.id, -1, target.t + 1))
            return
        while run.seq < goal.seq and run.following is not None:
            assert cursor.position is not None
            if run.shown > cursor.position.t or run.lost_tail:
                self._gap(cursor, items, Gap(run.id, cursor.position.t, None))
            run = self._next_run(cursor, run, run.following, items)
        assert cursor.position is not None
        if run is goal and self._any_between(run, cursor.position.t, target.t):
            self._gap(cursor, items, Gap(run.id, cursor.position.t, target.t + 1))

    def _any_between(self, run: Run, after: int, upto: int) -> bool:
        """Whether ticks with after < t <= upto were published."""
        if after >= upto:
            return False
        if after < run.evicted:
            return True
        index = self._ring.after(run, after)
        if index == len(self._ring) or (batch := self._ring[index]).run is not run:
            return False
        return batch.ticks[batch.index_after(after)].t <= upto

    # ---- reading on ----

    def _run_of(self, cursor: Cursor, position: Position, items: list[Item]) -> Run:
        """The run to read on in; where it is not known, the current one after a reset."""
        run = self.bus.runs.get(position.run)
        if run is None:
            run = self.bus.runs.get(cursor.until_run or "", self._ring[-1].run)
            items.append(Reset(run.id, position.run, False))
            cursor.position, cursor.complete = Position(run.id, -1), True
        return run

    def _read_run(self, cursor: Cursor, run: Run, items: list[Item], max_bytes: int, end: int) -> int:
        """Read on in one run, up to batch ``end``; returns what is left of ``max_bytes``, 0 or less where more may
        follow."""
        assert cursor.position is not None
        ring = self._ring
        index = ring.after(run, cursor.position.t)
        if cursor.position.t < run.evicted:
            first = ring[index].first if index < len(ring) and ring[index].run is run else None
            self._gap(cursor, items, Gap(run.id, cursor.position.t, first))
        while max_bytes > 0 and index < end and (batch := ring[index]).run is run:
            begin = batch.index_after(cursor.position.t)
            if cursor.not_before is not None:
                begin = max(begin, bisect_left(batch.ticks, cursor.not_before, key=lambda tick: tick.at))
                if begin == len(batch.ticks):
                    cursor.position = Position(run.id, batch.last)
                    index += 1
                    continue
                cursor.not_before = None
            if batch.lost_before and cursor.position.t < batch.first - 1:
                self._gap(cursor, items, Gap(run.id, cursor.position.t, batch.first))
            items.append(Span(batch, begin, len(batch.ticks)))
            cursor.position = Position(run.id, batch.last)
            max_bytes -= batch.size
            index += 1
        return max_bytes

    def _gap(self, cursor: Cursor, items: list[Item], gap: Gap) -> None:
        """Say that ticks are gone, and move the cursor past them."""
        items.append(gap)
        cursor.complete = False
        cursor.position = gap.position if gap.next is not None else Position(gap.run, self.bus.runs[gap.run].shown)

    def _next_run(self, cursor: Cursor, old: Run, new: Run, items: list[Item]) -> Run:
        items.append(Reset(new.id, old.id, cursor.complete))
        cursor.position, cursor.complete = Position(new.id, -1), True
        return new

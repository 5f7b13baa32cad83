"""Start positions: finds the position at which a request begins, in memory or in history.

A start by time or by count may lie in a block on disk, so finding it is a coroutine, which waits for each block that it
has to read. A position that the request names, and the newest tick for a slow reader that skips (``skip``), are found
without waiting.

No clock: callers pass ``now``. Called on the loop only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from ..bus.ring import Batch, Run
from ..bus.tick_bus import TickBus
from ..history.archive import Archive
from ..history.run_history import RunHistory, Stored
from ..history.stored_block import Entry
from ..model.query import Query
from ..model.tick import Position, PublishedTick
from ..model.view import View
from .cursor import BlockRef, Cursor, Portion, PortionBuilder
from .waiting import load_batches

_MOST_BEYOND: Final = 1000  # positions beyond the tip that are remembered
_NOWHERE: Final = Position("", -1)


class Beyond:
    """Positions beyond the tip, and until when each waits, counted from the first request for it.

    So a client that gives up early and comes back (a pull with a short timeout, a stream behind a proxy that cuts it)
    learns of a restart that lost ticks as soon as one that waits. The most recent ones are remembered.
    """

    def __init__(self) -> None:
        self._until: dict[Position, float] = {}  # least recently requested first

    def deadline(self, position: Position, now: float, seconds: float) -> float:
        """When a position stops waiting; a request for a new one waits this many seconds."""
        until = self._until.pop(position, now + seconds)
        self._until[position] = until
        if len(self._until) > _MOST_BEYOND:
            del self._until[next(iter(self._until))]
        return until


class StartPositions:
    """Finds start positions in a bus and its history.

    Attributes:
        beyond_tip_seconds: how long a position beyond the tip waits for it.
    """

    def __init__(self, bus: TickBus, archive: Archive, beyond_tip_seconds: float) -> None:
        self.beyond_tip_seconds = beyond_tip_seconds
        self._bus = bus
        self._ring = bus.ring
        self._archive = archive
        self._beyond = Beyond()

    # ---- of requests ----

    async def find(self, cursor: Cursor, now: float) -> Cursor:
        """The cursor with its start position, even if that needs several reads from disk. Returns the same cursor if
        the position is already known, or nothing was published yet, so that it cannot be judged."""
        cursor = self.find_at_once(cursor, now)
        query = cursor.query
        if query is None or self._ring.newest is None:
            return cursor
        home = self._home(query)
        at = PortionBuilder(cursor, _NOWHERE)
        at.position = position = self._named(cursor, query, home, at) or await self._sought(query, home, at)
        if query.skip and position.run != home.id and query.run is None:
            at.reset(home, position.run, await self._back(1, query.view, home))
            return _found(at)
        if (until := self._deadline(position, now)) is not None:
            return _found(at, until, query)
        self._judge(query, home, at)
        if query.backlog is not None:
            target = await self._back(query.backlog, query.view, home if query.run else None)
            if (run := self._pass_runs(at, target)) is not None:
                if await self._published_between(run, at.position.t, target.t):
                    at.gap(run, at.position.t, target.t + 1)
        return _found(at)

    def find_at_once(self, cursor: Cursor, now: float) -> Cursor:
        """As ``find``, if no tick has to be looked for; else the cursor unchanged, for ``find``."""
        query = cursor.query
        if query is None:
            return cursor
        if self._ring.newest is None:
            if query.start is None and query.run is None:  # it wants only new ticks
                return cursor._replace(query=None, not_before=query.since)
            return cursor
        home = self._home(query)
        at = PortionBuilder(cursor, _NOWHERE)
        position = self._named(cursor, query, home, at)
        if position is None or (query.skip and position.run != home.id and query.run is None):
            return cursor
        at.position = position
        if (until := self._deadline(position, now)) is not None:
            return _found(at, until, query)
        if query.backlog is not None:
            return cursor
        self._judge(query, home, at)
        return _found(at)

    def _home(self, query: Query) -> Run:
        """The run that a request is about; something must have been published."""
        newest = self._ring.newest
        assert newest is not None, "nothing was published yet"
        return self._bus.runs.get(query.run or "", newest)

    def _named(self, cursor: Cursor, query: Query, home: Run, at: PortionBuilder) -> Position | None:
        """The position that a request names; None: it has to be looked for."""
        start = query.start
        if isinstance(start, Position):
            return start
        if start is not None:
            if start > home.shown:  # without waiting: the simulation has started over since the client's last visit
                at.reset(home, home.id)
                return at.position
            return Position(home.id, start)
        if query.since is not None or query.tail is not None:
            return None
        if query.run is not None:
            return Position(home.id, -1)
        return Position(home.id, self._before_first(home)) if cursor.oldest else None

    async def _sought(self, query: Query, home: Run, at: PortionBuilder) -> Position:
        """The position that a request gives by time or by count."""
        if query.since is None:
            return await self._back(1 if query.tail is None else query.tail, query.view, home)
        found = await self._since(query.since, home, query.run is not None)
        if found is None:
            at.not_before = query.since
        return found or Position(home.id, home.shown)

    def _deadline(self, position: Position, now: float) -> float | None:
        """When a position beyond the tip stops waiting for it; None: it does not wait."""
        run = self._bus.runs.get(position.run)
        if run is None or position.t <= run.shown or run.over:
            return None
        return self._beyond.deadline(position, now, self.beyond_tip_seconds)

    def _judge(self, query: Query, home: Run, at: PortionBuilder) -> None:
        """Reset a position that does not exist and cannot come into existence."""
        run = self._bus.runs.get(at.position.run)
        if run is None or at.position.t > run.shown:
            at.reset(home if run is None or query.run is not None else run.following or run, at.position.run)

    def _before_first(self, run: Run) -> int:
        """The ``t`` before the oldest readable tick; that older ones were deleted is not a gap here."""
        stored = self._archive.first(run)
        ring = self._ring.first_of(run)
        if stored is not None and stored <= run.evicted and (ring is None or stored < ring):
            return stored - 1
        return run.evicted

    async def before(self, query: Query, run: Run, high: int) -> Position | None:
        """The position before the ticks of a run up to ``high`` that ``tail`` or ``since`` asks for; ``high`` if none
        was received since; None: the request has neither."""
        if query.tail is not None:
            return await self._back(query.tail, query.view, run, high)
        if query.since is None:
            return None
        return await self._since(query.since, run, within=True) or Position(run.id, high)

    # ---- of slow readers ----

    def skip(self, cursor: Cursor, view: View) -> Portion:
        """Move a slow reader with ``lag=skip`` to before the newest tick, and report what it missed. Blocks are skipped
        without reading them."""
        home = self._ring.newest
        position = cursor.position
        if position is None or home is None or cursor.deadline is not None or cursor.until_run not in (None, home.id):
            return Portion([], cursor)
        at = PortionBuilder(cursor, position)
        search = BackwardSearch(self._bus, self._archive, 1, view, home)
        while search.next_block() is not None:
            search.passed(())
        if position.run != home.id:
            at.reset(home, position.run, search.position)
        elif self._between(home, position.t, search.position.t) is not False:
            at.gap(home, position.t, search.position.t + 1)
        return at.portion()

    # ---- by time ----

    async def _since(self, since: int, home: Run, within: bool) -> Position | None:
        """The position before the first tick received at or after ``since``, in any run (``within``: only in this one);
        None: not yet."""
        for run in list(self._bus.runs.values()):  # publishers may add runs meanwhile
            if within and run is not home:
                continue
            history = self._archive.histories.get(run.id)
            stored = history.received_since(since) if history is not None else None
            if stored is not None and history is not None and stored.first <= run.evicted:
                return await self._since_in(since, run, history, stored)
            # Of missing ticks, it may be known only that they came before the next run.
            latest = run.evicted_at if run.following is None else min(run.evicted_at, run.following.started)
            if run.evicted >= 0 and latest >= since:  # some of the requested ticks are gone, which a gap will report
                return Position(run.id, next((one.last for one in history.upto(run.evicted)), -1) if history else -1)
            begin, end = self._ring.after(run, -1), self._ring.after(run, run.shown)
            index = bisect_left(self._ring, since, begin, end, key=_last_at)
            if index < end:
                return _before(self._ring[index], since)
        return None

    async def _since_in(self, since: int, run: Run, history: RunHistory, stored: Stored) -> Position:
        """The same in stored blocks: in the first one with a tick received since."""
        before = next((one.last for one in history.upto(stored.first - 1)), -1)
        first_at = stored.first_at if isinstance(stored, Entry) else stored.ticks[0].at
        if first_at >= since and history.missing_before(stored, before):
            return Position(run.id, before)  # requested ticks may be missing, which a gap will report
        for batch in await self._ticks(run, stored) or ():
            if batch.ticks[-1].at >= since:
                return _before(batch, since)
        return Position(run.id, before)  # deleted meanwhile

    # ---- by count ----

    async def _back(self, count: int, view: View, run: Run | None, high: int | None = None) -> Position:
        """The position before the last ``count`` ticks that pass the view; see ``BackwardSearch``."""
        search = BackwardSearch(self._bus, self._archive, count, view, run, high)
        while (block := search.next_block()) is not None:
            search.passed(await load_batches(self._archive, block) or ())
        return search.position

    # ---- between two positions ----

    def _pass_runs(self, at: PortionBuilder, target: Position) -> Run | None:
        """Move to the run of a later position, and report what is skipped of the runs before it; returns the run, or
        None if the position is not a later one."""
        run, goal = self._bus.runs[at.position.run], self._bus.runs[target.run]
        while run.seq < goal.seq and run.following is not None:
            if run.shown > at.position.t or run.lost_tail:
                at.gap(run, at.position.t, None)
            run = at.next_run(run)
        return run if run is goal else None

    async def _published_between(self, run: Run, after: int, upto: int) -> bool:
        """Whether ticks with after < t <= upto were published."""
        found = self._between(run, after, upto)
        if not isinstance(found, BlockRef):
            return found
        batches = await load_batches(self._archive, found)
        return batches is None or any(after < tick.t <= upto for batch in batches for tick in batch.ticks)

    def _between(self, run: Run, after: int, upto: int) -> bool | BlockRef:
        """The same, if it can be told without the disk; else the block that has to be read."""
        if after >= upto:
            return False
        if after < run.evicted:
            stored = self._archive.after(run, after)
            if stored is None:
                return True
            if self._archive.history(run).missing_before(stored, after) or after < stored.first <= upto:
                return True
            if after < stored.first:
                return False
            if isinstance(stored, Entry):
                return BlockRef(run, stored)
            return any(after < tick.t <= upto for tick in stored.ticks)
        index = self._ring.after(run, after)
        if index == len(self._ring) or (batch := self._ring[index]).run is not run:
            return False
        return batch.ticks[batch.index_after(after)].t <= upto

    async def _ticks(self, run: Run, stored: Stored) -> Sequence[Batch] | None:
        """The ticks of a stored block, or None if it was deleted."""
        return await load_batches(self._archive, BlockRef(run, stored)) if isinstance(stored, Entry) else [stored]


class BackwardSearch:
    """Searches back from the newest ticks of a run, or of all runs, until enough of them have passed a view.

    Memory and the records of blocks are searched without waiting. ``next_block`` returns a block whose ticks have to be
    counted one by one; pass them to ``passed``, and call it again.

    Args:
        run: the only run to search; None: all, up to the newest that readers can have ticks of.
        high: the newest ``t`` of the newest run to count; None: what readers can have.

    Attributes:
        count: ticks still to be found.
        position: before those already found.
    """

    def __init__(
        self, bus: TickBus, archive: Archive, count: int, view: View, run: Run | None, high: int | None = None
    ) -> None:
        newest = run if run is not None else bus.ring.newest
        assert newest is not None, "nothing was published yet"
        self._ring = bus.ring
        self._archive = archive
        self._view = view
        self._newest = newest
        self._high = newest.shown if high is None else min(high, newest.shown)
        self._runs = [newest] if run is not None else [one for one in bus.runs.values() if one.seq <= newest.seq]
        self._history: RunHistory | None = None  # of the run that is being searched
        self._block: BlockRef | None = None  # returned by ``next_block``
        self._upto = -1  # the newest ``t`` not counted yet
        self.count = count
        self.position = Position(newest.id, self._high)

    def next_block(self) -> BlockRef | None:
        """Search back as far as possible without the disk; returns the block to count next, or None at the end."""
        while self.count and (self._history is not None or self._runs):
            if self._history is None:
                self._search_memory(self._runs.pop())
            elif (block := self._search_history(self._history)) is not None:
                return block
            else:
                self._history = None
        return None

    def passed(self, batches: Sequence[Batch]) -> None:
        """Count the ticks of the block that ``next_block`` returned; none if it was deleted, or nothing was
        returned."""
        assert self._block is not None, "next_block() names it"
        self._count(batches)
        self._upto = self._block.first - 1

    def _search_memory(self, run: Run) -> None:
        upto = self._high if run is self._newest else run.shown
        end = self._ring.after(run, upto)
        end += end < len(self._ring) and self._ring[end].run is run and self._ring[end].first <= upto
        self._upto = upto
        for index in range(end - 1, -1, -1):
            batch = self._ring[index]
            if self.count == 0 or batch.run is not run:
                break
            self._count([batch])
            self._upto = batch.first - 1
        self._history = self._archive.histories.get(run.id)

    def _search_history(self, history: RunHistory) -> BlockRef | None:
        every = self._view.every
        while self.count:
            self.count, self._upto, before = history.back(self._upto, self.count, every)
            if before is not None:
                self.position = Position(history.run.id, before)
                continue
            stored = next(history.upto(self._upto), None)
            if stored is None:
                break
            if not isinstance(stored, Entry):
                self._count([stored])
            elif stored.last > self._upto or (passing := stored.passing(every)) is None or passing > self.count:
                self._block = BlockRef(history.run, stored)
                return self._block
            elif passing:
                # If the span is complete, every multiple of ``every`` in it exists.
                first = stored.first + -stored.first % every
                self.count, self.position = self.count - passing, Position(history.run.id, first - 1)
            self._upto = stored.first - 1
        return None

    def _count(self, batches: Sequence[Batch]) -> None:
        """Count the ticks in these batches up to ``_upto`` that pass the view."""
        passing = [
            tick.t for batch in batches for tick in batch.ticks if tick.t <= self._upto and self._view.passes(tick.t)
        ]
        if passing and self.count:
            some = min(self.count, len(passing))
            self.count, self.position = self.count - some, Position(batches[0].run.id, passing[-some] - 1)


def _found(at: PortionBuilder, deadline: float | None = None, query: Query | None = None) -> Cursor:
    """The cursor with its start position; ``query``: the request, if it waits beyond the tip."""
    again = query if query is not None and query.backlog is not None else None  # it also bounds what comes of that run
    return Cursor(
        at.position,
        at.cursor.until_run,
        at.complete,
        at.not_before,
        notices=tuple(at.items),
        deadline=deadline,
        again=again,
    )


def _before(batch: Batch, since: int) -> Position:
    """The position before the first tick of a batch received at or after ``since``."""
    return Position(batch.run.id, batch.ticks[bisect_left(batch.ticks, since, key=_at)].t - 1)


def _at(tick: PublishedTick) -> int:
    return tick.at


def _last_at(batch: Batch) -> int:
    return batch.ticks[-1].at

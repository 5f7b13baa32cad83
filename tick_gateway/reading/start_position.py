"""Placing: from what a request asked for to the position that it begins at, in memory or in history.

What is asked for by time or by count may lie in a block that is on disk. So placing is a generator: it yields each
block that it has to look into and is sent its ticks; ``Feed.place`` drives it, and waits where a block is not there
yet.

No asyncio and no clock. Called on the loop only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Sequence
from typing import Final

from ..bus.ring import Batch, Run
from ..bus.tick_bus import TickBus
from ..history.archive import Archive
from ..history.block_index import Entry
from ..history.run_history import Stored
from ..model.notices import Gap, Reset
from ..model.query import Query
from ..model.tick import Position, Tick
from ..model.view import View
from .cursor import BlockRef, Cursor, Item, Steps

_MOST_BEYOND: Final = 1000  # positions beyond the tip that are remembered


def pass_gap(cursor: Cursor, run: Run, gap: Gap, items: list[Item]) -> None:
    """Say that ticks are gone, and move the cursor past them."""
    items.append(gap)
    cursor.complete = False
    cursor.position = gap.position if gap.next is not None else Position(gap.run, run.shown)


def next_run(cursor: Cursor, old: Run, new: Run, items: list[Item]) -> Run:
    """Say that a run is over, and move the cursor before the next one."""
    items.append(Reset(new.id, old.id, cursor.complete))
    cursor.position, cursor.complete = Position(new.id, -1), True
    return new


class Beyond:
    """Positions beyond the tip, and how long each waits for it: counted from the first request that asked for it.

    So a client that gives up sooner, and comes back, learns of a restart that lost ticks as well as one that waits: a
    pull with a short timeout, or a stream behind a proxy that cuts it. Those that were asked for last are remembered.
    """

    def __init__(self) -> None:
        self._until: dict[Position, float] = {}  # those asked for least lately first

    def deadline(self, position: Position, now: float, seconds: float) -> float:
        """When a position stops waiting, where the first one that asks for it waits so many seconds."""
        until = self._until.pop(position, now + seconds)
        self._until[position] = until
        if len(self._until) > _MOST_BEYOND:
            del self._until[next(iter(self._until))]
        return until


class Placing:
    """Finds positions in a bus and its history.

    Attributes:
        beyond_tip_seconds: how long a position beyond the tip waits for it.
    """

    def __init__(self, bus: TickBus, archive: Archive, beyond_tip_seconds: float) -> None:
        self.beyond_tip_seconds = beyond_tip_seconds
        self._bus = bus
        self._ring = bus.ring
        self._archive = archive
        self._beyond = Beyond()

    def place(self, cursor: Cursor, query: Query, now: float) -> Steps:
        """Turn what a request asked for into the cursor's position and its first notices. Something was published."""
        newest = self._ring.newest
        assert newest is not None
        home = self._bus.runs.get(query.run or "", newest)
        items = [*(cursor.notices or ())]  # of a position that was waited for
        start, not_before = query.start, None
        if isinstance(start, Position):
            position = start
        elif start is not None:
            position = Position(home.id, start)
            if start > home.shown:  # at once: the simulation has started over since the client's last visit
                items.append(Reset(home.id, home.id, False))
                position = Position(home.id, -1)
        elif query.since is not None:
            found = yield from self.since(query.since, home, query.run is not None)
            position = found or Position(home.id, home.shown)
            not_before = query.since if found is None else None
        elif query.run is not None and query.tail is None:
            position = Position(home.id, -1)
        elif cursor.oldest and query.tail is None:
            position = Position(home.id, self._before_first(home))
        else:
            position = yield from self.back(1 if query.tail is None else query.tail, query.view, home)
        run = self._bus.runs.get(position.run)
        cursor.position, cursor.not_before = position, not_before
        if query.skip and position.run != home.id and query.run is None:
            items.append(Reset(home.id, position.run, False))
            cursor.position = yield from self.back(1, query.view, home)
        elif run is not None and position.t > run.shown and not run.over:
            cursor.deadline = self._beyond.deadline(position, now, self.beyond_tip_seconds)
        else:
            if run is None or position.t > run.shown:
                new = home if run is None or query.run is not None else run.following or run
                items.append(Reset(new.id, position.run, False))
                cursor.position = Position(new.id, -1)
            if query.backlog is not None:
                target = yield from self.back(query.backlog, query.view, home if query.run else None)
                yield from self._skip_to(cursor, cursor.position, target, items)
        cursor.query, cursor.notices = None, items
        return cursor.position

    def skip(self, cursor: Cursor, home: Run, view: View, items: list[Item]) -> None:
        """Move a cursor before the newest tick of ``home`` that memory holds, and say what it leaves out."""
        position = cursor.position
        assert position is not None
        target = _at_once(self.back(1, view, home))
        if position.run == home.id:
            _at_once(self._skip_to(cursor, position, target, items))
        else:
            items.append(Reset(home.id, position.run, False))
            cursor.position, cursor.complete = target, True

    def _before_first(self, run: Run) -> int:
        """The ``t`` before the oldest tick that can be read; where all before it was deleted, that is no gap here."""
        stored = self._archive.first(run)
        ring = self._ring.first_of(run)
        if stored is not None and stored <= run.evicted and (ring is None or stored < ring):
            return stored - 1
        return run.evicted

    # ---- by time ----

    def since(self, since: int, home: Run, within: bool) -> Generator[BlockRef, list[Batch] | None, Position | None]:
        """The position before the first tick received at or after ``since``, in whichever run; None: not yet."""
        for run in list(self._bus.runs.values()):  # a publisher may begin another meanwhile
            if within and run is not home:
                continue
            history = self._archive.histories.get(run.id)
            stored = history.received_since(since) if history is not None else None
            if stored is not None and history is not None and stored.first <= run.evicted:
                before = next((one.last for one in history.upto(stored.first - 1)), -1)
                first_at = stored.first_at if isinstance(stored, Entry) else stored.ticks[0].at
                if first_at >= since and history.missing_before(stored, before):
                    return Position(run.id, before)  # what is missing may have been asked for: a gap will say so
                for batch in (yield from self._look(run, stored)) or ():
                    if batch.ticks[-1].at >= since:
                        return Position(run.id, batch.ticks[bisect_left(batch.ticks, since, key=_at)].t - 1)
                return Position(run.id, before)  # it is gone since
            # Of missing ticks it may be known only that they came before the next run.
            latest = run.evicted_at if run.following is None else min(run.evicted_at, run.following.started)
            if run.evicted >= 0 and latest >= since:  # some of what was asked for is gone: a gap will say so
                return Position(run.id, next((one.last for one in history.upto(run.evicted)), -1) if history else -1)
            begin, end = self._ring.after(run, -1), self._ring.after(run, run.shown)
            at = bisect_left(self._ring, since, begin, end, key=_last_at)
            if at < end:
                ticks = self._ring[at].ticks
                return Position(run.id, ticks[bisect_left(ticks, since, key=_at)].t - 1)
        return None

    # ---- by count ----

    def back(self, count: int, view: View, run: Run | None, high: int | None = None) -> Steps:
        """The position before the last ``count`` ticks that pass the view, as far back as can be read; in ``run``
        alone if given, and up to ``high`` alone."""
        newest = run if run is not None else self._ring.newest
        assert newest is not None
        high = newest.shown if high is None else min(high, newest.shown)
        position = Position(newest.id, high)
        for home in [newest] if run is not None else reversed(list(self._bus.runs.values())):
            if home.seq > newest.seq:
                continue
            upto = high if home is newest else home.shown
            end = self._ring.after(home, upto)
            end += end < len(self._ring) and self._ring[end].run is home and self._ring[end].first <= upto
            for index in range(end - 1, -1, -1):
                batch = self._ring[index]
                if count == 0 or batch.run is not home:
                    break
                count, position = _counted([batch], view, count, position, upto)
                upto = batch.first - 1
            history = self._archive.histories.get(home.id)
            while history is not None and count:
                count, upto, before = history.back(upto, count, view.every)
                if before is not None:
                    position = Position(home.id, before)
                    continue
                if (stored := next(history.upto(upto), None)) is None:
                    break
                passing = stored.passing(view.every) if isinstance(stored, Entry) and stored.last <= upto else None
                if passing is not None and passing <= count:
                    if passing:
                        # Where that can be told from outside, each ``t`` that ``every`` divides is there.
                        first = stored.first + -stored.first % view.every
                        count, position = count - passing, Position(home.id, first - 1)
                else:
                    batches = (yield from self._look(home, stored)) or ()
                    count, position = _counted(batches, view, count, position, upto)
                upto = stored.first - 1
            if count == 0:
                break
        return position

    def _look(self, run: Run, stored: Stored) -> Generator[BlockRef, list[Batch] | None, list[Batch] | None]:
        """A stored block's ticks, or None where they are gone."""
        if isinstance(stored, Batch):
            return [stored]
        return (yield BlockRef(run, stored))

    def _skip_to(self, cursor: Cursor, position: Position, target: Position, items: list[Item]) -> Steps:
        """Move a cursor forward to ``target``, and say what it leaves out."""
        run, goal = self._bus.runs[position.run], self._bus.runs[target.run]
        while run.seq < goal.seq and run.following is not None:
            assert cursor.position is not None
            if run.shown > cursor.position.t or run.lost_tail:
                pass_gap(cursor, run, Gap(run.id, cursor.position.t, None), items)
            run = next_run(cursor, run, run.following, items)
        assert cursor.position is not None
        if run is goal and (yield from self.any_between(run, cursor.position.t, target.t)):
            pass_gap(cursor, run, Gap(run.id, cursor.position.t, target.t + 1), items)
        return cursor.position

    def any_between(self, run: Run, after: int, upto: int) -> Generator[BlockRef, list[Batch] | None, bool]:
        """Whether ticks with after < t <= upto were published."""
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
            batches = yield from self._look(run, stored)
            if batches is None:
                return True
            return any(after < tick.t <= upto for batch in batches for tick in batch.ticks)
        index = self._ring.after(run, after)
        if index == len(self._ring) or (batch := self._ring[index]).run is not run:
            return False
        return batch.ticks[batch.index_after(after)].t <= upto


def _counted(
    batches: Sequence[Batch], view: View, count: int, position: Position, upto: int | None = None
) -> tuple[int, Position]:
    """What is left of ``count`` after the ticks of these batches that pass the view, and the position before them."""
    passing = [
        tick.t for batch in batches for tick in batch.ticks if (upto is None or tick.t <= upto) and view.passes(tick.t)
    ]
    if not passing or not count:
        return count, position
    some = min(count, len(passing))
    return count - some, Position(batches[0].run.id, passing[-some] - 1)


def _at_once(steps: Steps) -> Position:
    """Go through the steps without a look at the disk."""
    try:
        next(steps)
        while True:
            steps.send(None)
    except StopIteration as stop:
        position: Position = stop.value
        return position


def _at(tick: Tick) -> int:
    return tick.at


def _last_at(batch: Batch) -> int:
    return batch.ticks[-1].at

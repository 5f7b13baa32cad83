"""Reading on: the horizon, what has to come from disk, and positions beyond the tip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.history.local.limits import Limits
from tick_gateway.model.notices import Gap, Reset
from tick_gateway.model.query import Query
from tick_gateway.model.tick import Position
from tick_gateway.reading.cursor import Cursor, Portion, RawBlocks, Span
from tick_gateway.reading.feed import Feed

from ...simulation.disk import Disk
from ...simulation.room import Room


@pytest.fixture
def stored() -> Iterator[Room]:
    """Ticks a:1 to a:39, of which memory holds two; no decoded block but the last one is kept."""
    room = Room(ring=2, disk=Disk(Limits(block_bytes=300, level=1, fsync="never"), cache_bytes=1))
    room.tell(*range(1, 40), run="a")
    yield room
    room.close()


def numbers(portion: Portion) -> list[int]:
    return [tick.t for item in portion.items if isinstance(item, Span) for tick in item.ticks]


def test_streams_read_to_the_horizon_and_pulls_beyond_it() -> None:
    bus = TickBus()
    feed = Feed(bus)
    assert feed.empty and feed.read(Cursor(), 0.0, 100) == Portion([], Cursor())
    bus.offer(1, b'{"t":1}', "a")
    bus.collect()
    cursor = Cursor(Position("a", -1))
    assert feed.behind and feed.read(cursor, 0.0, 100) == Portion([], cursor)
    assert numbers(feed.read(cursor, 0.0, 100, pull=True)) == [1]
    assert feed.offer(100) and not feed.offer(100)
    assert numbers(feed.read(cursor, 0.0, 100)) == [1]


def test_what_is_on_disk_is_waited_for_and_the_cursor_stays(stored: Room) -> None:
    cursor = Cursor(Position("a", 0))
    waiting = stored.feed.read(cursor, 0.0, 1)
    assert waiting.waits and (waiting.items, waiting.cursor) == ([], cursor)
    stored.settle()
    assert not waiting.waits
    read = stored.feed.read(cursor, 0.0, 1, load=waiting.load)
    assert numbers(read)[0] == 1 and not read.waits
    assert stored.feed.read(cursor, 0.0, 1, load=read.load) == read, "a replay comes back to its block"


def test_a_load_that_was_lost_costs_another_one(stored: Room) -> None:
    """It is no part of the cursor, so whoever lets go of it reads the same."""
    cursor = Cursor(Position("a", 0))
    first = stored.feed.read(cursor, 0.0, 1)
    stored.settle()
    later = stored.feed.read(Cursor(Position("a", 15)), 0.0, 1)  # takes its place in the cache
    stored.settle()
    assert later.load is not None and later.load.done
    again = stored.feed.read(cursor, 0.0, 1)
    assert again.waits and again.load is not first.load
    stored.settle()
    assert stored.feed.read(cursor, 0.0, 1, load=again.load) == stored.feed.read(cursor, 0.0, 1, load=again.load)


def test_a_load_of_another_block_is_of_no_use(stored: Room) -> None:
    other = stored.feed.read(Cursor(Position("a", 15)), 0.0, 1)
    stored.settle()
    portion = stored.feed.read(Cursor(Position("a", 0)), 0.0, 1, load=other.load)
    assert portion.load is not other.load and portion.waits


def test_whole_blocks_are_given_as_they_lie_on_disk(stored: Room) -> None:
    cursor, load, found = Cursor(Position("a", -1)), None, list[Position]()
    for _ in range(100):
        portion = stored.feed.read(cursor, 0.0, 600, load=load, raw=True)
        found += [item.position for item in portion.items if isinstance(item, RawBlocks)]
        cursor, load = portion.cursor, portion.load
        stored.settle()
    assert found and cursor.position == Position("a", 39)


def test_a_block_that_is_gone_is_a_gap(stored: Room) -> None:
    assert stored.store is not None and stored.disk is not None
    cursor = Cursor(Position("a", 0))
    waiting = stored.feed.read(cursor, 0.0, 1)
    assert waiting.load is not None
    lost = waiting.load.entry
    stored.feed.archive.history(stored.bus.runs["a"]).remove(lost)
    stored.settle()
    portion = stored.feed.read(cursor, 0.0, 1, load=waiting.load)
    assert portion.items[0] == Gap("a", 0, lost.last + 1)
    assert not portion.cursor.complete


async def beyond(bus: TickBus, query: Query) -> tuple[Feed, Cursor]:
    feed = Feed(bus, beyond_tip_seconds=10.0)
    return feed, await feed.starts.find(Cursor.of(query), 100.0)


@pytest.fixture
def bus() -> TickBus:
    bus = TickBus()
    for t in range(20):
        bus.offer(t, b'{"t":%d}' % t, "a")
    bus.collect()
    return bus


async def test_beyond_the_tip_nothing_comes_until_the_time_is_up(bus: TickBus) -> None:
    feed, cursor = await beyond(bus, Query(start=Position("a", 30)))
    assert cursor.deadline == 110.0
    assert feed.read(cursor, 109.0, 1) == Portion([], cursor)
    portion = feed.read(cursor, 110.0, 1)
    assert portion.items[0] == Reset("a", "a", False) and portion.cursor.deadline is None


async def test_beyond_the_tip_it_goes_on_when_the_tip_comes(bus: TickBus) -> None:
    feed, cursor = await beyond(bus, Query(start=Position("a", 30)))
    bus.offer(31, b'{"t":31}', "a")
    bus.collect()
    portion = feed.read(cursor, 101.0, 1, pull=True)
    assert numbers(portion) == [31] and portion.cursor == Cursor(Position("a", 31))


async def test_a_backlog_counts_anew_where_the_tip_does_not_come(bus: TickBus) -> None:
    feed, cursor = await beyond(bus, Query(start=Position("a", 30), backlog=3))
    portion = feed.read(cursor, 110.0, 1)
    assert portion.items == [] and portion.cursor.query is not None
    found = await feed.starts.find(portion.cursor, 110.0)
    assert found.notices == (Reset("a", "a", False), Gap("a", -1, 17))
    assert found.position == Position("a", 16)


async def test_positions_beyond_the_tip_wait_from_the_first_request_on(bus: TickBus) -> None:
    feed, first = await beyond(bus, Query(start=Position("a", 30)))
    again = await feed.starts.find(Cursor.of(Query(start=Position("a", 30))), 105.0)
    other = await feed.starts.find(Cursor.of(Query(start=Position("a", 31))), 105.0)
    assert (first.deadline, again.deadline, other.deadline) == (110.0, 110.0, 115.0)

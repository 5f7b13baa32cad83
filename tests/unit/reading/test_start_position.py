"""Where a request begins: what is counted back, what has to be waited for, and what happens meanwhile."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.bus.ring import Run
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.delivery.session_state import State
from tick_gateway.history.archive import Archive
from tick_gateway.history.local.limits import Limits
from tick_gateway.model.query import Query, parse_query
from tick_gateway.model.tick import Position
from tick_gateway.model.view import View
from tick_gateway.reading.cursor import Cursor
from tick_gateway.reading.feed import Feed
from tick_gateway.reading.start_position import BackwardSearch

from ...simulation.client import Client
from ...simulation.disk import Disk
from ...simulation.room import Room

runs_of_ticks = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=12), min_size=1, max_size=4
)  # steps between the ticks of each run


def published(runs: list[list[int]]) -> tuple[TickBus, list[Position]]:
    bus, told = TickBus(), list[Position]()
    for number, steps in enumerate(runs):
        t = 0
        for step in steps:
            t += step
            bus.offer(t, b'{"t":%d}' % t, f"r{number}")
            told.append(Position(f"r{number}", t))
            if t % 3 == 0:
                bus.collect()
    bus.collect()
    return bus, told


@settings(deadline=None)
@given(runs_of_ticks, st.integers(0, 30), st.integers(1, 4), st.booleans(), st.none() | st.integers(0, 50))
def test_counting_back_is_what_counting_is(
    runs: list[list[int]], count: int, every: int, alone: bool, high: int | None
) -> None:
    bus, told = published(runs)
    newest = bus.ring.newest
    assert newest is not None
    search = BackwardSearch(bus, Archive(), count, View(every=every), newest if alone else None, high)
    assert search.next_block() is None, "memory has everything"
    upto = newest.shown if high is None else min(high, newest.shown)
    counts = [one for one in told if one.t % every == 0 and (one.run != newest.id or one.t <= upto)]
    counts = [one for one in counts if not alone or one.run == newest.id]
    found = counts[len(counts) - min(count, len(counts)) :]
    assert search.position == (Position(found[0].run, found[0].t - 1) if found else Position(newest.id, upto))
    assert search.count == count - len(found)


async def test_what_a_request_names_is_found_at_once() -> None:
    bus, _ = published([[1] * 9, [1] * 9])
    feed = Feed(bus)
    for asked, position in (
        ([("from_t", "r0:4")], Position("r0", 4)),
        ([("from_t", "5")], Position("r1", 5)),
        ([("from_t", "50")], Position("r1", -1)),
        ([("from_t", "zzz:5")], Position("r1", -1)),
        ([("run", "r0")], Position("r0", -1)),
    ):
        cursor = Cursor.of(parse_query(asked))
        found = feed.starts.find_at_once(cursor, 0.0)
        assert found.query is None and found.position == position
        assert await feed.starts.find(cursor, 0.0) == found
        assert await feed.starts.find(found, 0.0) is found


async def test_what_has_to_be_looked_for_is_not() -> None:
    bus, _ = published([[1] * 9, [1] * 9])
    starts = Feed(bus).starts
    start = Position("r0", 4)
    for query in (Query(), Query(tail=2), Query(since=5), Query(start=start, backlog=2), Query(start=start, skip=True)):
        cursor = Cursor.of(query)
        assert starts.find_at_once(cursor, 0.0) is cursor
        assert (await starts.find(cursor, 0.0)).query is None


async def test_on_an_empty_bus_a_position_waits_and_everything_to_come_is_new() -> None:
    starts = Feed(TickBus()).starts
    named = Cursor.of(Query(start=Position("a", 3)))
    assert await starts.find(named, 0.0) is named
    assert await starts.find(Cursor.of(Query(since=77)), 0.0) == Cursor(not_before=77)


# ---- on disk, for a session that looks for it by itself ----

SKIPS = [("lag", "skip"), ("every", "2")]


@pytest.fixture
def room() -> Iterator[Room]:
    """The newest even tick of run b lies in the middle of a block on disk, which takes a second to come."""
    disk = Disk(Limits(block_bytes=300, level=1, fsync="never"), cache_bytes=1)
    room = Room(ring=2, disk=disk)
    room.tell(*range(1, 20), run="a")
    room.tell(*range(1, 31), run="b")
    room.tell(*range(31, 61, 2), run="b")
    disk.read_seconds = 1.0
    yield room
    room.close()


def seeking(room: Room, seconds: float = 1.0) -> Client:
    """A client that stands at the tip and seeks a place in the older run, from which it skips; a block on disk takes
    so long."""
    assert room.disk is not None
    client = Client(room, "ws", SKIPS)
    room.advance(20.0)
    assert client.session.state.live
    room.disk.read_seconds = seconds
    client.seek(Position("a", 4))
    room.turn(3)
    assert client.session.state is State.STARTING
    return client


def test_it_reads_on_when_its_start_is_found(room: Room) -> None:
    client = seeking(room)
    room.advance(5.0)
    assert client.session.state is State.LIVE
    assert (client.notices, client.numbers) == (["reset"], [30, 30])


def test_who_hangs_up_meanwhile_leaves_nothing_behind(room: Room) -> None:
    client = seeking(room)
    starting = client.session.starting
    client.leave()
    room.advance(5.0)
    assert client.session.state is State.CLOSED
    assert starting is not None and starting.cancelled()
    assert not room.fanout.registry.sessions and not room.fanout._groups


@pytest.mark.parametrize("op", ["seek", "view", "pause"])
def test_what_is_asked_for_meanwhile_counts(room: Room, op: str) -> None:
    client = seeking(room)
    if op == "seek":
        client.seek(Position("b", 44))
    elif op == "view":
        client.see_as([("every", "10")])
    else:
        client.command("pause")
    room.advance(5.0)
    if op == "pause":
        assert (client.session.state, client.numbers) == (State.PAUSED, [30])
        client.command("resume")
        room.advance(5.0)
    assert client.session.state is State.LIVE
    assert client.numbers == ([30] if op == "seek" else [30, 30])


@pytest.mark.parametrize("op", ["pause", "view"])
def test_a_command_meanwhile_tells_the_position_that_was_asked_for(room: Room, op: str) -> None:
    """Who comes back with it is given what this connection would have been given."""
    client = seeking(room)
    client.see_as([("every", "10")]) if op == "view" else client.command("pause")
    room.turn()
    assert told(client)[-1]["at"] == "a:4"
    if op == "pause":
        room.drain()
        assert told(client)[-1]["position"] == "a:4"


def test_a_position_is_told_behind_the_notices_that_lead_there(room: Room) -> None:
    """The start was found, and a command comes before the session has its turn."""
    client = seeking(room)
    starting = client.session.starting
    assert starting is not None
    while not starting.done():
        room.clock.now += 0.1
        room.turn()
    client.see_as([("every", "10")])
    room.advance(5.0)
    lines = told(client)
    reset = next(at for at, one in enumerate(lines) if one.get("notice") == "reset")
    assert [one["at"] for one in lines[reset:] if "ok" in one] == ["b:29"]


def told(client: Client) -> list[dict[str, Any]]:
    """What a client was sent, in order."""
    return [json.loads(message.data) for message in client.messages if message.data[:1] == b"{"]


def test_a_full_buffer_meanwhile(room: Room) -> None:
    client = seeking(room)
    client.session.pause_writing()
    assert client.session.state is State.BLOCKED
    room.advance(5.0)
    client.session.resume_writing()
    room.advance(5.0)
    assert (client.session.state, client.numbers) == (State.LIVE, [30, 30])


def test_a_shutdown_waits_for_it(room: Room) -> None:
    client = seeking(room)
    room.drain()
    assert (client.numbers, client.witness.ended) == ([30, 30], "shutdown")


def test_a_shutdown_does_not_wait_for_ever(room: Room) -> None:
    client = seeking(room, seconds=1000.0)
    room.drain()
    assert client.witness.ended == "shutdown" and client.session.state is State.CLOSED
    assert json.loads(client.messages[-2].data)["position"] == "a:4", "what it asked for, of which it was given nothing"


def test_a_block_that_is_deleted_meanwhile(room: Room) -> None:
    assert room.store is not None and room.disk is not None
    client = seeking(room)
    for path in room.disk.segments():
        if path.parent.name == "b":
            room.disk.delete(room.disk.layout(room.store), path)
    room.advance(5.0)
    assert client.session.state is State.LIVE and client.notices[0] == "reset"


def test_what_fails_costs_that_reader_alone(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*args: object) -> Cursor:
        raise ZeroDivisionError

    other = Client(room, "ndjson", [("tail", "0")])
    client = Client(room, "ws", SKIPS)
    room.advance(20.0)
    monkeypatch.setattr(room.feed.starts, "find", fail)
    room.log.failures = []  # not this room's
    with caplog.at_level(logging.ERROR, "tick_gateway"):
        client.seek(Position("a", 4))
        room.advance(1.0)
    assert "a reader's stream failed" in caplog.text and not client.connected
    room.tell(62, run="b")
    assert other.numbers == [62]


def test_a_crowd_that_looks_for_the_same_reads_the_disk_once(room: Room) -> None:
    loaded = room.feed.archive.loaded
    clients = [Client(room, "ndjson", [("tail", "1"), ("every", "2")]) for _ in range(50)]
    room.advance(5.0)
    assert [client.numbers for client in clients] == [[30]] * 50
    assert room.feed.archive.loaded - loaded <= 4


def test_a_run_is_searched_to_its_end_alone() -> None:
    bus, _ = published([[1] * 5])
    run = bus.runs["r0"]
    assert isinstance(run, Run)
    search = BackwardSearch(bus, Archive(), 100, View(), run)
    assert search.next_block() is None and (search.count, search.position) == (95, Position("r0", 0))

"""Sessions and their groups in the moments that the state machine seldom meets, on a loop that is turned by hand.

The witness of each client objects to whatever is lost, repeated or told wrongly; the tests here say when it happens.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.delivery.session_state import State
from tick_gateway.history.local.limits import Limits
from tick_gateway.model.notices import Reset
from tick_gateway.model.query import parse_query
from tick_gateway.model.tick import Position
from tick_gateway.reading.cursor import Cursor
from tick_gateway.reading.feed import Feed

from ...simulation.client import Client, Pairs
from ...simulation.disk import Disk
from ...simulation.room import HIGH_WATER, Room
from ...simulation.talk import Asked
from ...support.decoders import EventStream
from ...support.frames import command, frame

PING = 9


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


def tip(room: Room) -> tuple[str, int]:
    assert room.truth.tip is not None
    return room.truth.tip


def until_half_written(room: Room, clients: list[Client]) -> None:
    """Turn the loop until a flush has come to the first of them and not to the last."""
    for _ in range(50):
        room.turn()
        if clients[0].messages and not clients[-1].messages:
            return
    raise AssertionError("the flush went through in one turn")


# ---- groups ----


def test_who_is_live_gets_the_bytes_that_a_lone_reader_gets(room: Room) -> None:
    for view in ([], [("fields", "u")], [("every", "2"), ("stamp", "1")]):
        for kind in ("sse", "ndjson", "ws"):
            room.clients.clear()
            live = [Client(room, kind, [("tail", "0"), *view]) for _ in range(3)]
            room.settle()
            first = room.bus.current.tip + 1 if room.bus.current else 1
            for t in range(first, first + 9):
                room.tell(t)
            room.tell(*range(first + 9, first + 20))
            behind = Client(room, kind, [("from_t", f"{tip(room)[0]}:{first - 1}"), *view])
            room.settle()
            assert behind.raw == live[0].raw == live[1].raw == live[2].raw


def test_a_reader_that_leaves_late_takes_nobody_s_group_with_it(room: Room) -> None:
    room.tell(1)
    slow = Client(room, "ndjson", [("limit", "9")])  # never live: it waits in the group
    passing = Client(room, "ndjson", [])
    room.settle()
    slow.wire.stalled = True
    room.tell(2, 3, 4, 5, size=600)
    assert slow.session.state.blocked
    passing.leave()
    staying = Client(room, "ndjson", [])
    room.settle()
    assert staying.session.state.live
    slow.leave()
    room.tell(6, 7)
    assert staying.numbers == [5, 6, 7]


def test_leaving_in_the_middle_of_a_round_neither_skips_nor_repeats(room: Room) -> None:
    room.tell(1)
    clients = [Client(room, "ws", [("tail", "0")]) for _ in range(4)]
    room.settle()
    for t in (2, 3):
        room.publish(t)
    until_half_written(room, clients)
    for client in (clients[0], clients[-1]):
        client.see_as([("every", "1")])
    room.settle()
    room.tell(4)
    assert [client.numbers for client in clients] == [[2, 3, 4]] * 4
    assert all(client.session.state.live for client in clients)


CODED = ("sse+gzip", "sse+zstd", "ndjson+gzip", "ndjson+zstd")


@pytest.mark.parametrize("kind", CODED)
@pytest.mark.parametrize("end", ["limit", "run", "shutdown"])
@pytest.mark.parametrize("view", [[], [("batch", "4")], [("fields", "u")]])
def test_a_coded_body_ends_whole_whatever_its_reader_went_through(
    room: Room, kind: str, end: str, view: list[tuple[str, str]]
) -> None:
    """Beside others it comes in the middle of a section or of a message, is given heartbeats, and falls behind."""
    room.tell(1)
    more = {"limit": [("limit", "60")], "run": [("run", tip(room)[0])], "shutdown": []}[end]
    endless = [] if end == "limit" else more
    others = [Client(room, kind, [("tail", "1"), *view, *endless]) for _ in range(2)]
    room.tell(2, 3, 4)
    room.publish(5)
    room.turn(3)  # of a batch, a part is gathered
    clients = [Client(room, kind, [("tail", "2"), *view, *more, ("hello", n)]) for n in "01"]
    room.advance(40.0)  # heartbeats
    clients[0].wire.stalled = True
    for t in range(6, 40):
        room.tell(t, size=100)
    clients[0].wire.read_on()
    room.advance(20.0)
    room.tell(*range(40, 70))
    if end == "run":
        assert room.bus.current is not None
        room.bus.end_run(room.bus.current.id)
        room.advance(1.0)
    elif end == "shutdown":
        room.drain()
    for client in clients if end == "limit" else clients + others:
        assert client.chunked.ended and client.decompress.whole
        assert client.numbers[-1] == (69 if end != "limit" else client.numbers[0] + 59)


@pytest.mark.parametrize("kind", CODED)
def test_who_comes_during_the_shutdown_gets_a_whole_body(room: Room, kind: str) -> None:
    room.tell(1)
    room.fanout.draining = room.truth.draining = True
    client = Client(room, kind, [])
    room.settle()
    assert client.chunked.ended and client.decompress.whole
    assert client.notices == ["end"]


def test_joining_and_hanging_up_in_the_middle_of_a_round(room: Room) -> None:
    room.tell(1)
    clients = [Client(room, "sse", [("tail", "0")]) for _ in range(4)]
    room.settle()
    for t in (2, 3):
        room.publish(t)
    until_half_written(room, clients)
    clients[1].leave()
    newcomer = Client(room, "sse", [("from_t", f"{tip(room)[0]}:1")])
    clients[2].leave()
    clients[2].come_back([])
    room.settle()
    room.tell(4)
    assert [client.numbers for client in (clients[0], newcomer, clients[3])] == [[2, 3, 4]] * 3
    assert clients[2].numbers in ([2, 3, 4], [4])


def test_who_stands_where_no_flush_has_been_yet_waits_for_it(room: Room) -> None:
    room.tell(1)
    live = Client(room, "ndjson", [("tail", "0")])
    room.settle()
    room.publish(2)
    room.turn(3)
    room.publish(3)  # to be flushed some milliseconds later
    room.turn()
    room.bus.collect()  # by a pull
    newcomer = Client(room, "ndjson", [("tail", "0")])
    room.turn(5)
    assert (live.numbers, newcomer.session.state.live) == ([2], False)
    room.tell(4)
    assert (live.numbers, newcomer.numbers) == ([2, 3, 4], [4])


def test_a_shutdown_in_the_middle_of_a_round_gives_everybody_everything(room: Room) -> None:
    room.tell(1)
    clients = [Client(room, kind, [("tail", "0")]) for kind in ("ws", "ws", "sse", "sse", "ndjson")]
    room.settle()
    for t in (2, 3):
        room.publish(t)
    until_half_written(room, clients)
    room.publish(4)
    room.drain()
    assert [client.numbers for client in clients] == [[2, 3, 4]] * 5
    assert [client.witness.ended for client in clients] == ["shutdown"] * 5


@pytest.mark.parametrize("kind", ["ws", "sse", "ndjson", "ndjson+zstd"])
def test_a_shutdown_lets_those_catch_up_who_wait_for_the_disk(kind: str) -> None:
    disk = Disk(Limits(block_bytes=300, level=1, fsync="never"))
    room = Room(ring=2, disk=disk)
    try:
        room.tell(*range(1, 40), run="a")
        disk.read_seconds = 0.01
        client = Client(room, kind, [("from_t", "a:-1")])
        never = Client(room, kind, [("tail", "0"), ("limit", "9")])
        room.turn(3)
        assert client.numbers == []
        room.drain()
        assert client.numbers == list(range(1, 40))
        assert (client.witness.ended, never.witness.ended) == ("shutdown", "shutdown")
    finally:
        room.close()


# ---- the end of a run ----


def test_the_end_of_a_run_is_told_even_where_a_pull_met_it_first(room: Room) -> None:
    room.tell(1, run="a")
    clients = [Client(room, "ndjson", [("run", "a"), ("from_t", "a:1")]) for _ in range(4)]
    room.settle()
    room.publish(2, run="a")
    until_half_written(room, clients)
    room.bus.end_run("a")
    room.turn()  # the fan-out is told, and busy
    room.bus.collect()  # by a pull
    room.advance(1)
    assert [client.notices for client in clients] == [["end"]] * 4


def test_ticks_lost_at_the_end_of_a_run_are_told_before_it() -> None:
    room = Room(inbox=2)
    try:
        clients = [Client(room, "sse", [("tail", "0")]) for _ in range(2)]
        room.publish(1, run="a")
        room.settle()
        alone = Client(room, "sse", [("run", "a")])
        for t in (2, 3, 4):
            room.publish(t, run="a")
        room.bus.end_run("a")
        room.advance(1)
        assert [json.loads(message.data) for message in alone.messages[3:]] == [
            {"notice": "gap", "run": "a", "after": 3, "next": None},
            {"notice": "end", "reason": "run", "position": "a:3"},
        ]
        room.tell(1, run="b")
        assert [client.notices for client in clients] == [["gap", "reset"]] * 2
    finally:
        room.close()


# ---- slow readers ----


def test_a_slow_reader_that_skips_jumps_to_the_newest_whether_it_is_live_or_not(room: Room) -> None:
    room.tell(1)
    for pairs in ([], [("limit", "99")]):
        client = Client(room, "ndjson", [("lag", "skip"), ("tail", "0"), *pairs])
        room.settle()
        client.wire.stalled = True
        first = tip(room)[1] + 1
        for t in range(first, first + 12):
            room.tell(t, size=600)
        client.wire.read_on()
        room.advance(0.1)
        assert client.notices == ["gap"]
        assert len(client.numbers) < 9 and client.numbers[-1] == first + 11


def test_a_peer_that_sends_pings_and_reads_nothing_costs_its_buffer_alone(room: Room) -> None:
    client = Client(room, "ws", [])
    client.wire.stalled = True
    ping = frame(PING, b"x" * 125)
    for _ in range(1000):
        client.wire.deliver(ping)
    assert client.wire.most < HIGH_WATER + 200
    client.wire.read_on()
    room.settle()
    assert [message.name for message in client.messages] == ["pong"] * 1000


def test_many_commands_at_once_leave_others_their_turn(room: Room) -> None:
    client = Client(room, "ws", [])
    client.witness.talk.asked |= {number: Asked("ping") for number in range(500)}
    client.wire.deliver(b"".join(command(op="ping", id=number) for number in range(500)))
    client.look()
    assert len(client.messages) < 50
    assert not client.wire.is_reading()
    room.settle()
    assert client.wire.is_reading()
    assert [json.loads(message.data)["pong"] for message in client.messages] == list(range(500))


def test_commands_wait_where_their_answers_are_not_read(room: Room) -> None:
    client = Client(room, "ws", [])
    client.witness.talk.asked |= {number: Asked("ping") for number in range(2000)}
    client.wire.stalled = True
    client.wire.deliver(b"".join(command(op="ping", id=number) for number in range(2000)))
    room.settle()
    assert client.wire.most < HIGH_WATER + 1000
    client.wire.read_on()
    room.settle()
    assert [json.loads(message.data)["pong"] for message in client.messages] == list(range(2000))


# ---- states ----

EVENTS = ("stall", "read", "pause", "resume", "seek", "view", "publish", "history", "wait")
LIMITED, REPLAY = [("limit", "99")], [("from_t", "a:5"), ("speed", "9")]
QUERIES = ([("from_t", "a:0")], [("lag", "skip"), ("every", "2")], LIMITED, REPLAY)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(QUERIES),
    st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 3)), max_size=25),
    st.sampled_from([0.0, 0.3]),
)
def test_whatever_happens_to_a_session_in_whatever_order(
    query: Pairs, events: list[tuple[str, int]], seconds: float
) -> None:
    """Its buffer fills up and drains, its reader pauses, seeks and looks into the past, and blocks take their time."""
    disk = Disk(Limits(block_bytes=300, level=1, fsync="never"), cache_bytes=1)
    room = Room(ring=2, disk=disk)
    try:
        room.tell(*range(1, 31), run="a")
        room.tell(*range(31, 41, 2), run="a")
        disk.read_seconds = seconds
        client = Client(room, "ws", query)
        for event, turns in events:
            happens(room, client, event)
            client.check_state()
            for _ in range(turns):
                room.turn()
                client.check_state()
        client.wire.read_on()
        room.advance(1.0)
        client.command("resume")
        room.advance(30.0)
        client.check_state()
        if client.connected:
            assert client.session.state.live or query in (LIMITED, REPLAY)
            client.witness.has_all(room.truth.tip)
        room.drain()
        assert client.session.state is State.CLOSED
    finally:
        room.close()


def happens(room: Room, client: Client, event: str) -> None:
    if not client.commanding:
        return
    if event == "stall":
        client.wire.stalled = True
        client.wire.deliver(frame(PING, b"x" * 125) * 20)
    elif event == "read":
        client.wire.read_on()
    elif event == "seek":
        client.seek(Position("a", 3))
    elif event == "view":
        client.see_as([("every", "2")])
    elif event == "publish":
        room.publish_next(2, 300)
    elif event == "history":
        client.ask_history("a", 4, 20)
    elif event == "wait":
        room.advance(0.5)
    else:
        client.command(event)


# ---- at a pace ----


def test_a_slow_replay_gives_signs_of_life(room: Room) -> None:
    for t in (1, 2, 3):
        room.tell(t, run="a")
        room.advance(1)
    client = Client(room, "sse", [("from_t", "a:-1"), ("speed", "0.01"), ("heartbeat", "5")])
    room.advance(60)
    assert client.numbers == [1]
    assert isinstance(client.decoder, EventStream) and client.decoder.comments >= 8
    room.advance(240)
    assert client.numbers == [1, 2, 3]


def test_a_replay_remembers_what_it_could_not_give() -> None:
    room = Room(ring=4)
    try:
        for t in range(1, 5):
            room.tell(t, run="a")
            room.advance(1)
        room.tell(1, run="b")
        client = Client(room, "ws", [("from_t", "a:0"), ("speed", "1")])
        room.advance(10)
        assert client.numbers == [2, 3, 4, 1]
        resets = [json.loads(message.data) for message in client.messages if b"reset" in message.data]
        assert resets == [{"notice": "reset", "run": "b", "old": "a", "complete": False}]
    finally:
        room.close()


def test_what_finding_the_start_found_is_told_before_anything_was_flushed() -> None:
    """The position lies behind it: who is told the position at a shutdown has to know why."""
    bus = TickBus()
    feed = Feed(bus)
    for t in range(3):
        bus.offer(t, b'{"t":%d}' % t, "A")
    bus.collect()
    query = parse_query([("from_t", "nowhere:8"), ("lag", "skip")])
    cursor = asyncio.run(feed.starts.find(Cursor.of(query), 0.0))
    assert feed.offered is None and cursor.position == Position("A", 1)
    assert feed.read(cursor, 0.0, 1).items == [Reset("A", "nowhere", False)]


def test_what_was_skipped_is_each_readers_own() -> None:
    """Live or not, a reader with a gap is told at the next run that it has not everything of the last one."""
    small = Room(ring=5)
    try:
        small.tell(1, run="a")
        whole = Client(small, "ndjson", [("from_t", "a:-1")])
        small.settle()
        for t in range(2, 21):
            small.tell(t, run="a")
        behind = [Client(small, kind, [("from_t", "a:1")]) for kind in ("ndjson", "ndjson", "sse+gzip")]
        small.settle()
        small.tell(21, run="a")
        assert all(client.session.state.live for client in [whole, *behind])
        small.tell(1, run="b")
        told = [
            [json.loads(message.data)["complete"] for message in client.messages if b'"reset"' in message.data]
            for client in [whole, *behind]
        ]
        assert told == [[True], [False], [False], [False]]
    finally:
        small.close()

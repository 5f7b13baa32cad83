"""Replays keep their pace, whatever holds them up: on a clock and a loop that are moved by hand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.bus.ring import Batch, Run
from tick_gateway.delivery.pace import Pace
from tick_gateway.history.local.limits import Limits
from tick_gateway.model.notices import End
from tick_gateway.model.tick import PublishedTick
from tick_gateway.reading.cursor import Item, Span

from ...simulation.client import Client
from ...simulation.disk import Disk
from ...simulation.room import HIGH_WATER, Room

kinds = pytest.mark.parametrize("kind", ["ws", "sse", "ndjson", "sse+gzip"])
STEP = 0.05  # seconds in which the clock is moved on


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


def publish(room: Room, count: int, every: float = 1.0, *, run: str = "a", size: int = 0) -> None:
    """Ticks 0, 1, 2 and so on, so far apart."""
    for t in range(count):
        room.tell(t, run=run, size=size)
        room.advance(every - 0.1)


def replay(room: Room, kind: str, *pairs: tuple[str, str]) -> Client:
    client = Client(room, kind, [("from_t", "a:-1"), *({"speed": "1"} | dict(pairs)).items()])
    room.settle()
    return client


def arrivals(room: Room, client: Client, seconds: float) -> list[float]:
    """When the ticks came that came in so many seconds, from now on."""
    begun, found, known = room.clock.now, list[float](), len(client.numbers)
    while room.clock.now - begun < seconds - STEP / 2:
        room.advance(STEP)
        count = len(client.numbers) - known
        known += count
        found += [room.clock.now - begun] * count
    return found


def block(room: Room, client: Client) -> None:
    """It stops reading, and the next thing that it is written fills its buffer."""
    client.wire.stalled, client.wire.high = True, 0
    while not client.session.state.blocked:
        room.advance(STEP)


def read_on(room: Room, client: Client) -> None:
    client.wire.high = HIGH_WATER
    client.wire.read_on()
    room.settle()


def halts(room: Room, seconds: float) -> None:
    """The gateway's process stands still."""
    room.clock.now += seconds


# ---- pause and resume ----


def test_a_pause_leaves_what_was_left_of_a_tick_s_time(room: Room) -> None:
    publish(room, 10)
    client = replay(room, "ws")
    assert arrivals(room, client, 2.4) == pytest.approx([1, 2], abs=0.06)
    client.command("pause")
    assert arrivals(room, client, 30) == []
    client.command("resume")
    assert arrivals(room, client, 3) == pytest.approx([0.6, 1.6, 2.6], abs=0.06)


def test_a_resume_without_a_pause_changes_nothing(room: Room) -> None:
    publish(room, 10)
    client = replay(room, "ws")
    for _ in range(23):
        client.command("resume")
        arrivals(room, client, 0.1)
    assert client.numbers == [0, 1, 2]
    assert arrivals(room, client, 3) == pytest.approx([0.7, 1.7, 2.7], abs=0.06)


def test_many_short_pauses_add_up(room: Room) -> None:
    publish(room, 10)
    client = replay(room, "ws")
    for _ in range(10):
        arrivals(room, client, 0.3)
        client.command("pause")
        arrivals(room, client, 1.0)
        client.command("resume")
    assert client.numbers == [0, 1, 2] or client.numbers == [0, 1, 2, 3], "3 s of 13 were its own"


def test_another_view_keeps_the_pace(room: Room) -> None:
    publish(room, 10)
    client = replay(room, "ws")
    arrivals(room, client, 1.5)
    client.see_as([("fields", "u")])
    assert arrivals(room, client, 2) == pytest.approx([0.5, 1.5], abs=0.06)


# ---- halts ----


@kinds
def test_a_gateway_that_stood_still_makes_up_for_nothing(room: Room, kind: str) -> None:
    publish(room, 40)
    client = replay(room, kind)
    assert len(arrivals(room, client, 2.5)) == 2
    halts(room, 30)
    assert arrivals(room, client, 3.5) == pytest.approx([0, 1, 2, 3], abs=0.12)


@kinds
def test_a_reader_that_did_not_read_gets_no_burst(room: Room, kind: str) -> None:
    publish(room, 40, size=600)
    client = replay(room, kind)
    arrivals(room, client, 2.5)
    block(room, client)
    room.advance(8)
    known = len(client.numbers)
    read_on(room, client)
    buffered = len(client.numbers) - known
    assert buffered <= 2, "what lay in its buffer"
    found = arrivals(room, client, 5.5)
    assert [later - one for one, later in pairwise(found)] == pytest.approx([1] * 4, abs=0.12)
    assert client.numbers == list(range(known + buffered + 5))


def test_a_disk_that_was_slow_is_not_made_up_for() -> None:
    limits = Limits(block_bytes=200, level=1, fsync="never")
    room = Room(ring=2, disk=Disk(limits, [0], cache_bytes=1))
    try:
        publish(room, 30)
        assert room.disk is not None
        client = replay(room, "sse")
        arrivals(room, client, 2.5)
        room.disk.read_seconds = 20.0
        known = len(client.numbers)
        while len(client.numbers) < known + 4:  # through what it holds, and into what it has to wait for
            room.advance(STEP)
        room.disk.read_seconds = 0.0
        found = arrivals(room, client, 8)
        assert max(found.count(one) for one in found) == 1, "one after the other"
    finally:
        room.close()


def test_a_busy_loop_keeps_the_average_pace() -> None:
    room = Room(ring=1000)
    try:
        for t in range(600):
            room.publish(t, run="a")
            room.clock.now += 0.01
        room.settle()
        client = replay(room, "ndjson")
        begun = room.clock.now
        while room.clock.now - begun < 5:
            halts(room, 0.045)
            room.advance(0.001)
        assert len(client.numbers) == pytest.approx(500, abs=10)
    finally:
        room.close()


def test_the_pace_of_a_replay_that_is_faster_than_the_gateway(room: Room) -> None:
    publish(room, 50)
    client = replay(room, "ndjson", ("speed", "1000000"))
    room.advance(0.1)
    assert client.numbers == list(range(50)) and client.session.state.live


# ---- lag=skip ----


@kinds
def test_a_replay_that_skips_goes_to_the_newest_tick_that_is_due(room: Room, kind: str) -> None:
    publish(room, 60, size=600)
    client = replay(room, kind, ("lag", "skip"))
    begun = room.clock.now
    arrivals(room, client, 2.5)
    block(room, client)
    room.advance(20)
    read_on(room, client)
    due = int(room.clock.now - begun + 0.1)
    assert client.numbers[-1] in (due - 1, due)
    (gap,) = [body for body in client._bodies if body.get("notice") == "gap"]
    assert (gap["after"], gap["next"]) == (client.numbers[-2], client.numbers[-1])
    assert len(arrivals(room, client, 5)) == 5, "and on at its pace"
    assert client.numbers[-1] < 40 and not client.session.state.live, "not at the tip"


def test_a_replay_that_skips_counts_what_its_view_shows(room: Room) -> None:
    publish(room, 60, size=600)
    client = replay(room, "sse", ("lag", "skip"), ("every", "5"))
    block(room, client)
    room.advance(28.5)
    read_on(room, client)
    assert all(t % 5 == 0 for t in client.numbers)
    gaps = [body for body in client._bodies if body.get("notice") == "gap"]
    assert [gap["next"] for gap in gaps] == [client.numbers[-1]] and client.numbers[-1] >= 25


def test_a_replay_that_skips_over_a_change_of_run() -> None:
    room = Room(ring=1000)
    try:
        publish(room, 10, size=600, run="a")
        client = replay(room, "ndjson", ("lag", "skip"), ("heartbeat", "60"))
        block(room, client)
        publish(room, 30, size=600, run="b")
        read_on(room, client)
        notices = [body for body in client._bodies if "notice" in body]
        assert notices == [{"notice": "reset", "run": "b", "old": "a", "complete": False}]
        assert client.numbers[-1] in (21, 22), "10 s were for the other run"
        assert len(arrivals(room, client, 4.2)) == 4
    finally:
        room.close()


def test_a_replay_that_skips_to_its_end(room: Room) -> None:
    publish(room, 20, size=600, run="a")
    room.tell(0, run="b")
    client = replay(room, "ws", ("lag", "skip"), ("run", "a"))
    block(room, client)
    room.advance(40)
    read_on(room, client)
    room.advance(1)
    assert client.numbers[-1] == 19 and client.notices == ["gap", "end"]


def test_a_replay_that_skips_on_a_slow_disk_ends_where_it_stands() -> None:
    """While it looks for where to go on, it stands where it stood."""
    limits = Limits(block_bytes=700, level=1, fsync="never")
    room = Room(ring=2, disk=Disk(limits, [0], cache_bytes=1))
    try:
        publish(room, 40, size=600)
        assert room.disk is not None
        client = replay(room, "sse", ("lag", "skip"))
        arrivals(room, client, 1.5)
        block(room, client)
        room.advance(20)
        room.disk.read_seconds = 3.0
        read_on(room, client)
        room.advance(4)
        assert client.session.skip is not None
        stands = client.numbers[-1]
        assert client.session.position is not None and client.session.position.t == stands
        room.drain()
        (end,) = [body for body in client._bodies if body.get("notice") == "end"]
        assert end["position"] == f"a:{stands}"
    finally:
        room.close()


# ---- the clock ----


def spans(ats: list[int]) -> list[Item | End]:
    run = Run("a", 0, 0, 0)
    return [Span(Batch(run, [PublishedTick(t, b"", at)], 0, False), 0, 1) for t, at in enumerate(ats)]


@given(
    gaps=st.lists(st.integers(0, 3000), min_size=1, max_size=20),
    waits=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=60),
    speed=st.sampled_from([0.5, 1.0, 7.0]),
)
def test_no_tick_comes_early_and_no_halt_is_made_up_for(gaps: list[int], waits: list[float], speed: float) -> None:
    """Whenever it is asked: between two ticks lies no less than their distance less the slack."""
    ats = [sum(gaps[:index]) for index in range(len(gaps))]
    rest, now, came = spans(ats), 100.0, list[float]()
    pace = Pace(speed, now)
    for wait in waits:
        taken, due = pace.take(rest, now)
        came += [now] * len(taken)
        rest = rest[len(taken) :]
        assert (due is None) == (not rest) and (due is None or due > now)
        now += wait
    for index, time in enumerate(came):
        for later in range(index + 1, len(came)):
            assert came[later] - time >= (ats[later] - ats[index]) / 1000 / speed - 0.1001

"""Readers that stop reading: with lag=wait they get every tick late, with lag=skip a gap and then the newest."""

from __future__ import annotations

import asyncio

import pytest

from ..support.events import Gap, Reset, notices
from ..support.house import House
from ..support.raw import Closed, WebSocket
from .conftest import OpenHouse

SIZE = 20_000  # bytes of a tick: a few fill what lies between the gateway and a reader that has stalled


async def _stall(house: House, begin: int) -> int:
    """Publish until every reader's way is full; returns the next t. Nobody reads meanwhile."""
    t = begin
    while not all(session.blocked for session in house.sessions):
        await house.publish_all([t], size=SIZE)
        t += 1
        assert t < begin + 200, "the gateway goes on writing to a reader that does not read"
    return t


async def _live(house: House, count: int = 1) -> None:
    await house.until(lambda: sum(session.live for session in house.sessions) == count)


async def test_a_reader_that_waits_gets_every_tick_late(open_house: OpenHouse, stream: str) -> None:
    house = await open_house(small=True)
    await house.publish_all([0])
    reader = await house.read(stream, from_t="A:-1")
    events = await reader.until(0)
    await _live(house)
    t = await _stall(house, 1)
    await house.publish_all(range(t, t + 500))
    events += await reader.until(t + 499)
    house.publish([t + 500])
    events += await reader.until(t + 500)
    house.ledger.check(events, after=("A", -1))
    assert not notices(events)


async def test_a_pull_that_comes_late_gets_every_tick(house: House, pull: str) -> None:
    await house.publish_all(range(5))
    reader = await house.read(pull, from_t="A:-1")
    events = await reader.until(4)
    await house.publish_all(range(5, 500))
    events += await reader.until(499)
    house.ledger.check(events, after=("A", -1))
    assert not notices(events)


async def test_a_reader_that_waits_too_long_gets_a_gap(open_house: OpenHouse, flavour: str) -> None:
    house = await open_house(small=True, ring=50)
    await house.publish_all([0])
    reader = await house.read(flavour, from_t="A:-1")
    events = await reader.until(0)
    t = 1
    if reader.kind == "stream":
        await _live(house)
        t = await _stall(house, 1)
    await house.publish_all(range(t, t + 200))
    events += await reader.until(t + 199)
    house.ledger.check(events, after=("A", -1))
    (gap,) = notices(events)
    assert isinstance(gap, Gap)
    assert gap.next == t + 150, "it ends where memory begins"


async def test_a_reader_that_skips_goes_on_at_the_newest(open_house: OpenHouse, stream: str) -> None:
    house = await open_house(small=True)
    await house.publish_all([0])
    reader = await house.read(stream, from_t="A:-1", lag="skip")
    events = await reader.until(0)
    await _live(house)
    t = await _stall(house, 1)
    await house.publish_all(range(t, t + 50), size=SIZE)
    events += await reader.until(t + 49)
    (gap,) = notices(events)
    assert isinstance(gap, Gap)
    assert gap.next == t + 49, "the gap ends at the newest tick"
    assert gap.after < t
    house.publish(range(t + 50, t + 60))
    events += await reader.until(t + 59)
    house.ledger.check(events, after=("A", -1))
    assert len(notices(events)) == 1


async def test_a_reader_that_skips_counts_what_its_view_shows(open_house: OpenHouse, stream: str) -> None:
    house = await open_house(small=True)
    await house.publish_all([0])
    reader = await house.read(stream, from_t="A:-1", lag="skip", every=2)
    events = await reader.until(0)
    await _live(house)
    t = await _stall(house, 1)
    t += t % 2
    await house.publish_all(range(t, t + 52), size=SIZE)
    events += await reader.until(t + 50)
    house.ledger.check(events, after=("A", -1), every=2)
    assert [event.next for event in notices(events) if isinstance(event, Gap)] == [t + 50]


async def test_a_reader_that_skips_over_a_change_of_run(open_house: OpenHouse, stream: str) -> None:
    house = await open_house(small=True)
    await house.publish_all([0], "A")
    reader = await house.read(stream, from_t="A:-1", lag="skip")
    events = await reader.until(0)
    await _live(house)
    t = await _stall(house, 1)
    await house.publish_all(range(t, t + 10), "A", size=SIZE)
    await house.publish_all(range(10), "B", size=SIZE)
    await house.publish_all(range(10), "C")
    events += await reader.until(9, "C")
    assert notices(events) == [Reset("C", "A", False)]
    house.publish([10], "C")
    events += await reader.until(10, "C")
    house.ledger.check(events, after=("A", -1), skip=True)


async def test_readers_that_have_stalled_delay_nobody(open_house: OpenHouse, stream: str) -> None:
    house = await open_house(small=True)
    await house.publish_all([0])
    stalled = [await house.read(stream, tail=0, lag=lag) for lag in ("wait", "skip")]
    await _live(house, 2)
    t = await _stall(house, 1)
    reader = await house.read(stream, from_t="A:-1")
    events = await reader.until(t - 1)
    for later in range(t, t + 20):
        await house.publish_all([later])
        events += await reader.until(later)
    house.ledger.check(events, after=("A", -1))
    for other in stalled:
        house.ledger.check(await other.until(t + 19), after=("A", 0))


async def test_a_reader_that_stalls_while_it_catches_up(open_house: OpenHouse, stream: str) -> None:
    house = await open_house(small=True)
    await house.publish_all(range(100), size=SIZE)
    reader = await house.read(stream, from_t="A:-1")
    await house.until(lambda: bool(house.sessions))
    await _stall(house, 100)
    house.publish(range(300, 310))
    house.ledger.check(await reader.until(309), after=("A", -1))


async def test_a_reader_that_stalls_again_and_again(open_house: OpenHouse, stream: str) -> None:
    house = await open_house(small=True)
    await house.publish_all([0])
    reader = await house.read(stream, from_t="A:-1")
    events = await reader.until(0)
    t = 1
    for _ in range(5):
        await _live(house)
        t = await _stall(house, t)
        events += await reader.until(t - 1)
    house.ledger.check(events, after=("A", -1))


async def test_a_reader_that_comes_back_from_a_stall(open_house: OpenHouse, stream: str) -> None:
    """It has read less than was written to it: it goes on where it stands, not where the gateway stood."""
    house = await open_house(small=True)
    await house.publish_all([0])
    reader = await house.read(stream, from_t="A:-1")
    events = await reader.until(0)
    await _live(house)
    t = await _stall(house, 1)
    await reader.again()
    events += await reader.until(t - 1)
    house.ledger.check(events, after=("A", -1))


# ---- the WebSocket client that gave no parameter ----


class Bare:
    """What the original design's client sees: messages, and how it ends."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.texts: list[str] = []

    @classmethod
    async def connect(cls, house: House) -> Bare:
        return cls(await WebSocket.connect(house.port, "/ws/stream", small=True))

    async def read(self, count: int) -> list[str]:
        async with asyncio.timeout(30):
            for _ in range(count):
                self.texts.append(await self.socket.message())
        return self.texts

    async def rest(self) -> Closed:
        async with asyncio.timeout(30):
            while True:
                try:
                    self.texts.append(await self.socket.message())
                except Closed as closed:
                    return closed


async def test_a_bare_client_gets_ticks_and_nothing_else(open_house: OpenHouse) -> None:
    """A change of run shows as t falling, and a shutdown as the close alone."""
    house = await open_house()
    await house.publish_all(range(5), "A")
    bare = await Bare.connect(house)
    await house.publish_all(range(5, 8), "A")
    await house.publish_all(range(3), "B")
    expected = [("A", 4), ("A", 5), ("A", 6), ("A", 7), ("B", 0), ("B", 1), ("B", 2)]
    assert await bare.read(7) == [house.ledger.runs[run][t].decode() for run, t in expected]
    closed = await house.stop_while(bare.rest())
    assert len(bare.texts) == 7
    assert closed.code == 1001
    assert "B:2" in closed.reason


async def test_a_gap_closes_a_bare_client(open_house: OpenHouse) -> None:
    run = "r" * 64
    house = await open_house(small=True, ring=50)
    await house.publish_all([0], run)
    bare = await Bare.connect(house)
    await bare.read(1)
    await _live(house)
    t = 1
    while not all(session.blocked for session in house.sessions):
        await house.publish_all([t], run, size=SIZE)
        t += 1
    await house.publish_all(range(t, t + 100), run)
    closed = await bare.rest()
    assert closed.code == 4001
    assert f"{run}:{len(bare.texts) - 1}" in closed.reason, "the position, to come back with"
    assert len(closed.reason.encode()) <= 123
    reader = await house.read("websocket", from_t=f"{run}:{len(bare.texts) - 1}")
    events = await reader.until(t + 99)
    house.ledger.check(events, after=(run, len(bare.texts) - 1))
    assert [type(event) for event in notices(events)] == [Gap]


async def test_a_lost_end_of_a_run_closes_a_bare_client(open_house: OpenHouse) -> None:
    house = await open_house(inbox=5)
    await house.publish_all([0], "A")
    bare = await Bare.connect(house)
    await bare.read(1)
    house.drop(range(1, 10), "A")
    await house.settle()
    house.publish([0], "B")
    closed = await bare.rest()
    assert (closed.code, len(bare.texts)) == (4001, 6)
    assert "A:5" in closed.reason


@pytest.mark.parametrize("parameter", ["hello=0", "lag=wait", "tail=1"])
async def test_any_parameter_makes_a_client_that_knows_of_notices(house: House, parameter: str) -> None:
    await house.publish_all([0], "A")
    socket = await WebSocket.connect(house.port, f"/ws/stream?{parameter}")
    house.publish([0], "B")
    texts = [await asyncio.wait_for(socket.message(), 30) for _ in range(3)]
    assert texts[1] == '{"notice":"reset","run":"B","old":"A","complete":true}'

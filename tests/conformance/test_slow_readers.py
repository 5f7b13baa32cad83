"""Readers that stop reading: with lag=wait they get every tick late, with lag=skip a gap and then the newest."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.harness import OpenHarness

from ..support.async_client import Closed, WebSocket
from ..support.events import Gap, Reset, notices
from ..support.harness import Harness

SIZE = 20_000  # bytes of a tick: a few fill what lies between the gateway and a reader that has stalled


async def _stall(harness: Harness, begin: int) -> int:
    """Publish until every reader's way is full; returns the next t. Nobody reads meanwhile."""
    t = begin
    while not all(session.state.blocked for session in harness.sessions):
        await harness.publish_all([t], size=SIZE)
        t += 1
        assert t < begin + 200, "the gateway goes on writing to a reader that does not read"
    return t


async def _live(harness: Harness, count: int = 1) -> None:
    await harness.until(lambda: sum(session.state.live for session in harness.sessions) == count)


async def test_a_reader_that_waits_gets_every_tick_late(open_harness: OpenHarness, stream: str) -> None:
    harness = await open_harness(small=True)
    await harness.publish_all([0])
    reader = await harness.read(stream, from_t="A:-1")
    events = await reader.until(0)
    await _live(harness)
    t = await _stall(harness, 1)
    await harness.publish_all(range(t, t + 500))
    events += await reader.until(t + 499)
    harness.publish([t + 500])
    events += await reader.until(t + 500)
    harness.ledger.check(events, after=("A", -1))
    assert not notices(events)


async def test_a_pull_that_comes_late_gets_every_tick(harness: Harness, pull: str) -> None:
    await harness.publish_all(range(5))
    reader = await harness.read(pull, from_t="A:-1")
    events = await reader.until(4)
    await harness.publish_all(range(5, 500))
    events += await reader.until(499)
    harness.ledger.check(events, after=("A", -1))
    assert not notices(events)


async def test_a_reader_that_waits_too_long_gets_a_gap(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(small=True, ring=50)
    await harness.publish_all([0])
    reader = await harness.read(flavour, from_t="A:-1")
    events = await reader.until(0)
    t = 1
    if reader.kind == "stream":
        await _live(harness)
        t = await _stall(harness, 1)
    await harness.publish_all(range(t, t + 200))
    events += await reader.until(t + 199)
    harness.ledger.check(events, after=("A", -1))
    (gap,) = notices(events)
    assert isinstance(gap, Gap)
    assert gap.next == t + 150, "it ends where memory begins"


async def test_a_reader_that_skips_goes_on_at_the_newest(open_harness: OpenHarness, stream: str) -> None:
    harness = await open_harness(small=True)
    await harness.publish_all([0])
    reader = await harness.read(stream, from_t="A:-1", lag="skip")
    events = await reader.until(0)
    await _live(harness)
    t = await _stall(harness, 1)
    await harness.publish_all(range(t, t + 50), size=SIZE)
    events += await reader.until(t + 49)
    (gap,) = notices(events)
    assert isinstance(gap, Gap)
    assert gap.next == t + 49, "the gap ends at the newest tick"
    assert gap.after < t
    harness.publish(range(t + 50, t + 60))
    events += await reader.until(t + 59)
    harness.ledger.check(events, after=("A", -1))
    assert len(notices(events)) == 1


async def test_a_reader_that_skips_counts_what_its_view_shows(open_harness: OpenHarness, stream: str) -> None:
    harness = await open_harness(small=True)
    await harness.publish_all([0])
    reader = await harness.read(stream, from_t="A:-1", lag="skip", every=2)
    events = await reader.until(0)
    await _live(harness)
    t = await _stall(harness, 1)
    t += t % 2
    await harness.publish_all(range(t, t + 52), size=SIZE)
    events += await reader.until(t + 50)
    harness.ledger.check(events, after=("A", -1), every=2)
    assert [event.next for event in notices(events) if isinstance(event, Gap)] == [t + 50]


async def test_a_reader_that_skips_over_a_change_of_run(open_harness: OpenHarness, stream: str) -> None:
    harness = await open_harness(small=True)
    await harness.publish_all([0], "A")
    reader = await harness.read(stream, from_t="A:-1", lag="skip")
    events = await reader.until(0)
    await _live(harness)
    t = await _stall(harness, 1)
    await harness.publish_all(range(t, t + 10), "A", size=SIZE)
    await harness.publish_all(range(10), "B", size=SIZE)
    await harness.publish_all(range(10), "C")
    events += await reader.until(9, "C")
    assert notices(events) == [Reset("C", "A", False)]
    harness.publish([10], "C")
    events += await reader.until(10, "C")
    harness.ledger.check(events, after=("A", -1), skip=True)


async def test_readers_that_have_stalled_delay_nobody(open_harness: OpenHarness, stream: str) -> None:
    harness = await open_harness(small=True)
    await harness.publish_all([0])
    stalled = [await harness.read(stream, tail=0, lag=lag) for lag in ("wait", "skip")]
    await _live(harness, 2)
    t = await _stall(harness, 1)
    reader = await harness.read(stream, from_t="A:-1")
    events = await reader.until(t - 1)
    for later in range(t, t + 20):
        await harness.publish_all([later])
        events += await reader.until(later)
    harness.ledger.check(events, after=("A", -1))
    for other in stalled:
        harness.ledger.check(await other.until(t + 19), after=("A", 0))


async def test_a_reader_that_stalls_while_it_catches_up(open_harness: OpenHarness, stream: str) -> None:
    harness = await open_harness(small=True)
    await harness.publish_all(range(100), size=SIZE)
    reader = await harness.read(stream, from_t="A:-1")
    await harness.until(lambda: bool(harness.sessions))
    await _stall(harness, 100)
    harness.publish(range(300, 310))
    harness.ledger.check(await reader.until(309), after=("A", -1))


async def test_a_reader_that_stalls_again_and_again(open_harness: OpenHarness, stream: str) -> None:
    harness = await open_harness(small=True)
    await harness.publish_all([0])
    reader = await harness.read(stream, from_t="A:-1")
    events = await reader.until(0)
    t = 1
    for _ in range(5):
        await _live(harness)
        t = await _stall(harness, t)
        events += await reader.until(t - 1)
    harness.ledger.check(events, after=("A", -1))


async def test_a_reader_that_comes_back_from_a_stall(open_harness: OpenHarness, stream: str) -> None:
    """It has read less than was written to it: it goes on where it stands, not where the gateway stood."""
    harness = await open_harness(small=True)
    await harness.publish_all([0])
    reader = await harness.read(stream, from_t="A:-1")
    events = await reader.until(0)
    await _live(harness)
    t = await _stall(harness, 1)
    await reader.again()
    events += await reader.until(t - 1)
    harness.ledger.check(events, after=("A", -1))


# ---- the WebSocket client that gave no parameter ----


class Bare:
    """What the original design's client sees: messages, and how it ends."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.texts: list[str] = []

    @classmethod
    async def connect(cls, harness: Harness) -> Bare:
        return cls(await WebSocket.connect(harness.port, "/ws/stream", small=True))

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


async def test_a_bare_client_gets_ticks_and_nothing_else(open_harness: OpenHarness) -> None:
    """A change of run shows as t falling, and a shutdown as the close alone."""
    harness = await open_harness()
    await harness.publish_all(range(5), "A")
    bare = await Bare.connect(harness)
    await harness.publish_all(range(5, 8), "A")
    await harness.publish_all(range(3), "B")
    expected = [("A", 4), ("A", 5), ("A", 6), ("A", 7), ("B", 0), ("B", 1), ("B", 2)]
    assert await bare.read(7) == [harness.ledger.runs[run][t].decode() for run, t in expected]
    closed = await harness.stop_while(bare.rest())
    assert len(bare.texts) == 7
    assert closed.code == 1001
    assert "B:2" in closed.reason


async def test_a_gap_closes_a_bare_client(open_harness: OpenHarness) -> None:
    run = "r" * 64
    harness = await open_harness(small=True, ring=50)
    await harness.publish_all([0], run)
    bare = await Bare.connect(harness)
    await bare.read(1)
    await _live(harness)
    t = 1
    while not all(session.state.blocked for session in harness.sessions):
        await harness.publish_all([t], run, size=SIZE)
        t += 1
    await harness.publish_all(range(t, t + 100), run)
    closed = await bare.rest()
    assert closed.code == 4001
    assert f"{run}:{len(bare.texts) - 1}" in closed.reason, "the position, to come back with"
    assert len(closed.reason.encode()) <= 123
    reader = await harness.read("websocket", from_t=f"{run}:{len(bare.texts) - 1}")
    events = await reader.until(t + 99)
    harness.ledger.check(events, after=(run, len(bare.texts) - 1))
    assert [type(event) for event in notices(events)] == [Gap]


async def test_a_lost_end_of_a_run_closes_a_bare_client(open_harness: OpenHarness) -> None:
    harness = await open_harness(inbox=5)
    await harness.publish_all([0], "A")
    bare = await Bare.connect(harness)
    await bare.read(1)
    harness.drop(range(1, 10), "A")
    await harness.settle()
    harness.publish([0], "B")
    closed = await bare.rest()
    assert (closed.code, len(bare.texts)) == (4001, 6)
    assert "A:5" in closed.reason


@pytest.mark.parametrize("parameter", ["hello=0", "lag=wait", "tail=1"])
async def test_any_parameter_makes_a_client_that_knows_of_notices(harness: Harness, parameter: str) -> None:
    await harness.publish_all([0], "A")
    socket = await WebSocket.connect(harness.port, f"/ws/stream?{parameter}")
    harness.publish([0], "B")
    texts = [await asyncio.wait_for(socket.message(), 30) for _ in range(3)]
    assert texts[1] == '{"notice":"reset","run":"B","old":"A","complete":true}'

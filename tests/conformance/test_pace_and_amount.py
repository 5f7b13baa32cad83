"""How much, how fast, and what beside the ticks: limit, backlog, speed, hello, event, heartbeat."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.harness import Clock, OpenHarness

from ..support.async_client import Closed, WebSocket
from ..support.events import End, Gap, Hello, Reset, Tick, notices, only_reset, ticks
from ..support.frames import PING
from ..support.harness import Harness
from ..support.readers.base import PATIENCE, Reader
from ..support.readers.registry import FLAVOURS
from ..support.readers.streams import SSEReader, WebSocketReader

# ---- limit ----


async def test_limit_ends_a_stream_after_so_many_ticks(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(50))
    reader = await harness.read(stream, from_t="A:9", limit=7)
    events = await reader.rest()
    harness.ledger.check(events, after=("A", 9), upto=("A", 16))
    assert [event for event in events if isinstance(event, End)] == [End("limit", "A:16")]
    assert reader.ended, "the connection was closed in its proper way"


async def test_limit_counts_the_live_ticks_too(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(3))
    reader = await harness.read(stream, from_t="A:-1", limit=6)
    events = await reader.until(2)
    harness.publish(range(3, 20))
    events += await reader.rest()
    harness.ledger.check(events, after=("A", -1), upto=("A", 5))
    assert events[-1] == End("limit", "A:5")


async def test_limit_counts_across_runs(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(3), "A")
    await harness.publish_all(range(3), "B")
    events = await (await harness.read(stream, from_t="A:0", limit=3)).rest()
    harness.ledger.check(events, after=("A", 0), upto=("B", 0))
    assert events[-1] == End("limit", "B:0")


async def test_limit_counts_what_the_view_shows(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(1, 50))
    events = await (await harness.read(stream, from_t="A:9", limit=3, every=5)).rest()
    assert ticks(events) == [10, 15, 20]
    assert events[-1] == End("limit", "A:20")


async def test_limit_is_the_most_that_a_pull_holds(harness: Harness, pull: str) -> None:
    await harness.publish_all(range(50))
    reader = await harness.read(pull, from_t="A:9", limit=7)
    events = await reader.take(7)
    assert reader.position == "A:16"
    events += await reader.until(49)
    harness.ledger.check(events, after=("A", 9))


# ---- backlog ----


async def test_what_is_older_than_the_backlog_is_a_gap(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(50))
    reader = await harness.read(flavour, from_t="A:9", backlog=5, limit=5)
    events = await reader.until(49)
    harness.ledger.check(events, after=("A", 9), upto=("A", 49))
    assert notices(events)[0] == Gap("A", 9, 45)
    assert ticks(events) == [45, 46, 47, 48, 49]


async def test_a_backlog_longer_than_the_past_is_no_gap(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(50))
    events = await (await harness.read(flavour, from_t="A:40", backlog=9)).until(49)
    harness.ledger.check(events, after=("A", 40))
    assert not notices(events)


async def test_backlog_0_is_only_what_is_new(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(50))
    reader = await harness.read(stream, from_t="A:9", backlog=0)
    harness.publish([50])
    events = await reader.until(50)
    harness.ledger.check(events, after=("A", 9))
    assert notices(events) == [Gap("A", 9, 50)]


async def test_backlog_across_runs(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(10), "A")
    await harness.publish_all(range(10), "B")
    events = await (await harness.read(flavour, from_t="A:3", backlog=2)).until(9, "B")
    harness.ledger.check(events, after=("A", 3))
    assert [event for event in events if isinstance(event, Gap)] == [Gap("A", 3, None), Gap("B", -1, 8)]
    assert ticks(events) == [8, 9]


async def test_backlog_counts_what_the_view_shows(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(1, 48))
    events = await (await harness.read(flavour, from_t="A:3", backlog=2, every=10)).until(40)
    harness.ledger.check(events, after=("A", 3), every=10)
    assert ticks(events) == [30, 40]


async def test_backlog_of_an_unknown_run(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(50))
    events = await (await harness.read(flavour, from_t="Z:3", backlog=2)).until(49)
    harness.ledger.check(events, after=("Z", 3))
    assert any(isinstance(event, Reset) for event in events)
    assert ticks(events) == [48, 49]


# ---- speed ----


async def _an_hour_each(harness: Harness, clock: Clock, count: int) -> None:
    for t in range(count):
        harness.publish([t])
        clock.ms += 3_600_000
    await harness.settle()


async def test_without_speed_the_past_comes_as_fast_as_it_is_read(harness: Harness, flavour: str, clock: Clock) -> None:
    await _an_hour_each(harness, clock, 5)
    events = await (await harness.read(flavour, from_t="A:-1")).until(4)
    harness.ledger.check(events, after=("A", -1))


async def test_speed_replays_the_past_at_a_multiple_of_its_pace(harness: Harness, stream: str, clock: Clock) -> None:
    await _an_hour_each(harness, clock, 5)
    began = time.monotonic()
    reader = await harness.read(stream, from_t="A:-1", speed=36_000)  # a tick in a tenth of a second
    events = await reader.until(4)
    assert time.monotonic() - began >= 0.4
    harness.publish([5])
    harness.ledger.check(events + await reader.until(5), after=("A", -1))


async def test_speed_holds_what_is_not_due(harness: Harness, stream: str, clock: Clock) -> None:
    await _an_hour_each(harness, clock, 3)
    reader = await harness.read(stream, from_t="A:-1", speed=1)
    events = await reader.until(0)
    harness.publish([3])
    await harness.settle()
    events += await harness.shut(reader)
    assert ticks(events) == [0], "tick 1 is due in an hour"
    assert events[-1] == End("shutdown", "A:0")


async def test_the_pause_between_two_runs_is_not_replayed(harness: Harness, stream: str, clock: Clock) -> None:
    await harness.publish_all([0], "A")
    clock.ms += 3_600_000
    await harness.publish_all([0], "B")
    events = await (await harness.read(stream, from_t="A:-1", speed=1)).until(0, "B")
    harness.ledger.check(events, after=("A", -1))


async def test_speed_means_nothing_to_a_pull(harness: Harness, pull: str, clock: Clock) -> None:
    await _an_hour_each(harness, clock, 3)
    assert ticks(await (await harness.read(pull, from_t="A:-1", speed=1)).until(2)) == [0, 1, 2]


# ---- hello ----


@pytest.mark.parametrize("start", [{}, {"tail": 0}, {"from_t": "A:30"}, {"from_t": "A:3"}])
async def test_hello_comes_first(open_harness: OpenHarness, stream: str, start: dict[str, object]) -> None:
    harness = await open_harness(ring=20)
    await harness.publish_all(range(50))
    reader = await harness.read(stream, hello=1, **start)
    assert await reader.next() == Hello("A", 30, 49)
    harness.publish([50])
    assert ticks(await reader.until(50))[-1] == 50


async def test_hello_names_the_run_of_the_ticks_that_follow(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(10), "A")
    await harness.publish_all(range(20), "B")
    reader = await harness.read(stream, hello=1, from_t="A:3")
    assert await reader.next() == Hello("A", 0, 9)
    reader = await harness.read(stream, hello=1, from_t="Z:3")
    assert await reader.next() == Hello("B", 0, 19)


async def test_no_hello_where_none_was_asked_for(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(10))
    events = await (await harness.read(flavour, hello=0, tail=3)).until(9)
    assert not any(isinstance(event, Hello) for event in events)


async def test_hello_means_nothing_to_a_pull(harness: Harness, pull: str) -> None:
    await harness.publish_all(range(10))
    events = await (await harness.read(pull, hello=1, tail=3)).until(9)
    assert ticks(events) == [7, 8, 9]


# ---- event ----


async def test_event_names_the_ticks_of_server_sent_events_alone(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(10), "A")
    await harness.publish_all(range(10), "B")
    reader = await harness.read(flavour, from_t="A:3", event="a_Tick-1")  # the SSE reader checks the names
    events = await reader.until(9, "B")
    harness.ledger.check(events, after=("A", 3))


# ---- heartbeat ----


async def _beat(reader: Reader) -> None:
    """Wait for a sign of life on a stream on which nothing else comes."""
    assert reader.response is not None
    async with asyncio.timeout(PATIENCE):
        if isinstance(reader, WebSocketReader):
            frame = await reader.socket.frame()
            assert (frame.opcode, frame.payload) == (PING, b"")
            reader.socket.send(b"", 0xA)
            return
        expected = b":" if isinstance(reader, SSEReader) else b""
        async for line in reader.response.lines():
            if line.startswith(b"retry:"):
                continue
            assert line == expected
            return
        raise AssertionError("the stream ended")


async def test_heartbeats(harness: Harness, clock: Clock) -> None:
    """On every quiet stream, whatever it waits for: live, on an empty bus, beyond the tip, for its limit, its pace."""
    harness.set_flush_policy(sweep_interval=0.05)
    names = [name for name, kind in FLAVOURS.items() if kind.kind == "stream" and name != "websocket-browser"]
    waits = [await harness.read(name, heartbeat=1, from_t="A:5") for name in names]  # an empty bus
    await asyncio.gather(*map(_beat, waits))
    for reader in waits:
        reader.close()
    await _an_hour_each(harness, clock, 2)
    parameters: list[dict[str, object]] = [
        {"tail": 0},
        {"from_t": "A:5"},
        {"tail": 0, "limit": 5},
        {"tail": 0, "batch": 5},
        {"tail": 0, "run": "A"},
    ]
    quiet = [await harness.read(name, heartbeat=1, **more) for name in names for more in parameters]
    plain = [name for name in names if not getattr(FLAVOURS[name], "coding", "")]
    paced = [await harness.read(name, heartbeat=1, from_t="A:-1", speed=1) for name in plain]
    for reader in paced:
        await reader.until(0)
    await asyncio.gather(*map(_beat, quiet))
    await asyncio.gather(*(_beat_again(reader) for reader in paced))


async def _beat_again(reader: Reader) -> None:
    """A sign of life behind ticks: the reader's own iterator is at work on the connection."""
    assert reader.response is not None
    if isinstance(reader, WebSocketReader):
        await _beat(reader)
        return
    async with asyncio.timeout(PATIENCE):
        data = await reader.response.reader.readuntil(b"\n")
        while data.strip() not in (b"", b":"):
            data = await reader.response.reader.readuntil(b"\n")


async def test_a_websocket_that_answers_no_ping_is_dropped(harness: Harness) -> None:
    harness.set_flush_policy(sweep_interval=0.05)
    harness.set_patience(missed_beats=1)
    await harness.publish_all(range(3))
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0&heartbeat=1")
    with pytest.raises(Closed) as closed:
        async with asyncio.timeout(PATIENCE):
            while True:
                assert (await socket.frame()).opcode == PING
    assert closed.value.code is None


# ---- what is skipped at the start, together with a reset ----


async def test_a_backlog_holds_behind_a_reset_from_beyond_the_tip(harness: Harness, flavour: str) -> None:
    harness.wait_beyond_tip(0.05)
    await harness.publish_all(range(50))
    events = await (await harness.read(flavour, from_t="A:60", backlog=2, timeout=60)).until(49)
    assert ticks(events) == [48, 49]
    assert [(gap.after, gap.next) for gap in events if isinstance(gap, Gap)] == [(-1, 48)]


async def test_a_backlog_of_an_unknown_run_is_of_the_current_one(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(2), "B")
    events = await (await harness.read(flavour, from_t="gone:7", backlog=10)).until(1, "B")
    assert [(tick.run, tick.t) for tick in events if isinstance(tick, Tick)] == [("B", 0), ("B", 1)]
    assert not [event for event in events if isinstance(event, Gap)]


async def test_skip_from_beyond_the_end_of_an_older_run_is_one_reset(harness: Harness, flavour: str) -> None:
    for run in ("A", "B", "C"):
        await harness.publish_all(range(20), run)
    events = await (await harness.read(flavour, from_t="A:99", lag="skip")).until(19, "C")
    assert ticks(events) == [19]
    assert only_reset(events).run == "C"


async def test_skip_on_a_disk_that_is_cold_stays_at_the_newest(
    open_harness: OpenHarness, pull: str, tmp_path: Path
) -> None:
    """What an answer is told first is no place to go back to."""
    harness = await open_harness(data=str(tmp_path), ring=2, block_bytes=1024)
    await harness.publish_all(range(100))
    events = await (await harness.read(pull, from_t="gone:7", lag="skip", every=90)).until(90)
    assert ticks(events) == [90]


async def test_hello_and_header_name_the_run_that_is_read(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(9), "B")
    reader = await harness.read(stream, **{"Last-Event-ID": "nonsense", "run": "A", "hello": 1})
    events = await reader.rest()
    assert events[0] == Hello("A", 0, 4)
    assert reader.response is not None
    assert reader.response.headers["Tick-Run"] == "A"
    assert ticks(events) == list(range(5))

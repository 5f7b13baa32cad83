"""Where a reader begins: from the start, the middle, the tip, by tail, by time, by run."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.harness import Clock, OpenHarness

from ..support.async_client import Refused, WebSocket, request
from ..support.events import End, Gap, Hello, Reset, notices, ticks
from ..support.harness import Harness
from ..support.readers.registry import FLAVOURS

HOLES = range(0, 150, 3)  # t rises with holes, as where a publisher downsamples


@pytest.mark.parametrize("after", [-1, 0, 74, 75, 146, 147], ids=lambda after: f"from {after}")
async def test_after_a_position_every_tick_and_then_the_live_ones(harness: Harness, flavour: str, after: int) -> None:
    await harness.publish_all(HOLES)
    reader = await harness.read(flavour, from_t=f"A:{after}")
    harness.publish(range(150, 160))
    events = await reader.until(159)
    harness.ledger.check(events, after=("A", after))
    assert not notices(events), "a hole in t is no gap"
    assert reader.position == "A:159"


async def test_a_bare_t_is_of_the_current_run(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(20), "B")
    reader = await harness.read(flavour, from_t=7)
    events = await reader.until(19)
    harness.ledger.check(events, after=("B", 7))
    assert ticks(events) == list(range(8, 20))


async def test_coming_back_again_and_again(harness: Harness, flavour: str) -> None:
    """A client that comes back with its position misses nothing and gets nothing twice."""
    await harness.publish_all(range(10))
    reader = await harness.read(flavour, from_t="A:-1")
    events = await reader.take(4)
    for begin in (10, 20, 30):
        await reader.again()
        harness.publish(range(begin, begin + 10))
        events += await reader.take(4)
        await reader.again()
        events += await reader.take(4)
    await reader.again()
    events += await reader.until(39)
    harness.ledger.check(events, after=("A", -1))


async def test_without_a_starting_point_streams_begin_at_the_newest_tick(harness: Harness, stream: str) -> None:
    await harness.publish_all(HOLES)
    reader = await harness.read(stream)
    await harness.publish_all([150, 151])
    events = await reader.until(151)
    harness.ledger.check(events)
    assert ticks(events) == [147, 150, 151]


async def test_without_a_starting_point_pulls_begin_at_the_first_that_can_be_read(
    open_harness: OpenHarness, pull: str
) -> None:
    harness = await open_harness(ring=20)
    await harness.publish_all(range(100))
    events = await (await harness.read(pull)).until(99)
    harness.ledger.check(events)
    assert ticks(events) == list(range(80, 100))
    assert not notices(events), "nothing is missing for who had nothing"


async def test_tail(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(50))
    for tail, first in ((1, 49), (3, 47), (50, 0), (1000, 0)):
        reader = await harness.read(flavour, tail=tail)
        events = await reader.until(49)
        assert (tail, ticks(events)) == (tail, list(range(first, 50)))
    harness.publish([50])
    harness.ledger.check(events + await reader.until(50))


async def test_a_tail_longer_than_memory(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(ring=5)
    await harness.publish_all(range(0, 100, 10))
    events = await (await harness.read(flavour, tail=1000)).until(90)
    assert ticks(events) == [50, 60, 70, 80, 90]


async def test_tail_0_is_only_what_is_new(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(50))
    reader = await harness.read(flavour, tail=0)
    reading = asyncio.create_task(reader.take(2))
    await harness.until(lambda: harness.asked > 0)
    await harness.publish_all([60])
    await harness.publish_all([61])
    assert ticks(await reading) == [60, 61]


async def test_since(harness: Harness, flavour: str, clock: Clock) -> None:
    for t in range(50):
        harness.publish([t])
        clock.ms += 1000
    await harness.settle()
    for text in (
        "2027-01-15T08:00:25Z",
        "2027-01-15T08:00:24.0001Z",  # a part of a millisecond counts
        "2027-01-15t09:00:25+01:00",
        "2027-01-15 03:00:25-05:00",
        "2027-01-15T08:00:25.000000000z",
    ):
        reader = await harness.read(flavour, since=text)
        events = await reader.until(49)
        assert ticks(events)[0] == 25, text
        harness.ledger.check(events, after=("A", 24))
    harness.publish([50])
    assert ticks(await reader.until(50)) == [50]


async def test_since_with_a_raw_plus(harness: Harness, clock: Clock) -> None:
    """In a query string a plus that nobody escaped is a space: it counts for one."""
    for t in range(10):
        harness.publish([t])
        clock.ms += 1000
    await harness.settle()
    response = await harness.get("/incremental?since=2027-01-15T09:00:07+01:00")
    assert [tick["t"] for tick in await response.json()] == [7, 8, 9]


async def test_since_the_future_is_nothing_until_then(harness: Harness, flavour: str, clock: Clock) -> None:
    await harness.publish_all(range(10))
    reader = await harness.read(flavour, since="2027-01-15T09:00:00Z")
    reading = asyncio.create_task(reader.take(1))
    await harness.until(lambda: harness.asked > 0)
    harness.publish([10])
    clock.ms += 3_600_000
    harness.publish([11])
    assert ticks(await reading) == [11]


async def test_since_before_what_memory_holds_is_a_gap(open_harness: OpenHarness, flavour: str, clock: Clock) -> None:
    harness = await open_harness(ring=20)
    for t in range(100):
        harness.publish([t])
        clock.ms += 1000
    await harness.settle()
    events = await (await harness.read(flavour, since="2027-01-15T08:00:10Z")).until(99)
    harness.ledger.check(events)
    (gap,) = notices(events)
    assert isinstance(gap, Gap)
    assert gap.next == 80
    assert ticks(events) == list(range(80, 100))


async def test_since_the_very_first_tick_in_memory_is_no_gap(
    open_harness: OpenHarness, flavour: str, clock: Clock
) -> None:
    harness = await open_harness(ring=20)
    for t in range(100):
        harness.publish([t])
        clock.ms += 1000
    await harness.settle()
    events = await (await harness.read(flavour, since="2027-01-15T08:01:20Z")).until(99)
    assert ticks(events) == list(range(80, 100))
    assert not notices(events)


async def test_since_reaches_into_an_older_run(harness: Harness, flavour: str, clock: Clock) -> None:
    for run in ("A", "B"):
        for t in range(10):
            harness.publish([t], run)
            clock.ms += 1000
    await harness.settle()
    events = await (await harness.read(flavour, since="2027-01-15T08:00:05Z")).until(9, "B")
    harness.ledger.check(events, after=("A", 4))


async def test_since_a_run_of_which_nothing_is_left(open_harness: OpenHarness, flavour: str, clock: Clock) -> None:
    harness = await open_harness(ring=5)
    for run in ("A", "B"):
        for t in range(10):
            harness.publish([t], run)
            clock.ms += 1000
    await harness.settle()
    events = await (await harness.read(flavour, since="2027-01-15T08:00:05Z")).until(9, "B")
    harness.ledger.check(events)
    gaps = [event for event in events if isinstance(event, Gap)]
    assert [(gap.after < 9, gap.next) for gap in gaps] == [(True, None), (True, 5)], "both runs have lost ticks"
    assert any(isinstance(event, Reset) for event in events)


# ---- run=R ----


async def test_a_run_that_has_ended_from_its_first_tick_to_its_end(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(10, 50), "A")
    await harness.publish_all(range(5), "B")
    reader = await harness.read(flavour, run="A")
    events = await reader.rest()
    harness.ledger.check(events, after=("A", -1), upto=("A", 49))
    assert notices(events) == [End("run", "A:49")]
    assert reader.ended


async def test_the_current_run_until_it_ends(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(10))
    reader = await harness.read(flavour, run="A")
    events = await reader.until(9)
    harness.publish([10])
    events += await reader.until(10)
    await harness.end_run("A")
    await harness.publish_all(range(3), "B")
    events += await reader.rest()
    harness.ledger.check(events, after=("A", -1), upto=("A", 10))
    assert notices(events) == [End("run", "A:10")]


async def test_the_current_run_until_another_begins(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(10))
    reader = await harness.read(flavour, run="A")
    events = await reader.until(9)
    harness.publish(range(10, 20))
    harness.publish(range(3), "B")
    events += await reader.rest()
    harness.ledger.check(events, after=("A", -1), upto=("A", 19))


@pytest.mark.parametrize(("parameters", "after"), [({"from_t": "A:44"}, 44), ({"tail": 3}, 46), ({"from_t": 44}, 44)])
async def test_a_run_and_a_place_in_it(
    harness: Harness, flavour: str, parameters: dict[str, object], after: int
) -> None:
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(5), "B")
    events = await (await harness.read(flavour, run="A", **parameters)).rest()
    harness.ledger.check(events, after=("A", after), upto=("A", 49))


async def test_a_run_and_a_time(harness: Harness, flavour: str, clock: Clock) -> None:
    for run in ("A", "B"):
        for t in range(10):
            harness.publish([t], run)
            clock.ms += 1000
    await harness.settle()
    events = await (await harness.read(flavour, run="A", since="2027-01-15T08:00:07Z")).rest()
    harness.ledger.check(events, after=("A", 6), upto=("A", 9))


async def test_a_run_whose_last_tick_the_reader_has(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(5), "B")
    events = await (await harness.read(flavour, run="A", from_t="A:49")).rest()
    assert [event for event in events if not isinstance(event, Hello)] == [End("run", "A:49")]


async def test_a_run_that_is_not_known(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(5))
    path = harness.reader(flavour).path
    if FLAVOURS[flavour].transport == "websocket":
        with pytest.raises(Refused) as refused:
            await WebSocket.connect(harness.port, f"{path}?run=nobody")
        response = refused.value.response
    else:
        response = await request(harness.port, f"{path}?run=nobody")
    assert response.status == 404
    body = await response.json()
    assert body["error"] == "not_found"
    assert "nobody" in body["message"]

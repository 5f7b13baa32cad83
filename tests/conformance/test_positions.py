"""Positions that are not simply in the current run: beyond the tip, past retention, of older and unknown runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.support.harness import OpenHarness
from tick_gateway.model.tick import Position
from tick_gateway.reading.start_position import Beyond

from ..support.events import End, Gap, Reset, notices, only_reset, ticks
from ..support.harness import Harness
from ..support.readers.registry import as_told

Wait = Callable[[float], None]


@pytest.fixture
def beyond_tip(harness: Harness) -> Wait:
    """Sets how long a position beyond the tip waits for it: 10 s are too long for a test, or too short."""
    return harness.wait_beyond_tip


# ---- beyond the tip ----


async def test_beyond_the_tip_waits_for_it(harness: Harness, flavour: str, beyond_tip: Wait) -> None:
    beyond_tip(3600)
    await harness.publish_all(range(50))
    reader = await harness.read(flavour, from_t="A:60", timeout=60)
    reading = asyncio.create_task(reader.until(70))
    await harness.until(lambda: harness.asked > 0)
    await harness.publish_all(range(50, 61))
    harness.publish(range(61, 71))
    events = await reading
    harness.ledger.check(events, after=("A", 60))
    assert ticks(events) == list(range(61, 71))


async def test_beyond_the_tip_is_reset_in_the_end(harness: Harness, flavour: str, beyond_tip: Wait) -> None:
    beyond_tip(0.3)
    await harness.publish_all(range(50))
    asked = time.monotonic()
    reader = await harness.read(flavour, from_t="A:60", timeout=60)
    events = await reader.until(49)
    assert time.monotonic() - asked >= 0.3, "it did not wait for the tip"
    harness.ledger.check(events, after=("A", 60))
    assert only_reset(events) == as_told(flavour, Reset("A", "A", False))
    assert ticks(events) == list(range(50))


async def test_beyond_the_tip_of_the_run_that_is_asked_for(harness: Harness, flavour: str, beyond_tip: Wait) -> None:
    beyond_tip(0.1)
    await harness.publish_all(range(50))
    events = await (await harness.read(flavour, run="A", from_t="A:60", timeout=60)).until(49)
    harness.ledger.check(events, after=("A", 60))


@pytest.mark.parametrize("seconds", [0, 0.2])
async def test_polls_shorter_than_the_wait_are_reset_when_it_is_over(
    harness: Harness, beyond_tip: Wait, seconds: float
) -> None:
    """It is counted from the first one: else a client that polls in short turns would stand beyond the tip for ever."""
    beyond_tip(0.5)
    await harness.publish_all(range(1, 50))
    asked, turns = time.monotonic(), 0
    while (body := await harness.json(f"/poll?last_t=A:60&timeout={seconds}")).get("status") == "timeout":
        assert (body["position"], body["next_t"]) == ("A:60", 60)
        turns += 1
    assert turns >= 1 and time.monotonic() - asked >= 0.5
    assert (body["reset"], body["t"]) == ("A", 1)


async def test_a_pull_beyond_the_tip_answers_soon(harness: Harness, pull: str, beyond_tip: Wait) -> None:
    """Many clients give up after 5 s, long before the wait is over: each answer is sooner, and the last one resets."""
    harness.set_patience(beyond_tip_seconds=0.05)
    beyond_tip(3600)
    await harness.publish_all(range(50))
    path = (
        harness.paths[pull.partition("+")[0]]
        if pull in harness.paths
        else harness.paths[harness.reader(pull).transport]
    )
    response = await harness.get(f"{path}?from_t=A:60&timeout=60")
    body = await response.json()
    assert body == [] or body["status"] == "timeout"
    assert response.headers["Tick-Next"] == "A:60"
    harness.runtime.feed.starts._beyond._until.update({Position("A", 60): 0.0})  # the hour is over
    reader = await harness.read(pull, from_t="A:60", timeout=60)
    events = await reader.until(49)
    assert only_reset(events) == as_told(pull, Reset("A", "A", False))


@pytest.mark.parametrize("route", ["/poll?timeout=60&last_t=", "/incremental?from_t="])
async def test_a_pull_beyond_the_tip_goes_on_when_the_tip_comes(harness: Harness, beyond_tip: Wait, route: str) -> None:
    beyond_tip(3600)
    await harness.publish_all(range(50))
    asking = asyncio.create_task(harness.json(f"{route}A:60"))
    await harness.until(lambda: harness.asked > 0)
    await harness.publish_all(range(50, 70))
    body = await asking
    assert (body["t"] if isinstance(body, dict) else body[0]["t"]) == 61


async def test_a_stream_that_is_cut_again_and_again_is_reset_in_the_end(
    harness: Harness, stream: str, beyond_tip: Wait
) -> None:
    """A proxy cuts it before its wait is over, or its own client gives up."""
    beyond_tip(0.5)
    await harness.publish_all(range(50))
    asked = time.monotonic()
    while time.monotonic() - asked < 0.5:
        (await harness.read(stream, from_t="A:60")).close()
    beyond_tip(3600)
    events = await (await harness.read(stream, from_t="A:60")).until(49)
    assert only_reset(events) == as_told(stream, Reset("A", "A", False))


async def test_each_position_beyond_the_tip_has_its_own_wait(harness: Harness, beyond_tip: Wait) -> None:
    beyond_tip(0.0)
    await harness.publish_all(range(50))
    assert "reset" in await harness.json("/poll?last_t=A:60&timeout=0.2")
    beyond_tip(3600)
    assert (await harness.json("/poll?last_t=A:61&timeout=0"))["status"] == "timeout"


def test_what_is_remembered_of_positions_beyond_the_tip_is_bounded() -> None:
    beyond = Beyond()
    for t in range(5000):
        assert beyond.deadline(Position("A", t), t, 10.0) == t + 10
        assert beyond.deadline(Position("A", 0), t, 10.0) == 10.0, "what is asked for again and again is kept"
    assert len(beyond._until) == 1000


async def test_a_new_run_ends_the_wait_beyond_the_tip(harness: Harness, flavour: str, beyond_tip: Wait) -> None:
    beyond_tip(3600)
    await harness.publish_all(range(50), "A")
    reader = await harness.read(flavour, from_t="A:60", timeout=60)
    reading = asyncio.create_task(reader.until(9, "B"))
    await harness.until(lambda: harness.asked > 0)
    harness.publish(range(10), "B")
    events = await reading
    harness.ledger.check(events, after=("A", 60))
    assert only_reset(events) == as_told(flavour, Reset("B", "A", False))


@pytest.mark.parametrize("parameters", [{}, {"run": "A"}], ids=["", "run=A"])
async def test_a_bare_t_beyond_the_tip_is_reset_at_once(
    harness: Harness, flavour: str, beyond_tip: Wait, parameters: dict[str, object]
) -> None:
    beyond_tip(3600)
    await harness.publish_all(range(1, 50))
    events = await (await harness.read(flavour, from_t=60, timeout=60, **parameters)).until(49)
    harness.ledger.check(events, after=("A", 60))
    assert only_reset(events) == as_told(flavour, Reset("A", "A", False))
    assert ticks(events) == list(range(1, 50))


async def test_beyond_the_end_of_an_older_run_is_reset_at_once(
    harness: Harness, flavour: str, beyond_tip: Wait
) -> None:
    beyond_tip(3600)
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(10), "B")
    events = await (await harness.read(flavour, from_t="A:60")).until(9, "B")
    harness.ledger.check(events, after=("A", 60))
    assert ticks(events) == list(range(10))


# ---- past retention ----


async def test_past_retention_is_a_gap(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(ring=20)
    await harness.publish_all(range(100))
    reader = await harness.read(flavour, from_t="A:10")
    events = await reader.until(99)
    harness.ledger.check(events, after=("A", 10))
    assert notices(events) == [Gap("A", 10, 80)]
    harness.publish([100])
    harness.ledger.check(events + await reader.until(100), after=("A", 10))


@pytest.mark.parametrize(("after", "gap"), [(45, False), (40, False), (39, True), (-1, True)])
async def test_a_hole_at_the_edge_of_memory_is_no_gap(
    open_harness: OpenHarness, flavour: str, after: int, gap: bool
) -> None:
    harness = await open_harness(ring=5)
    await harness.publish_all(range(0, 100, 10))  # 50 to 90 are left, 40 is the newest that is gone
    events = await (await harness.read(flavour, from_t=f"A:{after}")).until(90)
    harness.ledger.check(events, after=("A", after))
    assert notices(events) == ([Gap("A", after, 50)] if gap else [])


async def test_what_was_lost_on_the_way_in_is_a_gap(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(inbox=5)
    await harness.publish_all(range(10))
    reader = await harness.read(flavour, from_t="A:4")
    events = await reader.until(9)
    harness.drop(range(10, 30))
    assert harness.ledger.lost == {("A", t) for t in range(15, 30)}
    await harness.settle()
    harness.publish(range(30, 33))
    events += await reader.until(32)
    harness.ledger.check(events, after=("A", 4))
    assert notices(events) == [Gap("A", 14, 30)]


async def test_what_was_lost_at_the_end_of_a_run_is_a_gap(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(inbox=5)
    await harness.publish_all(range(10), "A")
    reader = await harness.read(flavour, from_t="A:4")
    events = await reader.until(9)
    harness.drop(range(10, 20), "A")
    await harness.settle()
    harness.publish(range(3), "B")
    events += await reader.until(2, "B")
    harness.ledger.check(events, after=("A", 4))
    assert [event for event in events if isinstance(event, Gap)] == [Gap("A", 14, None)]
    assert only_reset(events) == as_told(flavour, Reset("B", "A", False))


async def test_what_was_lost_at_the_end_of_the_run_that_is_asked_for(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(inbox=5)
    await harness.publish_all(range(10), "A")
    harness.drop(range(10, 20), "A")
    await harness.settle()
    await harness.publish_all(range(3), "B")
    events = await (await harness.read(flavour, run="A", from_t="A:4")).rest()
    harness.ledger.check(events, after=("A", 4), upto=("A", 14))
    assert notices(events) == [Gap("A", 14, None), End("run", "A:14")]


async def test_one_gap_tells_of_what_is_gone_and_what_was_lost_behind_it(
    open_harness: OpenHarness, flavour: str
) -> None:
    harness = await open_harness(inbox=5, ring=2)
    await harness.publish_all(range(5), "A")
    harness.drop(range(5, 20), "A")
    await harness.settle()
    await harness.publish_all(range(3), "B")
    events = await (await harness.read(flavour, from_t="A:2")).until(2, "B")
    harness.ledger.check(events, after=("A", 2))
    assert notices(events) == [Gap("A", 2, None), as_told(flavour, Reset("B", "A", False)), Gap("B", -1, 1)]
    reader = await harness.read(flavour, from_t="A:2", run="A")
    if flavour == "incremental":  # it has no word for the end
        assert await reader.next() == Gap("A", 2, None)
    else:
        assert notices(await reader.rest()) == [Gap("A", 2, None), End("run", "A:9")]


# ---- older and unknown runs ----


async def test_an_unknown_run_is_reset_to_the_first_tick_of_the_current_one(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(10), "A")
    await harness.publish_all(range(20), "B")
    events = await (await harness.read(flavour, from_t="Z:5")).until(19)
    harness.ledger.check(events, after=("Z", 5))
    assert only_reset(events) == as_told(flavour, Reset("B", "Z", False))
    assert ticks(events) == list(range(20))


async def test_an_unknown_run_and_a_current_one_whose_first_ticks_are_gone(
    open_harness: OpenHarness, flavour: str
) -> None:
    harness = await open_harness(ring=5)
    await harness.publish_all(range(20))
    events = await (await harness.read(flavour, from_t="Z:5")).until(19)
    harness.ledger.check(events, after=("Z", 5))
    assert [event for event in events if isinstance(event, Gap)] == [Gap("A", -1, 15)]


async def test_the_rest_of_an_older_run_comes_first(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(10), "B")
    reader = await harness.read(flavour, from_t="A:24")
    events = await reader.until(9, "B")
    harness.ledger.check(events, after=("A", 24))
    assert notices(events) == [as_told(flavour, Reset("B", "A", True))]
    harness.publish([10], "B")
    harness.ledger.check(events + await reader.until(10, "B"), after=("A", 24))


async def test_several_runs_in_a_row(harness: Harness, flavour: str) -> None:
    runs = ["A", "B", "C", "D"]
    for run in runs:
        await harness.publish_all(range(3, 13), run)
    events = await (await harness.read(flavour, from_t="A:5")).until(12, "D")
    harness.ledger.check(events, after=("A", 5))
    assert [event.run for event in notices(events) if isinstance(event, Reset)] == runs[1:]


async def test_the_end_of_an_older_run(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(10), "B")
    events = await (await harness.read(flavour, from_t="A:49")).until(9, "B")
    harness.ledger.check(events, after=("A", 49))
    assert only_reset(events) == as_told(flavour, Reset("B", "A", True))


async def test_an_older_run_that_is_partly_gone(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(ring=20)
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(10), "B")
    events = await (await harness.read(flavour, from_t="A:10")).until(9, "B")
    harness.ledger.check(events, after=("A", 10))
    assert notices(events) == [Gap("A", 10, 40), as_told(flavour, Reset("B", "A", False))]
    assert ticks(events) == [*range(40, 50), *range(10)]


async def test_an_older_run_that_is_gone(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(ring=5)
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(10), "B")
    events = await (await harness.read(flavour, from_t="A:10")).until(9, "B")
    harness.ledger.check(events, after=("A", 10))
    gaps = [event for event in events if isinstance(event, Gap)]
    assert gaps == [Gap("A", 10, None), Gap("B", -1, 5)]
    assert only_reset(events) == as_told(flavour, Reset("B", "A", False))


async def test_an_older_run_that_is_gone_after_its_last_tick(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(ring=5)
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(5), "B")
    events = await (await harness.read(flavour, from_t="A:49")).until(4, "B")
    assert notices(events) == [as_told(flavour, Reset("B", "A", True))], "nothing after A:49 was ever published"


# ---- lag=skip ----


@pytest.mark.parametrize("start", ["A:3", "Z:3"])
async def test_with_skip_another_run_is_one_reset_and_the_newest_tick(
    harness: Harness, flavour: str, start: str
) -> None:
    await harness.publish_all(range(10), "A")
    await harness.publish_all(range(10), "B")
    await harness.publish_all(range(10), "C")
    reader = await harness.read(flavour, from_t=start, lag="skip")
    events = await reader.until(9, "C")
    harness.publish([10], "C")
    events += await reader.until(10, "C")
    assert [event for event in events if isinstance(event, Reset)] == [as_told(flavour, Reset("C", start[0], False))]
    assert ticks(events) == [9, 10]
    harness.ledger.check(events, after=(start[0], 3), skip=True)

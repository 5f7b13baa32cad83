"""What the parameters make of each tick, the same on every transport: fields, every, stamp, batch."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.harness import Clock

from ..support.async_client import members
from ..support.events import Event, Reset, Tick, notices, ticks
from ..support.harness import Harness, tick

RICH = (
    '{"t":1, "name":"flock é/\u2028", "agents":[{"id":1,"x":1.5,"pos":{"x":1,"y":2}},{"id":2,"pos":[{"x":3}]},7],'
    '"sun":{"x":0,"y":{"deep":[1,2]}},"none":null,"x":9007199254740993,"big":1e300,"agents.id":"dotted","list":[1,[2]]}'
)


FIELDS: dict[str, dict[str, Any]] = {
    "name": {"name": "flock é/\u2028"},
    "t": {},
    "nothing.here": {},
    "x,big,none": {"x": 9007199254740993, "big": 1e300, "none": None},
    "agents.id": {"agents": [{"id": 1}, {"id": 2}]},
    "agents.pos.x": {"agents": [{"pos": {"x": 1}}, {"pos": [{"x": 3}]}]},
    "agents.pos.y,sun.y": {"agents": [{"pos": {"y": 2}}, {"pos": [{}]}], "sun": {"y": {"deep": [1, 2]}}},
    "sun,sun.x": {"sun": {"x": 0, "y": {"deep": [1, 2]}}},
    "sun.x,sun": {"sun": {"x": 0, "y": {"deep": [1, 2]}}},
    "list": {"list": [1, [2]]},
}


async def test_fields(harness: Harness, flavour: str) -> None:
    harness.gateway.publish(RICH, run="A")
    await harness.settle()
    for fields, expected in FIELDS.items():
        (event,) = await (await harness.read(flavour, tail=1, fields=fields, hello=0)).take(1)
        assert isinstance(event, Tick)
        assert (fields, json.loads(event.data)) == (fields, {"t": 1} | expected)


async def test_empty_fields_are_everything_byte_for_byte(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(5))
    events = await (await harness.read(flavour, from_t="A:-1", fields="")).until(4)
    harness.ledger.check(events, after=("A", -1))


async def test_every(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(1, 50))
    reader = await harness.read(flavour, from_t="A:4", every=7)
    harness.publish(range(50, 64))
    events = await reader.until(63)
    harness.ledger.check(events, after=("A", 4), every=7)
    assert ticks(events) == [7, 14, 21, 28, 35, 42, 49, 56, 63]


async def test_every_across_runs(harness: Harness, flavour: str) -> None:
    for run in ("A", "B", "C"):
        await harness.publish_all(range(1, 25), run)
    events = await (await harness.read(flavour, from_t="A:8", every=10)).until(20, "C")
    harness.ledger.check(events, after=("A", 8), every=10)
    assert [event.run for event in events if isinstance(event, Reset)] == ["B", "C"]


async def test_every_passes_over_a_run_of_which_it_shows_nothing(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(1, 5), "A")
    await harness.publish_all(range(1, 5), "B")
    await harness.publish_all(range(1, 15), "C")
    events = await (await harness.read(flavour, from_t="A:0", every=10)).until(10, "C")
    assert ticks(events) == [10]
    assert [event.run for event in events if isinstance(event, Reset)][-1] == "C"


async def test_the_position_passes_over_what_is_left_out(harness: Harness, pull: str) -> None:
    """Else a client would ask for the same ticks again and again, and find them gone in the end."""
    await harness.publish_all(range(1, 18))
    reader = await harness.read(pull, from_t="A:-1", every=10, timeout=0)
    await reader.until(10)
    answer = await harness.get(f"{reader.path}?from_t={reader.position}&every=10&timeout=0")
    assert answer.headers["Tick-Next"] == "A:17"


@pytest.mark.parametrize(("tail", "expected"), [(None, [40]), (1, [40]), (3, [20, 30, 40]), (9, [10, 20, 30, 40])])
async def test_tail_counts_what_the_view_shows(
    harness: Harness, stream: str, tail: int | None, expected: list[int]
) -> None:
    await harness.publish_all(range(1, 48))
    parameters = {} if tail is None else {"tail": tail}
    reader = await harness.read(stream, every=10, **parameters)
    harness.publish(range(48, 61))
    assert ticks(await reader.until(60)) == [*expected, 50, 60]


async def test_stamp(harness: Harness, flavour: str, clock: Clock) -> None:
    for t in range(3):
        harness.publish([t])
        clock.ms += 1500
    await harness.settle()
    events = await (await harness.read(flavour, from_t="A:-1", stamp=1)).until(2)
    assert ticks(events) == [0, 1, 2]
    for event in events:
        if isinstance(event, Tick):
            found = members(event.data.decode())
            assert list(found) == ["t", "run", "at", "data"]
            assert found["run"] == '"A"'
            assert int(found["at"]) == 1_800_000_000_000 + 1500 * event.t
            assert found["data"].encode() == tick("A", event.t), "the tick itself is byte for byte as published"


async def test_stamp_every_and_fields_together(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(10))
    events = await (await harness.read(flavour, from_t="A:-1", stamp=1, every=4, fields="x")).until(8)
    assert ticks(events) == [0, 4, 8]
    inner = [json.loads(event.data)["data"] for event in events if isinstance(event, Tick)]
    assert inner == [{"t": t, "x": 1.5} for t in (0, 4, 8)]


# ---- batch ----


def _messages(events: Iterable[Event]) -> list[list[int]]:
    """The numbers of the ticks of each message."""
    found: dict[int, list[int]] = defaultdict(list)
    for event in events:
        if isinstance(event, Tick):
            found[event.message].append(event.t)
    return list(found.values())


@pytest.fixture
def patience(harness: Harness) -> None:
    """A batch that is not full waits for the test, not for a second."""
    harness.set_flush_policy(batch_seconds=3600.0)


async def test_batches_of_the_past(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(25))
    reader = await harness.read(flavour, from_t="A:-1", batch=10)
    events = await reader.until(24)
    harness.ledger.check(events, after=("A", -1))
    sizes = [len(message) for message in _messages(events)]
    assert sizes == ([1] * 25 if flavour == "longpoll-single" else [10, 10, 5])
    assert reader.position == "A:24"


async def test_a_batch_has_256_kib_at_most(harness: Harness, flavour: str) -> None:
    for t in range(6):  # one flush each
        await harness.publish_all([t], size=100_000)
    reader = await harness.read(flavour, from_t="A:-1", batch=10)
    events = await reader.until(5)
    harness.ledger.check(events, after=("A", -1))
    assert max(map(len, _messages(events))) == (1 if flavour == "longpoll-single" else 2)


async def test_a_tick_larger_than_a_batch_comes_alone(harness: Harness, flavour: str) -> None:
    await harness.publish_all([0])
    await harness.publish_all([1], size=300_000)
    await harness.publish_all([2])
    events = await (await harness.read(flavour, from_t="A:-1", batch=10)).until(2)
    harness.ledger.check(events, after=("A", -1))
    assert [1] in _messages(events)


async def test_live_batches_are_cut_alike_for_everybody(harness: Harness, stream: str, patience: None) -> None:
    """Whoever joins while a message is gathered gets the rest of it, and then the same messages as all others."""
    await harness.publish_all([0])
    early = await harness.read(stream, tail=0, batch=4)
    await harness.until(lambda: _live(harness) == 1)
    await harness.publish_all([1, 2])
    late = await harness.read(stream, tail=0, batch=4)
    await harness.until(lambda: _live(harness) == 2)
    await harness.publish_all(range(3, 9))
    assert _messages(await early.until(8)) == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert _messages(await late.until(8)) == [[3, 4], [5, 6, 7, 8]]
    assert (early.position, late.position) == ("A:8", "A:8")


async def test_a_batch_that_waits_to_be_full_holds_up_nobody(harness: Harness, stream: str, patience: None) -> None:
    await harness.publish_all([0])
    batches = await harness.read(stream, tail=0, batch=100)
    reader = await harness.read(stream, tail=0)
    await harness.until(lambda: _live(harness) == 2)
    for t in range(1, 4):
        await harness.publish_all([t])
        assert ticks(await reader.until(t)) == [t]
    batches.close()


async def test_a_partial_batch_goes_out_in_time(harness: Harness, stream: str) -> None:
    harness.set_flush_policy(batch_seconds=0.05)
    await harness.publish_all([0])
    reader = await harness.read(stream, tail=0, batch=100)
    await harness.until(lambda: _live(harness) == 1)
    await harness.publish_all([1, 2, 3])
    assert ticks(await reader.until(3)) == [1, 2, 3]
    await harness.publish_all([4])
    assert ticks(await reader.until(4)) == [4]


async def test_a_partial_batch_goes_out_before_a_notice(harness: Harness, stream: str, patience: None) -> None:
    await harness.publish_all([0])
    reader = await harness.read(stream, tail=0, batch=100)
    await harness.until(lambda: _live(harness) == 1)
    await harness.publish_all([1, 2, 3])
    await harness.publish_all([1, 2], "B")
    events = await reader.until(3)
    events.append(await reader.next())
    assert notices(events) == [Reset("B", "A", True)]
    events += await harness.shut(reader)
    assert _messages(events) == [[1, 2, 3], [1, 2]]
    harness.ledger.check(events, after=("A", 0))


async def test_who_leaves_while_a_batch_is_gathered_has_lost_nothing(
    harness: Harness, stream: str, patience: None
) -> None:
    await harness.publish_all([0])
    reader = await harness.read(stream, from_t="A:-1", batch=4)
    events = await reader.until(0)
    await harness.until(lambda: _live(harness) == 1)
    await harness.publish_all([1, 2])
    harness.set_flush_policy(batch_seconds=0.05)
    await reader.again()
    harness.publish([3, 4])
    events += await reader.until(4)
    harness.ledger.check(events, after=("A", -1))


async def test_a_batch_that_nobody_waits_for_keeps_nobody_busy(harness: Harness) -> None:
    """The one who gathered it has left, the other reads by itself: the gateway must not flush for it for ever."""
    harness.set_flush_policy(batch_seconds=0.1)
    await harness.publish_all([0])
    gone = await harness.read("ndjson", tail=0, batch=100)
    await harness.until(lambda: _live(harness) == 1)
    stays = await harness.read("ndjson", tail=0, batch=100, limit=50)
    await harness.until(lambda: len(harness.sessions) == 2)
    await harness.publish_all([1])
    gone.close()
    await stays.until(1)
    await harness.until(lambda: len(harness.sessions) == 1)
    flushes = harness.runtime.fanout.flushes
    await harness.runtime.fanout.waiters.wait(0.2)
    await harness.runtime.fanout.waiters.wait(0.2)
    assert harness.runtime.fanout.flushes <= flushes + 1


async def test_a_limit_inside_a_batch(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(20))
    events = await (await harness.read(stream, from_t="A:-1", batch=4, limit=6)).rest()
    assert _messages(events) == [[0, 1, 2, 3], [4, 5]]


async def test_batches_in_a_pull_with_a_limit(harness: Harness) -> None:
    await harness.publish_all(range(20))
    answer = await harness.json("/incremental?from_t=A:-1&batch=4&limit=6")
    assert [[tick["t"] for tick in batch] for batch in answer] == [[0, 1, 2, 3], [4, 5]]
    answer = await harness.json("/poll?from_t=A:-1&batch=4&limit=6")
    assert [[tick["t"] for tick in batch] for batch in answer["ticks"]] == [[0, 1, 2, 3], [4, 5]]
    assert (answer["t"], answer["position"]) == (5, "A:5")


def _live(harness: Harness) -> int:
    return sum(session.state.live for session in harness.sessions)

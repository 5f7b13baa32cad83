"""Readers that come before the first tick ever: every position waits, and is judged when that tick arrives."""

from __future__ import annotations

import asyncio

import pytest

from ..support.events import Hello, Position, Reset, notices, only_reset, ticks
from ..support.harness import Harness
from ..support.readers.base import Reader
from ..support.readers.registry import as_told

EMPTY: dict[str, tuple[dict[str, object], Position | None]] = {
    "none": ({}, None),
    "since": ({"since": "2020-01-01T00:00:00Z"}, None),
    "the run to come": ({"from_t": "A:-1"}, ("A", -1)),
    "inside the run to come": ({"from_t": "A:5"}, ("A", 5)),
    "another run": ({"from_t": "Z:5"}, ("Z", 5)),
    "bare -1": ({"from_t": -1}, None),
}


@pytest.mark.parametrize("case", EMPTY)
async def test_on_an_empty_bus_every_position_waits(harness: Harness, flavour: str, case: str) -> None:
    """It is judged when the first tick arrives: whoever came before it misses nothing."""
    parameters, after = EMPTY[case]
    reader = await harness.read(flavour, hello=1, timeout=60, **parameters)
    reading = asyncio.create_task(reader.until(9))
    await harness.until(lambda: harness.asked > 0 and not _arriving(harness, reader))
    harness.publish(range(10))
    events = await reading
    harness.ledger.check(events, after=after)
    expected = range(6, 10) if case == "inside the run to come" else range(10)
    assert ticks(events) == list(expected)
    if case == "another run":
        assert only_reset(events) == as_told(flavour, Reset("A", "Z", False))
    else:
        assert not notices(events)


@pytest.mark.parametrize("parameter", ["tail=0", "tail=5", "backlog=0"])
async def test_on_an_empty_bus_all_that_comes_is_new(harness: Harness, stream: str, parameter: str) -> None:
    name, _, value = parameter.partition("=")
    reader = await harness.read(stream, hello=1, **{name: value})
    await harness.until(lambda: not _arriving(harness, reader))
    harness.publish(range(10))
    events = await reader.until(9)
    harness.ledger.check(events, after=("A", -1))


@pytest.mark.parametrize("parameter", ["tail=0", "tail=5"])
async def test_on_an_empty_bus_all_that_comes_during_a_poll_is_new(harness: Harness, parameter: str) -> None:
    polling = asyncio.create_task(harness.json(f"/poll?{parameter}&timeout=60&limit=100"))
    await harness.until(lambda: harness.asked > 0)
    harness.publish(range(10))
    assert [tick["t"] for tick in (await polling)["ticks"]] == list(range(10))


async def test_the_hello_on_an_empty_bus_is_said_again(harness: Harness, stream: str) -> None:
    reader = await harness.read(stream, hello=1)
    assert await reader.next() == Hello(None, None, None)
    harness.publish(range(10), "A")
    harness.publish(range(10), "B")
    events = await reader.until(9, "B")
    assert events[0] == Hello("A", 0, 9), "the run of the ticks that come next"
    harness.ledger.check(events, after=("A", -1))


async def test_a_bare_position_beyond_the_first_tick_ever(harness: Harness, flavour: str) -> None:
    reader = await harness.read(flavour, from_t=5, hello=1, timeout=60)
    reading = asyncio.create_task(reader.until(1))
    await harness.until(lambda: harness.asked > 0 and not _arriving(harness, reader))
    await harness.publish_all([1])
    events = await reading
    assert only_reset(events) == as_told(flavour, Reset("A", "A", False))


def _arriving(harness: Harness, reader: Reader) -> bool:
    """Whether a stream's request has been sent, but the gateway has no session for it yet."""
    return reader.kind == "stream" and not harness.sessions

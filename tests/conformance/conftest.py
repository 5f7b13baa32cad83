"""Fixtures of the conformance suite: the transports by flavour, gateways, and a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tick_gateway.transports import TRANSPORTS

from ..support.harness import Harness
from ..support.readers.registry import FLAVOURS, flavours_of

OpenHarness = Callable[..., Awaitable[Harness]]


def _flavours(kind: str | None = None) -> list[str]:
    """Every registered transport's flavours; a transport without a reader stands for itself, and fails when used."""
    names: list[str] = []
    for transport in TRANSPORTS:
        if kind in (None, transport.kind):
            try:
                names += flavours_of(transport.name)
            except LookupError:
                names.append(transport.name)
    return names


def _flavour(name: str) -> str:
    if name not in FLAVOURS:
        try:
            flavours_of(name)
        except LookupError as error:
            pytest.fail(str(error), pytrace=False)
    return name


@pytest.fixture(params=_flavours())
def flavour(request: pytest.FixtureRequest) -> str:
    """A way of reading a transport: tests that use it run once for each."""
    return _flavour(request.param)


@pytest.fixture(params=_flavours("stream"))
def stream(request: pytest.FixtureRequest) -> str:
    """The same, of the transports whose connection stays."""
    return _flavour(request.param)


@pytest.fixture(params=_flavours("pull"))
def pull(request: pytest.FixtureRequest) -> str:
    """The same, of the transports with an answer a request."""
    return _flavour(request.param)


@pytest.fixture
async def open_harness(patient: None) -> AsyncIterator[OpenHarness]:
    """Open gateways: ``await open_harness(ring=20)``; they are shut down after the test."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> Harness:
            return await stack.enter_async_context(Harness(**settings))

        yield opened


@pytest.fixture(params=["memory", "disk"])
async def harness(request: pytest.FixtureRequest, open_harness: OpenHarness, tmp_path: Path) -> Harness:
    """A gateway with default settings, and one with history whose memory holds next to nothing: no reader may see a
    difference."""
    if request.param == "memory":
        return await open_harness()
    return await open_harness(data=str(tmp_path / "history"), ring=2, block_bytes=1024, segment_bytes=4096)


class Clock:
    """The time at which the gateway receives ticks, in milliseconds since the epoch: it moves when the test says."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000  # 2027-01-15T08:00:00Z

    def tell(self) -> SimpleNamespace:
        """What stands for the module ``time`` in the bus."""
        return SimpleNamespace(
            time=lambda: self.ms / 1000,
            time_ns=lambda: self.ms * 1_000_000,
            strftime=time.strftime,
            gmtime=time.gmtime,
        )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A clock in the test's hand, for receive times."""
    clock = Clock()
    monkeypatch.setattr("tick_gateway.bus.tick_bus.time", clock.tell())
    yield clock

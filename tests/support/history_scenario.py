"""Gateways with history, in this process or in one of their own, that readers of every transport follow throughout."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.async_client import request
from tests.support.events import Gap, Ledger, notices
from tests.support.gateway_process import RestartableGateway, Running
from tests.support.harness import Harness
from tests.support.made_history import tick_of
from tests.support.reconnecting import CLIENTS, PATIENCE, ReconnectingReaders, reader
from tests.support.requests import ask, metric, post, range_of

RUN = "A"
RING = 40
PORTION = 5  # ticks that are published at once: no block is smaller
SMALL: dict[str, Any] = {"ring": RING, "block_bytes": 1024, "segment_bytes": 1024, "fsync": "never"}


class Scenario:
    """A gateway, the readers that are attached to it, and what was published.

    Ticks are numbered in steps of five: what looks like a hole to who counts by one is none.
    """

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self.directory = directory
        self.readers = ReconnectingReaders(port, RUN)
        self.ledger = Ledger()
        self.unstored: list[int] = []  # of which the gateway said that they are not stored
        self._next = 3

    async def publish(self, count: int) -> bool:
        """POST so many ticks, some at once, and wait until all have them; returns whether they are stored, as the
        gateway says."""
        numbers = [self._next + 5 * i for i in range(count)]
        self._next = numbers[-1] + 5
        stored = True
        for t in numbers:
            self.ledger.note(RUN, t, tick_of(RUN, t))
        for some in (numbers[at : at + PORTION] for at in range(0, count, PORTION)):
            answer = await post(self.port, (tick_of(RUN, t) for t in some), RUN)
            assert (answer["accepted"], answer["tip"]) == (len(some), some[-1]), answer
            if not answer["stored"]:
                self.unstored += some
                stored = False
        if self.readers.up.is_set():
            await self.readers.reach(numbers[-1])
        return stored

    async def until_stored(self, status: str = "ok") -> None:
        """Publish until ticks are stored again; ``status``: what /healthz says then."""
        async with asyncio.timeout(PATIENCE):
            while not await self.publish(1):
                continue
        assert (await self.health(status))["history"] == "ok"

    async def recover(self, status: str = "ok") -> None:
        """Publish until ticks are stored again, and memory has nothing of what was before."""
        await self.until_stored(status)
        await self.forget()

    async def health(self, status: str, *words: str) -> dict[str, Any]:
        health: dict[str, Any] = await ask(self.port, "/healthz")
        told = f"{health['history']} {health['damage']}"
        assert health["status"] == status and all(word in told for word in words), health
        ok = await metric(self.port, "tick_gateway_history_ok")
        assert ok == (health["history"] == "ok"), health
        return health

    async def until_told(self) -> int:
        """Read everything until what cannot be read is known; returns how many answers broke off until then."""
        broken = 0
        async with asyncio.timeout(PATIENCE):
            while True:
                response = await request(self.port, f"/range?run={RUN}")
                assert response.status == 200
                try:
                    await response.read()
                except (EOFError, OSError):
                    broken += 1
                else:
                    return broken

    async def restart(self, gateway: RestartableGateway | RestartableHarness) -> None:
        """End the gateway (a process by ``kill -9``), and start the next one."""
        async with self.away(gateway):
            pass

    @asynccontextmanager
    async def away(self, gateway: RestartableGateway | RestartableHarness) -> AsyncIterator[None]:
        """The same; the next one is started behind what is done meanwhile."""
        self.readers.up.clear()
        await (gateway.leave() if isinstance(gateway, RestartableHarness) else gateway.kill())
        await self.readers.away()
        yield
        await gateway.start()
        self.readers.up.set()

    async def forget(self) -> None:
        """Publish until memory has nothing of what was before."""
        assert await self.publish(2 * RING)

    async def read(self) -> None:
        """Read everything again on every transport: what is missing is told, and nothing else is."""
        have, told = await range_of(self.port, RUN, t0=0)
        missing = gaps(self.ledger.numbers[RUN], {t_of(line) for line in have})
        header = ", ".join(f"after={gap.after};next={gap.next}" for gap in missing)
        assert (told or "") == header
        for name in CLIENTS:
            one = await reader(name, self.port, from_t=f"{RUN}:-1").connect()
            events = await one.until(self.ledger.tip[1])
            self.ledger.check(events, after=(RUN, -1))
            assert notices(events) == missing, name
            one.close()

    def missing(self, have: Iterable[bytes]) -> list[int]:
        found = {t_of(line) for line in have}
        return [t for t in self.ledger.numbers[RUN] if t not in found]


def t_of(line: bytes) -> int:
    return int(line.removeprefix(b'{"t":').partition(b",")[0])


def gaps(published: list[int], have: set[int]) -> list[Gap]:
    """The gaps that somebody is told who reads from before the first tick."""
    found: list[Gap] = []
    after, told = -1, True
    for t in published:
        if t in have:
            if not told:
                found.append(Gap(RUN, after, t))
            after, told = t, True
        else:
            told = False
    assert told, "the newest ticks are in memory"
    return found


class RestartableHarness:
    """As ``RestartableGateway``, in this process: gateways one after another, of which each ends well."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self._settings = {"data": str(directory)} | SMALL | settings
        self._harness: Harness | None = None
        self.port = 0

    async def start(self) -> None:
        harness = self._harness = Harness(**self._settings, port=self.port)
        await harness.__aenter__()
        self.port = harness.port

    async def leave(self) -> None:
        assert self._harness is not None
        await self._harness.stop()

    async def __aenter__(self) -> RestartableHarness:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._harness is not None:
            await self._harness.__aexit__()


@asynccontextmanager
async def in_process(directory: Path, **settings: Any) -> AsyncIterator[tuple[Scenario, RestartableHarness]]:
    """A gateway in this process, with readers."""
    async with RestartableHarness(directory, settings) as gateway:
        found = Scenario(gateway.port, directory)
        await found.publish(1)
        async with found.readers:
            yield found, gateway
            found.readers.check(found.ledger)


@asynccontextmanager
async def in_own_process(directory: Path) -> AsyncIterator[tuple[Scenario, RestartableGateway]]:
    """A gateway in a process of its own, with readers."""
    options = [text for name, value in SMALL.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    async with RestartableGateway(directory, *options, module="tests.perf.patient") as gateway:
        found = Scenario(gateway.port, directory)
        await found.publish(1)
        async with found.readers:
            yield found, gateway
            found.readers.check(found.ledger)


async def refused(directory: Path, words: str) -> None:
    """A gateway on this directory says these words in one line, and ends with code 2."""
    command = [sys.executable, "-m", "tick_gateway", "serve", "--port", "0", "--data", str(directory)]
    with Running(command) as one:
        assert await asyncio.to_thread(one.wait) == 2, one.report()
        (line,) = one.stderr.lines
        assert words in line, line


def told(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records)

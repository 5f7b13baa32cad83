"""Clients that come back: readers of every transport that follow one run over all of a gateway's lives.

They read as the conformance suite does, strictly, and keep all that they are given.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from tests.support.async_client import Closed
from tests.support.events import End, Event, Gap, Ledger, Reset, Tick
from tests.support.readers.base import Reader
from tests.support.readers.registry import FLAVOURS

PATIENCE = 60.0  # seconds that a wait may last, so that a failure ends
CLIENTS = ("websocket", "websocket-browser", "sse", "ndjson", "ndjson-zstd", "longpoll", "incremental")
_PATHS = {"websocket": "/ws/stream", "longpoll": "/poll"}


def reader(name: str, port: int, **parameters: object) -> Reader:
    """A reader that is not connected yet."""
    kind = FLAVOURS[name]
    return kind(port, _PATHS.get(kind.transport, f"/{kind.transport}"), parameters)


class ReconnectingReader:
    """A reader of one run, from its beginning, that comes back for as long as it takes.

    Attributes:
        events: all that it was given, over all connections.
        newest: the newest tick among them.
        away: it has noticed that the gateway is gone, and waits for the next.
        visits: connections it had.
    """

    def __init__(self, name: str, port: int, run: str) -> None:
        self.name = name
        self.run = run
        self.events: list[Event] = []
        self.newest = -1
        self.away = asyncio.Event()
        self.visits = 0
        self._reader = reader(name, port, from_t=f"{run}:-1")
        self._goal = 1 << 62, asyncio.Event()

    async def follow(self, up: asyncio.Event) -> None:
        """Read along whenever the gateway is ``up``."""
        while True:
            await up.wait()
            self.away.clear()
            with contextlib.suppress(Closed, OSError, EOFError):  # killed: it comes back
                await (self._reader.again() if self.visits else self._reader.connect())
                self.visits += 1
                while True:
                    event = await self._reader.next()
                    self.events.append(event)
                    self.newest = event.t if isinstance(event, Tick) else self.newest
                    if self.newest >= self._goal[0]:
                        self._goal[1].set()
            self._reader.close()
            self.away.set()
            if up.is_set():
                await asyncio.sleep(0.01)  # nobody listens there yet, or no longer

    def close(self) -> None:
        self._reader.close()

    async def reach(self, t: int) -> None:
        """Wait until it was given a tick, or one behind it."""
        self._goal = t, asyncio.Event()
        if self.newest < t:
            await self._goal[1].wait()

    def check(self, ledger: Ledger) -> list[Event]:
        """Assert that it was given every tick once and in order, or a notice; returns the notices."""
        events = [event for event in self.events if not isinstance(event, End)]
        try:
            ledger.check(events, after=(self.run, -1))
        except AssertionError as error:
            error.add_note(f"the client: {self.name}")
            raise
        return [event for event in events if isinstance(event, Gap | Reset)]


class ReconnectingReaders:
    """A client of each kind, reading along in the background: ``async with ReconnectingReaders(port, run) as crowd``.

    Attributes:
        up: whether the gateway is there to be read.
    """

    def __init__(self, port: int, run: str, names: tuple[str, ...] = CLIENTS) -> None:
        self.clients = [ReconnectingReader(name, port, run) for name in names]
        self.up = asyncio.Event()
        self._following: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> ReconnectingReaders:
        self.up.set()
        self._following = [asyncio.create_task(client.follow(self.up)) for client in self.clients]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        for client in self.clients:
            client.close()

    async def reach(self, t: int) -> None:
        """Wait until all have a tick, or one behind it."""
        waiting: asyncio.Future[Any] = asyncio.gather(*(client.reach(t) for client in self.clients))
        everybody: list[asyncio.Future[Any]] = [waiting, *self._following]
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait(everybody, return_when=asyncio.FIRST_COMPLETED)
                self.healthy()
                await waiting
        except TimeoutError:
            late = {client.name: client.newest for client in self.clients if client.newest < t}
            raise AssertionError(f"tick {t} did not come to {late}") from None

    async def away(self) -> None:
        """The gateway is gone: wait until all have noticed."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(client.away.wait() for client in self.clients))
        self.healthy()

    def healthy(self) -> None:
        """Raise what is wrong with a client."""
        for task in self._following:
            if task.done():
                task.result()

    @property
    def newest(self) -> int:
        """The newest tick that anyone was given."""
        return max(client.newest for client in self.clients)

    def check(self, ledger: Ledger) -> dict[str, list[Event]]:
        """As ``ReconnectingReader.check``, of all of them, by name."""
        return {client.name: client.check(ledger) for client in self.clients}

"""A gateway on the test's own event loop, on a port that the system picks, and what a test does with it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any, Self, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from tick_gateway import Gateway
from tick_gateway.delivery.session import Session
from tick_gateway.errors import InboxFull
from tick_gateway.history.local.store import Store
from tick_gateway.http.listen import Server, open_socket
from tick_gateway.server.openapi import description
from tick_gateway.server.status import ROUTES_KEY
from tick_gateway.transports import TRANSPORTS

from .async_client import Refused, Response, WebSocket, close_all, request
from .events import Event, Ledger
from .readers.base import PATIENCE, Reader
from .readers.registry import FLAVOURS

T = TypeVar("T")

_SEND_BUFFER = 8192  # bytes that the kernel takes for a reader that has stalled; the default is megabytes


@cache
def _pool() -> str:
    return b64encode(Random(1).randbytes(3 << 18)).decode()


def _noise(t: int, size: int) -> str:
    """Characters that no compression makes much of, also where it remembers those of the tick before."""
    begin = t * size % ((1 << 20) - size)
    return _pool()[begin : begin + size]


def tick(run: str, t: int, size: int = 0) -> bytes:
    """A tick whose bytes no re-encoding would leave as they are: white space, 1.50, an escape, a raw U+2027."""
    pad = f',"pad":"{_noise(t, size)}"' if size else ""
    return f'{{"t":{t}, "run_of" :"{run}","x":1.50,"s":"\\u00e9/\u2027"{pad}}}'.encode()


class Harness:
    """A gateway that is served, the ledger of what it was published, and its readers.

    Everything that is opened here is closed with it.
    """

    def __init__(self, *, small: bool = False, **settings: Any) -> None:
        mine: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "drain_timeout": 2.0, "flush_interval": 0.002}
        self.gateway = Gateway(**mine | settings)
        self.runtime = self.gateway.runtime
        self.ledger = Ledger()
        self.port = 0
        self._small = small
        self._server: Server | None = None
        self.asked = 0  # requests that the gateway has begun to answer
        self.answered: set[tuple[str, str, int]] = set()  # method, path and status of each kind of answer
        self.paths = {transport.name: transport.path for transport in TRANSPORTS}

    def set_flush_policy(self, **changes: Any) -> None:
        """Give the fan-out its policy with other values, by their names in ``FlushPolicy``; best before it starts."""
        fanout = self.runtime.fanout
        fanout.policy = replace(fanout.policy, **changes)

    def set_patience(self, **changes: Any) -> None:
        """Give the sessions their patience with other values, by their names in ``Patience``."""
        fanout = self.runtime.fanout
        fanout.patience = replace(fanout.patience, **changes)

    def wait_beyond_tip(self, seconds: float) -> None:
        """Let positions beyond the tip wait so long for it."""
        self.runtime.feed.starts.beyond_tip_seconds = seconds

    async def __aenter__(self) -> Self:
        sock = open_socket(self.gateway.settings)
        if self._small:  # accepted sockets inherit it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.gateway.app.middlewares.insert(0, self._count)
        self.gateway.app.on_response_prepare.append(self._note)
        self._server = Server(self.gateway.app, self.gateway.settings, self.runtime.descriptors)
        await self._server.start(sock)
        self.port = self._server.port
        return self

    async def __aexit__(self, *_: object) -> None:
        close_all()
        await self.stop()
        paths = description(self.gateway.app[ROUTES_KEY], "", token=False)["paths"]
        for method, path, status in self.answered:
            told = paths[path][method.lower()]["responses"]
            assert str(status) in told, f"/openapi.json does not say that {method} {path} is answered {status}"

    async def stop(self) -> None:
        """Shut the gateway down, as SIGTERM does."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked += 1
        return await handler(request)

    async def _note(self, request: web.Request, response: web.StreamResponse) -> None:
        resource = request.match_info.route.resource
        if resource is not None and request.method != "OPTIONS":  # else there is no such path, or method on it
            self.answered.add((request.method.replace("HEAD", "GET"), resource.canonical, response.status))

    async def stop_while(self, reading: Awaitable[T]) -> T:
        """Shut the gateway down under a reader that goes on reading."""
        _, result = await asyncio.gather(self.stop(), reading)
        return result

    async def shut(self, reader: Reader) -> list[Event]:
        """The same; returns the events that the reader still gets."""
        return await self.stop_while(reader.rest())

    # ---- publishing ----

    def publish(self, numbers: Iterable[int], run: str = "A", *, size: int = 0) -> None:
        """Publish ticks of these numbers in this run; readers have them a flush later."""
        for t in numbers:
            data = tick(run, t, size)
            self.ledger.note(run, t, data)
            self.gateway.publish(data, run=run)

    async def settle(self) -> None:
        """Return when all that was published is offered to every reader."""
        async with asyncio.timeout(PATIENCE):
            while self.runtime.bus.pending or self.runtime.feed.behind or self._storing:
                await self.runtime.fanout.waiters.wait(0.05)

    @property
    def _storing(self) -> bool:
        """Whether something is on its way to history, and not shown yet."""
        return not self.runtime.history.idle

    @property
    def store(self) -> Store:
        """Its history on disk."""
        assert isinstance(self.runtime.history, Store)
        return self.runtime.history

    async def publish_all(self, numbers: Iterable[int], run: str = "A", *, size: int = 0) -> None:
        """Publish ticks, and return when they are offered to every reader."""
        self.publish(numbers, run, size=size)
        await self.settle()

    def drop(self, numbers: Iterable[int], run: str = "A") -> None:
        """Publish ticks for which there is no room in the inbox: they are lost before any reader can have them."""

        def publish() -> None:
            for t in numbers:
                data = tick(run, t)
                try:
                    self.gateway.publish(data, run=run)
                except InboxFull:
                    self.ledger.lost.add((run, t))
                self.ledger.note(run, t, data)

        # The loop stands still meanwhile, so that nobody empties the inbox; its own thread would have.
        thread = threading.Thread(target=publish)
        thread.start()
        thread.join()

    async def end_run(self, run: str) -> None:
        response = await request(self.port, f"/runs/{run}/end", method="POST")
        body = await response.json()
        assert response.status == 200, body
        assert body["ended"] is True

    @property
    def sessions(self) -> list[Session]:
        """The gateway's ends of the streams that are open."""
        return [session for session in self.runtime.fanout.registry.sessions if isinstance(session, Session)]

    # ---- reading ----

    def reader(self, flavour: str, **parameters: object) -> Reader:
        """A reader that is not connected yet."""
        kind = FLAVOURS[flavour]
        return kind(self.port, self.paths[kind.transport], parameters, small=self._small)

    async def read(self, flavour: str, **parameters: object) -> Reader:
        """A reader that is connected."""
        return await self.reader(flavour, **parameters).connect()

    async def get(self, target: str, *, method: str = "GET", **headers: str) -> Response:
        """The answer to a request, its body not read yet. Header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await request(self.port, target, method=method, headers=named)

    async def ask(self, target: str, **headers: str) -> Response:
        """The head of an answer, be it a WebSocket's or not; the connection is closed with the gateway's."""
        if not target.startswith(self.paths["websocket"]):
            return await self.get(target, **headers)
        try:
            return (await WebSocket.connect(self.port, target)).response
        except Refused as refused:
            return refused.response

    async def json(self, target: str, status: int = 200) -> Any:
        """The JSON body of an answer of that status."""
        response = await self.get(target)
        body = await response.read()
        assert response.status == status, body
        return json.loads(body)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that happens inside the gateway."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.runtime.fanout.waiters.wait(0.002)


OpenHarness = Callable[..., Awaitable[Harness]]
"""Opens a gateway with these settings; the fixture ``open_harness`` of that name shuts it down after the test."""


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

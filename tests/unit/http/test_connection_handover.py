"""Taking a connection over from aiohttp: the trick, held against the aiohttp that is installed.

On asyncio's loop and uvloop's, in plain and over TLS.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import ssl
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from tests.support import tls
from tests.support.blocking_client import UPGRADE, request
from tests.support.gateway_process import PATIENCE
from tick_gateway.http.connection_handover import hang_up, take_over

try:
    import uvloop
except ImportError:  # Windows
    LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
else:
    LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
Run = Callable[[Callable[["HandoverServer"], Coroutine[Any, Any, None]]], None]


class Taken(asyncio.Protocol):
    """A session that writes down what its transport tells it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.received = b""
        self.calls: list[str] = []
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._note("data")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def eof_received(self) -> bool:
        self._note("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("lost")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class HandoverServer:
    """An aiohttp server whose one route gives its connection to ``taken``, and what is needed to look at it."""

    def __init__(self, port: int, runner: web.AppRunner, client_tls: ssl.SSLContext | None) -> None:
        self.port, self.runner, self._tls = port, runner, client_tls
        self.taken: Taken | None = None
        self.requests: list[weakref.ref[object]] = []
        self.hold: Callable[[web.Request], Awaitable[None]] | None = None  # awaited before the takeover
        self.in_prepare: Callable[[], Awaitable[None]] | None = None  # awaited while the head is made

    async def handle(self, request: web.Request) -> NoReturn:
        task = asyncio.current_task()
        assert task is not None
        self.requests += [weakref.ref(request), weakref.ref(task)]
        self.taken = taken = Taken()
        if self.hold is not None:
            await self.hold(request)
        upgrade = "Upgrade" in request.headers
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"} if upgrade else {"Connection": "close"}
        await take_over(request, web.StreamResponse(status=101 if upgrade else 200, headers=headers), taken)

    async def preparing(self, request: web.Request, response: web.StreamResponse) -> None:
        if self.in_prepare is not None:
            await self.in_prepare()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self._tls)

    async def take(
        self, behind: bytes = b"", headers: dict[str, str] = UPGRADE
    ) -> tuple[Taken, asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that was taken over; ``behind`` is sent in one go with the request."""
        reader, writer = await self.connect()
        writer.write(request("GET", "/", headers) + behind)
        await reader.readuntil(b"\r\n\r\n")
        assert self.taken is not None
        return self.taken, reader, writer


@asynccontextmanager
async def serving(contexts: Contexts | None) -> AsyncIterator[HandoverServer]:
    app = web.Application()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    handover = HandoverServer(0, runner, contexts[1] if contexts else None)
    app.router.add_get("/", handover.handle)
    app.on_response_prepare.append(handover.preparing)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=contexts[0] if contexts else None).start()
    handover.port = runner.addresses[0][1]
    try:
        yield handover
    finally:
        if handover.taken is not None and handover.taken.transport is not None:
            handover.taken.transport.abort()
        await runner.cleanup()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and its self-signed certificate, in one file."""
    return tls.certificate(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


@pytest.fixture(params=["plain", "tls"])
def contexts(request: pytest.FixtureRequest) -> Contexts | None:
    """The server's and the client's; None: without TLS."""
    if request.param == "plain":
        return None
    path = request.getfixturevalue("certificate")
    return tls.serving(path), ssl.create_default_context(cafile=path)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest, contexts: Contexts | None, caplog: pytest.LogCaptureFixture) -> Run:
    """Runs a scenario on its loop; whatever is logged, or comes to the loop's exception handler, fails it."""

    def go(scenario: Callable[[HandoverServer], Coroutine[Any, Any, None]]) -> None:
        complaints: list[dict[str, Any]] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with asyncio.timeout(PATIENCE), serving(contexts) as handover:
                await scenario(handover)

        with caplog.at_level(logging.INFO), asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())
        gc.collect()  # tasks that were destroyed pending would complain here
        assert not complaints
        assert not caplog.records

    return go


def test_both_sides_talk_through_it(run: Run) -> None:
    async def scenario(handover: HandoverServer) -> None:
        taken, reader, writer = await handover.take()
        assert taken.transport is not None
        for word in (b"one", b"two", b"x" * 1_000_000):
            taken.transport.write(word)
            assert await reader.readexactly(len(word)) == word
            before = len(taken.received)
            writer.write(word)
            await taken.until(lambda before=before, word=word: len(taken.received) == before + len(word))  # type: ignore[misc]
        assert taken.received == b"onetwo" + b"x" * 1_000_000
        writer.close()
        await taken.until(lambda: taken.calls[-1] == "lost")
        assert taken.calls[0] == "made" and taken.calls.count("made") == taken.calls.count("lost") == 1

    run(scenario)


def test_a_plain_stream_needs_no_upgrade(run: Run) -> None:
    async def scenario(handover: HandoverServer) -> None:
        taken, reader, writer = await handover.take(headers={})
        assert taken.transport is not None
        taken.transport.write(b"stream")
        taken.transport.close()
        assert await reader.read() == b"stream"
        await taken.until(lambda: taken.calls[-1] == "lost")
        writer.close()

    run(scenario)


def test_what_came_behind_the_handshake_is_handed_over(run: Run) -> None:
    async def scenario(handover: HandoverServer) -> None:
        taken, _, writer = await handover.take(behind=b"first ")
        await taken.until(lambda: taken.received == b"first ")
        writer.write(b"second")
        await taken.until(lambda: taken.received == b"first second")
        assert taken.calls[0] == "made"
        writer.close()

    run(scenario)


def test_more_came_behind_it_than_aiohttp_takes_in(run: Run) -> None:
    """aiohttp pauses the transport then; the session gets it reading."""

    async def scenario(handover: HandoverServer) -> None:
        go = asyncio.Event()

        async def hold(_: web.Request) -> None:
            await go.wait()

        handover.hold = hold
        reader, writer = await handover.connect()
        sent = bytes(range(256)) * 16_384  # 4 MB: more than a socket's buffers, too
        writer.write(request("GET", "/", UPGRADE) + sent)
        flushing = asyncio.ensure_future(writer.drain())
        await asyncio.wait((flushing,), timeout=0.2)  # as much of it as goes has come
        go.set()
        await reader.readuntil(b"\r\n\r\n")
        await flushing
        taken = handover.taken
        assert taken is not None
        await taken.until(lambda: len(taken.received) == len(sent))
        assert taken.received == sent
        writer.close()

    run(scenario)


def test_aiohttp_lets_everything_go(run: Run) -> None:
    async def scenario(handover: HandoverServer) -> None:
        _, _, writer = await handover.take(behind=b"frame")
        request_, task = handover.requests
        for _ in range(3):  # turns of the loop in which tasks end
            await asyncio.sleep(0)
        gc.collect()
        assert request_() is None and task() is None
        assert handover.runner.server is not None and not handover.runner.server.connections
        assert not [each for each in gc.get_objects() if isinstance(each, RequestHandler)]
        writer.close()

    run(scenario)


def test_a_full_buffer_is_the_sessions_own(run: Run) -> None:
    async def scenario(handover: HandoverServer) -> None:
        taken, reader, writer = await handover.take()
        assert taken.transport is not None
        taken.transport.set_write_buffer_limits(high=100_000)
        sent = 0
        while "pause" not in taken.calls:
            taken.transport.write(b"x" * 50_000)
            sent += 50_000
            await asyncio.sleep(0)
        await reader.readexactly(sent)
        await taken.until(lambda: "resume" in taken.calls)
        writer.close()

    run(scenario)


def test_the_server_may_stop_before_the_session(run: Run) -> None:
    async def scenario(handover: HandoverServer) -> None:
        taken, reader, writer = await handover.take()
        await handover.runner.cleanup()
        assert taken.transport is not None and not taken.transport.is_closing()
        taken.transport.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        writer.close()

    run(scenario)


def test_a_client_that_is_gone_before_the_head(run: Run) -> None:
    async def scenario(handover: HandoverServer) -> None:
        lost, left = asyncio.Event(), asyncio.Event()

        async def hold(request_: web.Request) -> None:
            left.set()
            await gone(request_)
            lost.set()

        handover.hold = hold
        _, writer = await handover.connect()
        writer.write(request("GET", "/", UPGRADE))
        await left.wait()
        vanish(writer)
        await lost.wait()
        await goes_on(handover)

    run(scenario)


def test_a_client_that_goes_while_the_head_is_made(run: Run) -> None:
    async def scenario(handover: HandoverServer) -> None:
        _, writer = await handover.connect()
        lost = asyncio.Event()
        seen: list[web.Request] = []

        async def hold(request_: web.Request) -> None:
            seen.append(request_)

        async def in_prepare() -> None:
            vanish(writer)
            await gone(seen[0])
            lost.set()

        handover.hold, handover.in_prepare = hold, in_prepare
        writer.write(request("GET", "/", UPGRADE))
        await lost.wait()
        seen.clear()
        handover.in_prepare = None
        await goes_on(handover)

    run(scenario)


@pytest.mark.parametrize("leaves", [True, False])
def test_last_words_reach_who_is_still_sending(run: Run, leaves: bool) -> None:
    async def scenario(handover: HandoverServer) -> None:
        async def hold(request_: web.Request) -> None:
            await hang_up(request_, b"last words", PATIENCE if leaves else 0.05)

        handover.hold = hold
        reader, writer = await handover.connect()
        writer.write(request("GET", "/", UPGRADE) + bytes(4_000_000))  # more than a socket's buffers
        assert await reader.readexactly(10) == b"last words"
        if leaves:
            await writer.drain()
            writer.close()
        server = handover.runner.server
        assert server is not None
        while server.connections:  # noqa: ASYNC110 - aiohttp has no event for it
            await asyncio.sleep(0.001)
        writer.close()

    run(scenario)


def vanish(writer: asyncio.StreamWriter) -> None:
    """Go without a word: an RST, where the connection is plain."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def gone(request_: web.Request) -> None:
    """Returns when aiohttp knows that the client has gone."""
    while request_.transport is not None:  # noqa: ASYNC110 - aiohttp has no event for it
        await asyncio.sleep(0.001)


async def goes_on(handover: HandoverServer) -> None:
    """The session that never had its connection was told nothing, and the next one is served."""
    missed = handover.taken
    assert missed is not None and missed.calls == []
    handover.hold = None
    taken, reader, writer = await handover.take()
    assert taken is not missed and taken.transport is not None
    taken.transport.write(b"next")
    assert await reader.readexactly(4) == b"next"
    gc.collect()
    assert handover.requests[0]() is None
    writer.close()

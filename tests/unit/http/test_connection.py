"""Clients that end their side of the connection behind their request, and read on: ``nc -N``, ``shutdown(SHUT_WR)``."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.support import tls
from tests.support.blocking_client import UPGRADE, Peer, chunk, request
from tests.support.frames import frame
from tests.support.gateway_process import PATIENCE, GatewayProcess
from tick_gateway import Gateway

TICKS = b"".join(b'{"t":%d}\n' % t for t in range(5))


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    with GatewayProcess("serve") as process:
        start = Peer(process.port).send(request("POST", "/publish", {"Tick-Run": "A"}, TICKS))
        assert start.response().json()["accepted"] == 5
        yield process
        assert "Traceback" not in process.stderr.text
    assert "Traceback" not in process.stderr.text


def connections(gateway: GatewayProcess) -> int:
    """Streaming connections that are open."""
    with Peer(gateway.port) as peer:
        found: int = peer.send(request("GET", "/meta")).response().json()["connections"]
        return found


PULLS = ("/latest", "/range", "/range?format=json", "/incremental", "/poll?last_t=A:-1", "/meta", "/openapi.json")
STREAMS = ("/ndjson", "/sse", "/stream", "/")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("path", [*PULLS, "/nowhere"])
def test_a_pull_is_answered_and_the_connection_closed(gateway: GatewayProcess, path: str, version: str) -> None:
    with Peer(gateway.port) as peer:
        peer.send(request("GET", path, version=version)).half_close()
        head = peer.head()
        assert head.status == (404 if path == "/nowhere" else 200)
        assert peer.rest() != b""


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_goes_on_to_its_end(gateway: GatewayProcess, path: str, version: str) -> None:
    with Peer(gateway.port) as peer:
        peer.send(request("GET", f"{path}?from_t=A:-1&limit=5", version=version)).half_close()
        assert peer.head().status == 200
        body = peer.rest()
        assert body.count(b'"t":') == 5 and b'"reason":"limit"' in body


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_goes_on_with_what_is_published_later(gateway: GatewayProcess, path: str) -> None:
    with Peer(gateway.port) as peer, Peer(gateway.port) as publisher:
        peer.send(request("GET", f"{path}?tail=0&hello=1"))
        assert peer.head().status == 200
        peer.until(b'"hello"')
        peer.half_close()
        tip = publisher.send(request("GET", "/meta")).response().json()["tip"]
        published = b'{"t":%d}' % (tip + 1)
        publisher.send(request("POST", "/publish", {"Tick-Run": "A"}, published)).response()
        peer.until(published)


def test_a_poll_waits_and_is_answered(gateway: GatewayProcess) -> None:
    with Peer(gateway.port) as peer, Peer(gateway.port) as publisher:
        tip = publisher.send(request("GET", "/meta")).response().json()["tip"]
        peer.send(request("GET", f"/poll?last_t=A:{tip}&timeout=60")).half_close()
        publisher.send(request("POST", "/publish", {"Tick-Run": "A"}, b'{"t":%d}' % (tip + 1))).response()
        assert peer.response().json()["t"] == tip + 1
        assert peer.rest() == b""


def test_every_request_before_the_end_is_answered(gateway: GatewayProcess) -> None:
    with Peer(gateway.port) as peer:
        peer.send(request("GET", "/latest") + request("GET", "/meta") + request("GET", "/ticks/3")).half_close()
        assert [peer.response().status for _ in range(3)] == [200] * 3
        assert peer.rest() == b""


def test_a_body_that_is_whole_is_published(gateway: GatewayProcess) -> None:
    for number, head in enumerate(({}, {"Transfer-Encoding": "chunked"})):
        tick = b'{"t":%d}' % number
        with Peer(gateway.port) as peer:
            body = chunk(tick) + b"0\r\n\r\n" if head else None
            data = request("POST", f"/publish?run=whole-{number}", head, None if head else tick) + (body or b"")
            answer = peer.send(data).half_close().response()
            assert (answer.status, answer.json()["accepted"]) == (200, 1)
            assert peer.rest() == b""


def test_a_body_that_breaks_off_is_told_what_came_of_it(gateway: GatewayProcess) -> None:
    lines = b'{"t":1}\n{"t":2}\n{"t":3'
    for number, head in enumerate(({"Content-Length": "1000"}, {"Transfer-Encoding": "chunked"})):
        with Peer(gateway.port) as peer:
            body = chunk(lines) if number else lines
            answer = peer.send(request("POST", f"/publish?run=cut-{number}", head) + body).half_close().response()
            assert (answer.status, answer.json()["error"], answer.json()["accepted"]) == (400, "bad_body", 2)
            assert peer.rest() == b""


@pytest.mark.parametrize("data", [b"", b"GET /lat", b"GET /latest HTTP/1.1\r\nHost: x\r\n"])
def test_a_request_that_is_not_whole_is_not_answered(gateway: GatewayProcess, data: bytes) -> None:
    with Peer(gateway.port) as peer:
        assert peer.send(data).half_close().rest() == b""


@pytest.mark.parametrize("path", ["/ws/stream?hello=1", "/ws/publish"])
def test_a_websocket_ends_with_either_side(gateway: GatewayProcess, path: str) -> None:
    for data in (b"", frame(0x9, b"x"), frame(0x1, b"{")[:4]):
        with Peer(gateway.port) as peer:
            peer.send(request("GET", path, UPGRADE) + data).half_close()
            assert peer.rest().startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("path", STREAMS)
def test_a_client_that_is_gone_is_found_out_at_once(gateway: GatewayProcess, path: str) -> None:
    """Its kernel says so to whoever writes to it: nothing need be published for that, nor a heartbeat be due."""
    before = connections(gateway)
    peers = [Peer(gateway.port) for _ in range(5)]
    for peer in peers:
        peer.send(request("GET", f"{path}?hello=1&heartbeat=3600"))
        peer.until(b'"hello"')
    for peer in peers:
        peer.close()
    while connections(gateway) > before:
        continue


@asynccontextmanager
async def mounted_behind_tls(certificate: Path, gateway: Gateway) -> AsyncIterator[int]:
    """An application of somebody else's that speaks TLS itself; gives its port."""
    app = web.Application()
    gateway.mount(app, "/ticks")
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.serving(certificate)).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_tls_which_cannot_be_half_closed_says_nothing_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Event loops warn of protocols that would keep such a connection: once a client, whoever that is."""
    certificate, gateway = tls.certificate(tmp_path, "IP:127.0.0.1"), Gateway(drain_timeout=1.0)
    trusted = ssl.create_default_context(cafile=certificate)
    with caplog.at_level(logging.INFO):
        async with asyncio.timeout(PATIENCE), mounted_behind_tls(certificate, gateway) as port:
            for path in STREAMS:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
                writer.write(request("GET", f"/ticks{path}?tail=0"))
                await reader.readuntil(b"\r\n\r\n")
                assert gateway.runtime.fanout.registry.sessions
                writer.close()
                while gateway.runtime.fanout.registry.sessions:
                    await gateway.runtime.fanout.waiters.wait(0.01)
    assert not caplog.records

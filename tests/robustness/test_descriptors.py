"""More connections than file descriptors: who is refused, how, and what goes on meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.perf.descriptors import play
from tests.support import needs
from tests.support.async_client import Closed, WebSocket
from tests.support.blocking_client import Peer, ask, request
from tests.support.gateway_process import LISTENING, GatewayProcess, Running, publish
from tests.support.harness import Harness
from tests.support.reconnecting import PATIENCE
from tick_gateway.access import file_descriptors as descriptors
from tick_gateway.access.file_descriptors import Descriptors
from tick_gateway.http import acceptor

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

FILES = 128  # that a gateway process may have here


# ---- a process that may have few ----


async def test_readers_beyond_are_refused_and_all_else_goes_on() -> None:
    needs.module("resource")
    figures = await play(readers=150, files=FILES)
    assert figures.let_in.total() >= 70 and figures.refused.total() >= 150 - FILES
    assert set(figures.let_in) == set(figures.refused) == {"ws", "sse", "ndjson"}
    assert figures.log.count("readers are refused") == 1 and "Traceback" not in figures.log


@contextmanager
def held(port: int, count: int, data: bytes = b"") -> Iterator[list[Peer]]:
    """So many connections, on each of which this was sent."""
    with ExitStack() as stack:
        yield [stack.enter_context(Peer(port)).send(data) for _ in range(count)]


def test_connections_that_ask_for_nothing_keep_nobody_out() -> None:
    needs.module("resource")
    with GatewayProcess("serve", files=FILES) as gateway, held(gateway.port, 105):
        assert ask(gateway.port, request("GET", "/healthz")).status == 200
        assert publish(gateway.url, ['{"t":1}'])["accepted"] == 1


def test_pulls_that_keep_their_connections_keep_nobody_out() -> None:
    needs.module("resource")
    with GatewayProcess("serve", files=FILES) as gateway:
        publish(gateway.url, ['{"t":1}'])
        with held(gateway.port, 150, request("GET", "/incremental")) as peers:
            answers = [peer.response() for peer in peers]
            assert {answer.status for answer in answers} == {200}
            assert 0 < sum(answer.headers.get("connection") == "close" for answer in answers) < 100
            assert ask(gateway.port, request("GET", "/healthz")).status == 200


def test_those_who_wait_for_a_tick_keep_nobody_out() -> None:
    needs.module("resource")
    with GatewayProcess("serve", files=FILES) as gateway:
        publish(gateway.url, ['{"t":1}'], run="A")
        with held(gateway.port, 150, request("GET", "/poll?from_t=A:1&timeout=60")) as peers:
            assert ask(gateway.port, request("GET", "/healthz")).status == 200
            publish(gateway.url, ['{"t":2}'], run="A")
            answers = [peer.response() for peer in peers]
        found = {(answer.status, "retry-after" in answer.headers) for answer in answers}
        assert found == {(200, False), (503, True)}


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    resource = needs.module("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with GatewayProcess("serve", shell="ulimit -S -n 64") as gateway:
        assert resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize("files", [12, 31])
def test_a_limit_that_is_too_low_for_any_reader_is_told(files: int) -> None:
    needs.module("resource")
    command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", sys.executable, "-m", "tick_gateway", "serve"]
    with Running([*command, "--port", "0"]) as gateway:
        assert gateway.wait() == 2
        (line,) = gateway.stderr.lines
        assert f": {files} file descriptors (ulimit -n) are too few" in line and "32" in line


# ---- in this process: as if readers had all that they may ----


@pytest.fixture
async def scarce() -> AsyncIterator[Harness]:
    async with Harness() as harness:
        await harness.publish_all(range(5))
        harness.runtime.descriptors.readers = 0
        yield harness


async def test_what_a_late_connection_is_answered(scarce: Harness, caplog: pytest.LogCaptureFixture) -> None:
    response = await scarce.get("/ndjson")
    assert response.status == 503 and "ulimit" in (await response.json())["message"]
    assert response.headers["Connection"] == "close" and "Retry-After" in response.headers
    response = await scarce.get("/sse")
    assert response.status == 200 and b"event: overloaded\n" in await response.read()
    websocket = await WebSocket.connect(scarce.port, "/ws/stream?tail=1")
    with pytest.raises(Closed) as closed:
        async with asyncio.timeout(PATIENCE):
            await websocket.message()
    assert closed.value.code == 1013
    for path in ("/healthz", "/incremental", "/poll", "/range", "/latest", "/meta"):
        response = await scarce.get(path)
        assert (response.status, response.headers["Connection"]) == (200, "close"), path
    response = await scarce.get("/poll?from_t=A:4&timeout=9")
    assert response.status == 503 and "Retry-After" in response.headers
    response = await scarce.get("/poll?from_t=A:4&timeout=0")
    assert (await response.json())["status"] == "timeout"
    assert scarce.runtime.fanout.registry.refused == 4
    assert sum("readers are refused" in message for message in caplog.messages) == 1, "not once a reader"


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
async def test_a_late_connection_that_does_not_read_is_dropped_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_LATE_UNREAD_MS", 500)
    async with Harness(small=True) as harness:
        await harness.publish_all(range(100), size=10_000)
        harness.runtime.descriptors.readers = 0
        assert harness._server is not None
        server = harness._server._runner.server
        assert server is not None
        with await asyncio.to_thread(Peer, harness.port, receive_buffer=4096) as peer:
            peer.send(request("GET", "/range"))
            await harness.until(lambda: harness.asked == 1)
            await harness.until(lambda: not server.connections)


async def test_a_refused_websocket_that_does_not_answer_is_let_go(scarce: Harness) -> None:
    websocket = await WebSocket.connect(scarce.port, "/ws/stream?tail=1")
    assert (await websocket.frame()).opcode == 8
    async with asyncio.timeout(PATIENCE):
        assert await websocket.response.reader.read() == b"", "hung up without waiting for the close frame's answer"


async def test_other_refusals_are_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async with Harness(max_connections=1, max_views=1) as harness:
        await harness.publish_all(range(5))
        await harness.read("ndjson", tail=1, fields="x")
        await harness.until(lambda: bool(harness.sessions))
        assert (await harness.get("/ndjson")).status == 503
        assert "readers are refused: there are 1 (setting max_connections)" in caplog.messages
        assert harness.runtime.fanout.registry.refused == 1
    async with Harness(max_views=1) as harness:
        await harness.publish_all(range(5))
        await harness.read("ndjson", tail=1, fields="x")
        await harness.until(lambda: bool(harness.sessions))
        assert (await harness.get("/ndjson?fields=s")).status == 503
        assert "readers are refused: they have 1 different views (setting max_views)" in caplog.messages
        assert harness.runtime.fanout.registry.refused == 1


# ---- accepting ----


async def test_connections_wait_while_what_is_left_is_for_files(caplog: pytest.LogCaptureFixture) -> None:
    async with Harness() as harness:
        await harness.publish_all(range(5))
        limits = harness.runtime.descriptors
        enough, limits.answers = limits.answers, 0
        assert (await harness.get("/healthz")).status == 200, "the first one tells that they are scarce"
        peers = [await asyncio.to_thread(Peer, harness.port) for _ in range(5)]
        for peer in peers:
            peer.send(request("GET", "/healthz"))
        await harness.until(lambda: "connections wait to be accepted" in caplog.text)
        asked = harness.asked
        for _ in range(20):  # turns of the loop in which nobody is accepted
            await asyncio.sleep(0)
        assert harness.asked == asked
        limits.answers = enough
        for peer in peers:
            assert (await asyncio.to_thread(peer.response)).status == 200
            peer.close()


class Exhausted(socket.socket):
    """A listening socket that accepts nobody as often as a test says."""

    failures: list[int]
    asked = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.failures:
            number = self.failures.pop()
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_accepting_neither_spins_nor_dies(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that has no descriptor left at all, or a system that has none."""
    listening: list[Exhausted] = []

    class Limited(acceptor.Acceptor):
        __slots__ = ()

        def __init__(self, runner: Any, sock: socket.socket, *args: Any) -> None:
            sock = Exhausted(sock.family, sock.type, fileno=sock.detach())
            sock.failures = [number] * 3
            listening.append(sock)
            super().__init__(runner, sock, *args)

    monkeypatch.setattr("tick_gateway.http.listen.Acceptor", Limited)
    async with Harness() as harness:
        assert (await harness.get("/healthz")).status == 200
        (sock,) = listening
        assert not sock.failures and sock.asked < 20, "it is not tried in each turn of the loop"
        assert sum("connections wait to be accepted" in message for message in caplog.messages) == 1


HOG = """
import os, sys, time
from tick_gateway import Gateway

with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
    mine = []
    try:
        while True:
            mine.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        print(gateway.url, flush=True)
    sys.stdin.readline()
    wall, used = time.monotonic(), time.process_time()
    while time.monotonic() < wall + 1:
        time.sleep(0.05)
    print("share", (time.process_time() - used) / (time.monotonic() - wall), flush=True)
    for one in mine:
        os.close(one)
    sys.stdin.readline()
"""


def test_a_program_that_takes_every_descriptor_for_itself() -> None:
    """The gateway in it waits until there are some, and does not turn in circles meanwhile."""
    needs.module("resource")
    command = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", sys.executable, "-c", HOG]
    with Running(command, stdin=True) as program:
        found = program.stdout.find(LISTENING)
        assert found is not None, program.report()
        with Peer(int(found[1])) as peer:
            peer.send(request("GET", "/healthz"))
            assert program.stderr.find("connections wait to be accepted: Too many open files"), program.report()
            program.feed([""])
            share = program.stdout.find(r"share (\S+)")
            assert share is not None and float(share[1]) < 0.5, program.report()
            assert peer.response().status == 200
        program.feed([""])
        assert program.wait() == 0, program.report()
        assert program.stderr.text.count("wait to be accepted") == 1 and "Traceback" not in program.stderr.text


async def test_a_connection_that_is_gone_before_it_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Harness() as harness:
        for _ in range(5):
            (await asyncio.to_thread(Peer, harness.port)).reset()
        assert (await harness.get("/healthz")).status == 200


# ---- the plan ----


@pytest.mark.parametrize(("limit", "readers", "answers"), [(1024, 896, 960), (128, 96, 112), (20_000, 19_872, 19_936)])
def test_what_is_kept(limit: int, readers: int, answers: int) -> None:
    plan = Descriptors(limit)
    assert (plan.readers, plan.answers) == (readers, answers)


def test_a_connection_s_number_tells_how_many_are_in_use() -> None:
    with socket.socket() as one:
        assert Descriptors(1 << 20).free(one.fileno())
        assert not Descriptors(one.fileno()).free(one.fileno())


@pytest.mark.parametrize("hard", ["infinite", "finite"])
def test_raising_the_limit_where_the_system_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch, hard: str) -> None:
    """macOS names no hard limit, and refuses to have none."""
    resource = needs.module("resource")
    most = resource.RLIM_INFINITY if hard == "infinite" else 4096
    wanted: list[int] = []

    def refuse(_: int, limits: tuple[int, int]) -> None:
        wanted.append(limits[0])
        if limits[0] == resource.RLIM_INFINITY:
            raise ValueError("not allowed")

    monkeypatch.setattr("resource.getrlimit", lambda _: (256, most))
    monkeypatch.setattr("resource.setrlimit", refuse)
    descriptors.raise_limit()
    assert wanted == ([resource.RLIM_INFINITY, 10_240] if hard == "infinite" else [4096])

"""The reader: every tick once and in order, whatever breaks. First a gateway that breaks at will, then the real one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Command
from tick_gateway import Gateway
from tick_gateway.client import Failure, Notice, Tick, read
from tick_gateway.client import reader as reader_module
from tick_gateway.client.connection import Backoff, endpoint, lost_to
from tick_gateway.client.errors import BadUsage, message_of
from tick_gateway.client.reader import Item, Track

from ...support import tls
from ...support.blocking_client import port_of
from ...support.cutting_proxy import Network
from ...support.process import PATIENCE, ROOT, GatewayProcess, Running, free_port, publish

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(autouse=True, scope="module")
def no_waiting() -> Iterator[None]:
    """Come back at once: how long to wait is ``Backoff``'s affair, and tested there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tick_gateway.client.connection.Backoff", lambda: Backoff(0.0, 0.0))
        yield


class FakeGateway:
    """Serves what a gateway would say from a position on, and breaks off after so many bytes of each answer.

    Attributes:
        queries: of each request, in order.
    """

    def __init__(self, runs: dict[str, list[bytes]], cuts: Iterable[int] = ()) -> None:
        self.runs = runs
        self.queries: list[dict[str, str]] = []
        self._cuts = iter(cuts)

    def body(self, query: dict[str, str]) -> tuple[str, bytes]:
        """The run of the first tick, and the whole stream from the position on."""
        names = list(self.runs)
        run, _, t = query.get("from_t", f"{names[0]}:-1").rpartition(":")
        run, after = run or names[-1], int(t)
        lines = [b'{"notice":"hello","run":"%b","first":0,"tip":9}' % names[-1].encode()]  # of the current run
        left = int(query.get("limit", "1000000"))
        for index, name in enumerate(names[names.index(run) :]):
            if index:
                old = names[names.index(name) - 1]
                lines.append(json.dumps({"notice": "reset", "run": name, "old": old, "complete": True}).encode())
            ticks = [line for line in self.runs[name] if index or json.loads(line)["t"] > after][:left]
            left -= len(ticks)
            for line in ticks:
                lines += [line, b""] if json.loads(line)["t"] % 3 == 0 else [line]  # heartbeats in between
            if not left:
                break
        reason = "run" if left else "limit"
        lines.append(b'{"notice":"end","reason":"%b","position":null}' % reason.encode())
        return run, b"\n".join([*lines, b""])

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        run, body = self.body(dict(request.query))
        cut = next(self._cuts, None)
        response = web.StreamResponse(headers=NDJSON | {"Tick-Run": run})
        await response.prepare(request)
        await response.write(body[:cut])
        if cut is not None and cut < len(body):
            assert request.transport is not None
            request.transport.close() if cut % 2 else request.transport.abort()
        return response


@contextlib.asynccontextmanager
async def serving(handler: Any, path: str = "/ndjson", port: int = 0) -> AsyncIterator[str]:
    """Serve one route; gives the address without it."""
    app = web.Application()
    app.router.add_get(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def read_all(url: str, **options: Any) -> list[Item]:
    return [item async for item in read(url, **options)]


def ticks_of(items: list[Item]) -> list[tuple[str | None, bytes]]:
    return [(item.run, item.data) for item in items if isinstance(item, Tick)]


def notices_of(items: list[Item]) -> list[str]:
    return [item.name for item in items if isinstance(item, Notice) and item.name != "hello"]


def make_run(numbers: Iterable[int]) -> list[bytes]:
    return [b'{"t":%d,  "text":"\xc3\xbc %b"}' % (t, b"x" * (t % 40)) for t in sorted(numbers)]


runs_and_cuts = st.tuples(
    st.lists(st.sets(st.integers(0, 200), min_size=1, max_size=30), min_size=1, max_size=3),
    st.lists(st.integers(0, 1500), max_size=12),
)


@settings(deadline=None, max_examples=60)
@given(runs_and_cuts, st.integers(-1, 200), st.booleans())
def test_every_tick_once_over_broken_connections(
    drawn: tuple[list[set[int]], list[int]], start: int, limited: bool
) -> None:
    runs = {f"run{i}": make_run(numbers) for i, numbers in enumerate(drawn[0])}
    expected = [(name, line) for name, lines in runs.items() for line in lines]
    expected = [(name, line) for name, line in expected if name != "run0" or json.loads(line)["t"] > start]
    limit = max(len(expected) // 2, 1) if limited else None

    async def go() -> list[Item]:
        async with serving(FakeGateway(runs, drawn[1]).handle) as url:
            return await asyncio.wait_for(read_all(url, start=f"run0:{start}", limit=limit, retry=True), PATIENCE)

    items = asyncio.run(go())
    assert ticks_of(items) == expected[:limit]
    if limit is None:  # a notice that came is not told twice either
        assert notices_of(items) == ["reset"] * (len(runs) - 1) + ["end"]


async def test_the_limit_counts_over_all_connections() -> None:
    fake = FakeGateway({"a": make_run(range(10))}, [150, 150])
    async with serving(fake.handle) as url:
        items = await read_all(url, start="a:-1", limit=8, params={"every": "1"})
    counts = [int(query["limit"]) for query in fake.queries]
    assert len(ticks_of(items)) == 8
    assert counts[0] == 8 and counts == sorted(set(counts), reverse=True)
    for query in fake.queries:
        assert query["hello"] == "1" and query["every"] == "1" and query["heartbeat"] == "15"
    reached = [8 - count - 1 for count in counts]
    assert [query["from_t"] for query in fake.queries] == [f"a:{t}" for t in reached]


class Script:
    """Answers the n-th request with the n-th of ``answers``: lines, and then it breaks off or stays silent."""

    def __init__(self, *answers: list[bytes] | web.Response, silent: int | None = None, run: str | None = None) -> None:
        self.queries: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self._answers, self._silent = answers, silent
        self._run = run
        self._asked_again = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        number = len(self.queries)
        if number:
            self._asked_again.set()
        self.queries.append(dict(request.query))
        self.headers.append(dict(request.headers))
        answer = self._answers[min(number, len(self._answers) - 1)]
        if isinstance(answer, web.Response):
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        response = web.StreamResponse(headers=NDJSON | ({"Tick-Run": self._run} if self._run else {}))
        await response.prepare(request)
        await response.write(b"".join(line + b"\n" for line in answer))
        if number == self._silent:
            await self._asked_again.wait()
        return response


END = b'{"notice":"end","reason":"run","position":"a:9"}'
SHUTDOWN = b'{"notice":"end","reason":"shutdown","position":null}'


def hello(run: str | None, tip: int | None = 9) -> bytes:
    return json.dumps({"notice": "hello", "run": run, "first": 0, "tip": tip}).encode()


@pytest.mark.parametrize(
    ("first_answer", "start", "params", "comes_back_with"),
    [
        pytest.param([hello(None, None), hello("b"), b'{"t":3}'], None, {}, "b:3", id="run named late"),
        pytest.param([hello("b"), b'{"t":3}'], None, {"tail": "5"}, "b:3", id="position replaces tail"),
        pytest.param([hello("b")], None, {"tail": "5"}, None, id="nothing came: asks the same again"),
        pytest.param([hello("b", 7)], None, {"tail": "0"}, "b:7", id="new ticks alone: from the tip it was told"),
        pytest.param([hello("b")], "4", {}, "b:4", id="a bare position becomes one of the run"),
        pytest.param([hello("b"), b'{"t":3}'], "a:1", {}, "a:3", id="its own run goes on until a reset"),
        pytest.param(
            [hello("b"), b'{"notice":"reset","run":"b","old":"a","complete":false}'], "a:1", {}, "b:-1", id="reset"
        ),
        pytest.param([hello("a"), b'{"notice":"gap","run":"a","after":1,"next":9}'], "a:1", {}, "a:8", id="gap"),
        pytest.param(
            [hello("a"), b'{"notice":"gap","run":"a","after":1,"next":null}'], "a:1", {}, "a:1", id="gap to the end"
        ),
        pytest.param([hello("a"), b'{"t":2}', SHUTDOWN], "a:1", {}, "a:2", id="shutdown"),
        pytest.param([hello("a"), b'{"notice":"of the future"}', b'{"t":5}'], None, {}, "a:5", id="unknown notice"),
        pytest.param(
            [hello("a"), b'{"notice":"reset","run":"x","t":5}'], None, {}, "a:5", id="a tick that looks like one"
        ),
    ],
)
async def test_position(
    first_answer: list[bytes], start: str | None, params: dict[str, str], comes_back_with: str | None
) -> None:
    script = Script(first_answer, [END])
    async with serving(script.handle) as url:
        items = await read_all(url, start=start, params=params)
    assert [item.data for item in items] == [*first_answer, END]
    assert script.queries[1].get("from_t") == comes_back_with
    assert script.queries[1].get("tail") == (params.get("tail") if comes_back_with is None else None)


async def test_the_header_names_the_run() -> None:
    script = Script([b'{"t":3}'], [END], run="a")
    async with serving(script.handle) as url:
        items = await read_all(url)
    assert items[0] == Tick(3, "a", b'{"t":3}')
    assert script.queries[1]["from_t"] == "a:3"


async def test_a_silent_connection_is_given_up() -> None:
    script = Script([hello("a"), b'{"t":3}'], [END], silent=0)
    told: list[str] = []
    async with serving(script.handle) as url:
        items = await asyncio.wait_for(read_all(url, heartbeat=0.05, status=told.append), PATIENCE)
    assert [item.data for item in items] == [hello("a"), b'{"t":3}', END]
    assert script.queries[1]["from_t"] == "a:3"
    assert len(told) == 1 and "no sign of life in time; trying again in" in told[0]


@pytest.mark.parametrize(("status", "kind"), [(400, BadUsage), (401, Failure), (403, Failure), (404, Failure)])
async def test_a_refusal_ends_it_with_the_gateways_own_words(status: int, kind: type[Failure]) -> None:
    refusal = web.json_response({"error": "x", "message": "tail contradicts from_t"}, status=status)
    script = Script(refusal)
    async with serving(script.handle) as url:
        with pytest.raises(kind, match=rf"http://{url} answered {status}: tail contradicts from_t") as caught:
            await read_all(url, retry=True)
    assert caught.value.status == status and len(script.queries) == 1


async def test_a_refusal_on_the_way_ends_it_too() -> None:
    script = Script([b'{"t":1}'], web.Response(status=404, text="Not Found\nno such thing"))
    async with serving(script.handle) as url:
        with pytest.raises(Failure, match="answered 404: Not Found$"):
            await read_all(url)


@pytest.mark.parametrize("first", [True, False], ids=["at first", "on the way"])
async def test_a_run_that_a_gateway_does_not_know_yet_is_waited_for(first: bool) -> None:
    unknown = web.json_response({"error": "not_found", "message": "no run a is known"}, status=404)
    answers: list[list[bytes] | web.Response] = [[b'{"t":1}'], unknown, unknown, [b'{"t":2}', END]]
    script = Script(*answers[first:], run="a")
    told: list[str] = []
    async with serving(script.handle) as url:
        items = await read_all(url, params={"run": "a"}, retry=first, status=told.append)
    assert [item.data for item in items] == [b'{"t":1}', b'{"t":2}', END][first:]
    assert sum("answered 404: no run a is known; trying again" in line for line in told) == 2


async def test_overloaded_now_or_on_the_way() -> None:
    busy = web.Response(status=503, headers={"Retry-After": "0"}, text="full")
    async with serving(Script(busy, [END]).handle) as url:
        with pytest.raises(Failure, match="cannot reach .* 503: full"):
            await read_all(url)
    script = Script(busy, [b'{"t":1}'], busy, [END])
    told: list[str] = []
    async with serving(script.handle) as url:
        items = await read_all(url, retry=True, status=told.append)
    assert [item.data for item in items] == [b'{"t":1}', END]
    assert len(script.queries) == 4 and len(told) == 3


async def test_batch_is_not_read() -> None:
    with pytest.raises(BadUsage, match="batch"):
        await read_all("127.0.0.1:1", params={"batch": "3"})


@pytest.mark.parametrize(
    ("address", "connected", "told"),
    [
        ("localhost", False, True),
        ("localhost", True, False),
        ("localhost:80", False, False),
        ("https://localhost", False, False),
    ],
)
def test_who_forgot_the_port_is_told_which_one_was_tried(address: str, connected: bool, told: bool) -> None:
    lost = lost_to(endpoint(address, "meta"), ConnectionRefusedError(111, "Connection refused"), connected)
    assert ("port 80, as none is named; a gateway's own is 8000" in str(lost)) is told


async def test_unreachable() -> None:
    with pytest.raises(Failure, match=r"cannot reach http://127\.0\.0\.1:\d+: Connection refused"):
        await read_all(f"127.0.0.1:{free_port()}")


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await reader.read()
    writer.close()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never comes to the end of an answer's head."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    with contextlib.suppress(OSError):
        while not reader.at_eof():
            writer.write(b"X-More: of it\r\n")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1 << 16), 0.02)
    writer.close()


@pytest.mark.parametrize("answer", [mute, drip])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_port_that_never_answers(answer: Any, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However rarely signs of life are asked for."""
    monkeypatch.setattr(reader_module, "HEAD_SECONDS", 0.5)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Failure, match=f"cannot reach {url}: (no sign of life in time|no TLS is spoken there)"):
            await asyncio.wait_for(read_all(url, heartbeat=3600), PATIENCE)


NO_GATEWAYS = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", "what answers there is no HTTP"),
    "an endless line": (b"HTTP/1.1 200 " + b"x" * 100_000, "what answers there is no HTTP"),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /\r\nConnection: close\r\n\r\n", "redirects without end"),
    "a broken answer": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\n<html>", "answered 404"),
}


@pytest.mark.parametrize("name", NO_GATEWAYS)
@pytest.mark.parametrize("asking", ["cat", "publish", "bench"])
def test_what_is_no_gateway_is_told_in_one_line(command: Command, asking: str, name: str) -> None:
    answer, words = NO_GATEWAYS[name]

    class Say(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while self.rfile.readline() not in (b"\r\n", b""):
                    pass
                self.wfile.write(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Say) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        ended = command(asking, *(["--url", url] if asking == "bench" else [url]), stdin='{"t":0}\n')
        server.shutdown()
    assert ended.out == "" and len(ended.err.splitlines()) == 1, ended
    assert ended.code == (2 if asking == "bench" else 1)
    if asking != "bench":
        assert words in ended.err


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "the connection was closed|Connection reset by peer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no TLS is spoken there; http:// may be meant"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no TLS is spoken there; http:// may be meant"),
        (bytes.fromhex("15030100020228"), "the TLS handshake failed: sslv3 alert handshake failure"),
        (bytes.fromhex("15030300020250"), "the TLS handshake failed: tlsv1 alert internal error"),
    ],
)
async def test_a_handshake_that_fails_says_why(answer: bytes, words: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Failure, match=f"cannot reach {url}: ({words})$"):
            await asyncio.wait_for(read_all(url), PATIENCE)


async def test_retry_waits_for_a_gateway_that_comes_late() -> None:
    port, tried = free_port(), asyncio.Event()
    reading = asyncio.create_task(read_all(f"127.0.0.1:{port}", retry=True, status=lambda line: tried.set()))
    await asyncio.wait_for(tried.wait(), PATIENCE)
    async with serving(Script([END]).handle, port=port):
        assert [item.data for item in await asyncio.wait_for(reading, PATIENCE)] == [END]


@pytest.mark.parametrize(
    ("line", "words"),
    [(b"<html>", "no JSON"), (b"[1]", "no JSON object"), (b'{"x":1}', "neither"), (b'{"t":1.5}', "neither")],
)
async def test_nonsense_is_told_as_such(line: bytes, words: str) -> None:
    async with serving(Script([line]).handle) as url:
        with pytest.raises(Failure, match=words):
            await read_all(url)


async def test_another_server() -> None:
    async with serving(Script(web.Response(text="<html>", content_type="text/html")).handle) as url:
        with pytest.raises(Failure, match="is no tick-gateway: it answered with text/html"):
            await read_all(url)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":"x","message":"said by a gateway"}', "said by a gateway"),
        (b"one line\nand another", "one line"),
        (
            b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502</h1></body></html>",
            "502 Bad Gateway",
        ),
        (
            b"<html><body><h1>503 Service\n Unavailable</h1>\nNo server is available.\n</body></html>",
            "503 Service Unavailable",
        ),
        (b"<title>&lt;none&gt;</title>", "<none>"),
        (b"<p>nothing", ""),
        (b"", ""),
    ],
)
def test_what_an_error_says(body: bytes, words: str) -> None:
    assert message_of(body) == words


async def test_the_token_is_sent() -> None:
    script = Script([END])
    async with serving(script.handle) as url:
        await read_all(url, token="secret")
    assert script.headers[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8000", "http://localhost:8000/ndjson"),
        ("127.0.0.1:1", "http://127.0.0.1:1/ndjson"),
        ("http://host/", "http://host/ndjson"),
        ("https://host/ticks/", "https://host/ticks/ndjson"),
        ("https://host/ticks/ndjson?key=1%202#x", "https://host/ticks/ndjson?key=1+2"),
        ("ws://host:81", "http://host:81/ndjson"),
        ("wss://host", "https://host/ndjson"),
        ("[::1]:8000", "http://[::1]:8000/ndjson"),
        ("localhost:8000/sse", "http://localhost:8000/ndjson"),
        ("ws://host:81/ws/stream", "http://host:81/ndjson"),
        ("https://host/ticks/publish", "https://host/ticks/ndjson"),
        ("https://host/stream", "https://host/stream/ndjson"),
    ],
)
def test_addresses(url: str, expected: str) -> None:
    assert str(endpoint(url, "/ndjson")) == expected


@pytest.mark.parametrize("url", ["", "http://", "ftp://host", "host:port", "host:99999", "http://[::1", ":8000"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadUsage, match="is no address of a gateway"):
        endpoint(url, "/ndjson")


def test_waits_grow_to_a_cap_and_start_over() -> None:
    backoff = Backoff(0.2, 3.0)
    bounds = [0.2, 0.4, 0.8, 1.6, 3.0, 3.0]
    for bound in bounds:
        assert bound / 2 <= backoff.next() <= bound
    backoff.reset()
    assert backoff.next() <= 0.2


@given(st.text())
def test_any_start_is_kept_or_left_to_the_gateway(start: str) -> None:
    position = Track(start).position
    assert position is None or position.rpartition(":")[2].removeprefix("-").isdecimal()


# ---- the command, and the real gateway ----


def cat(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tick_gateway", "cat", *arguments]


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command with pipes that nobody reads unless the test does; it ends with the test, however that ends."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    with subprocess.Popen(cat(*arguments), cwd=ROOT, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_of(numbers: Iterable[int]) -> list[str]:
    return [f'{{"t":{t}, "x":{{"y": {t}.50}}, "text":"ü{"x" * (t % 50)}"}}' for t in numbers]


def test_cat_writes_every_tick_byte_for_byte_through_a_network_that_fails() -> None:
    lines = lines_of(range(3000))
    cuts = sorted(random.Random(1).sample(range(1000, 250_000), 12))
    with GatewayProcess("serve") as gateway, Network(gateway.port) as network:
        proxy = network.proxy(cuts)
        publish(gateway.url, lines[:1000], run="a")
        with Running(cat(proxy.url, "--from", "a:-1", "--limit", "4000")) as reading:
            for at in range(1000, 3000, 100):
                publish(gateway.url, lines[at : at + 100], run="a")
            publish(gateway.url, lines[:1000], run="b")
            code = reading.wait()
        assert code == 0, reading.report()
        assert reading.stdout.lines == lines + lines[:1000]
        assert proxy.cut > 5
        notices = [json.loads(line) for line in reading.stderr.lines if line.startswith("{")]
        assert notices == [{"notice": "reset", "run": "b", "old": "a", "complete": True}]
        assert "Traceback" not in reading.stderr.text


def test_cat_passes_views_on_and_shows_ticks_at_once() -> None:
    with GatewayProcess("serve") as gateway:
        publish(gateway.url, lines_of(range(5)))
        options = ["--from", "-1", "--fields", "x.y", "--every", "2", "--stamp"]
        with Running(cat(gateway.url, *options)) as reading:
            for last in (4, 6, 8):  # each is there while the stream goes on and stands still
                if last > 4:
                    publish(gateway.url, lines_of([last]))
                assert len(reading.stdout.more(last // 2)) == 1, reading.report()
            shown = [json.loads(line) for line in reading.stdout.lines]
        assert [tick["data"] for tick in shown] == [{"t": t, "x": {"y": t + 0.5}} for t in range(0, 10, 2)]


def test_cat_goes_on_over_a_restart_of_the_gateway() -> None:
    with GatewayProcess("serve") as first, Network(first.port) as network:
        publish(first.url, lines_of(range(3)), run="a")
        with Running(cat(network.proxy().url, "--from", "a:-1")) as reading:
            assert reading.stdout.wait(lambda lines: len(lines) == 3), reading.report()
            assert first.terminate() == 0
            with GatewayProcess("serve") as second:
                network.target = second.port
                publish(second.url, lines_of(range(2)), run="b")
                assert reading.stdout.wait(lambda lines: len(lines) == 5), reading.report()
        assert reading.stdout.lines == [*lines_of(range(3)), *lines_of(range(2))]
        assert '"reason":"shutdown"' in reading.stderr.text and '"complete":false' in reading.stderr.text


def test_cat_tells_notices_where_they_stand() -> None:
    """Both outputs in one place: a gap before the ticks behind it, and a reset between two runs."""
    lines = lines_of(range(100))
    with GatewayProcess("serve", "--ring", "20") as gateway:
        publish(gateway.url, lines[:90], run="a")
        publish(gateway.url, lines[:10], run="b")
        command = [*cat(gateway.url, "--from", "a:5", "--limit", "20")]
        with Running(["sh", "-c", 'exec "$@" 2>&1', "sh", *command]) as reading:
            assert reading.wait() == 0, reading.report()
    gap, *rest = reading.stdout.lines
    assert json.loads(gap) == {"notice": "gap", "run": "a", "after": 5, "next": 80}
    reset = json.loads(rest.pop(10))
    assert (reset["notice"], reset["run"]) == ("reset", "b")
    assert rest == [*lines[80:90], *lines[:10]]


def test_cat_waits_for_a_run_that_a_restarted_gateway_does_not_know_yet() -> None:
    lines = lines_of(range(6))
    with (
        GatewayProcess("serve") as first,
        Network(first.port) as network,
        Running(cat(network.proxy().url, "--run", "a", "--retry")) as reading,
    ):
        assert reading.stderr.find("answered 404: no run a is known; see /runs; trying again"), reading.report()
        publish(first.url, lines[:1], run="a")
        assert reading.stdout.wait(lambda lines: len(lines) == 1), reading.report()
        publish(first.url, lines[1:3], run="a")
        assert reading.stdout.wait(lambda lines: len(lines) == 3), reading.report()
        assert first.terminate() == 0
        with GatewayProcess("serve") as second:
            told = len(reading.stderr.lines)
            network.target = second.port
            assert reading.stderr.wait(lambda lines: any("answered 404" in line for line in lines[told:]))
            publish(second.url, lines[3:], run="a")
            assert reading.stdout.wait(lambda lines: len(lines) == 6), reading.report()
            publish(second.url, lines[:1], run="b")  # ends the run
            assert reading.wait() == 0, reading.report()
    assert reading.stdout.lines == lines


TLS = [
    (["--cacert", "HERE"], "here", 0, ""),
    (["--insecure"], "here", 0, ""),
    (["--cacert", "ELSEWHERE"], "elsewhere", 1, "its certificate is not accepted: .*IP address mismatch"),
    (["--insecure"], "elsewhere", 0, ""),
    (["--cacert", "EXPIRED"], "expired", 1, "its certificate is not accepted: certificate has expired$"),
    ([], "here", 1, "its certificate is not accepted: self-signed certificate; --cacert names whom to trust"),
    (["--retry"], "here", 1, "its certificate is not accepted: self-signed certificate; --cacert names whom to trust"),
    (["--insecure"], "plain", 1, "no TLS is spoken there"),
    (["--cacert", "nowhere.pem"], "here", 2, "--cacert: nowhere.pem: No such file or directory"),
    (["--cacert", "README.md"], "here", 2, "--cacert: README.md holds no certificate; accepted: PEM"),
    (["--cacert", "HERE", "--insecure"], "here", 2, "--cacert contradicts --insecure"),
]
"""Flags, whose certificate the gateway shows, and how a command ends."""


class Secured(NamedTuple):
    """A gateway behind TLS with each certificate; ``files``: where these lie."""

    gateway: GatewayProcess
    urls: dict[str, str]
    files: dict[str, str]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    here = tls.certificate(folder, "IP:127.0.0.1", name="here")
    elsewhere = tls.certificate(folder, "DNS:elsewhere.example", name="elsewhere")
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess("serve", "--publish-token", "t"))
        urls = {"plain": gateway.url.replace("http://", "https://")}
        expired = tls.expired(folder, "IP:127.0.0.1")
        for name, file in (("here", here), ("elsewhere", elsewhere), ("expired", expired)):
            urls[name] = stack.enter_context(Network(gateway.port, tls=tls.serving(file))).proxy().url
        yield Secured(gateway, urls, {"HERE": str(here), "ELSEWHERE": str(elsewhere), "EXPIRED": str(expired)})


@pytest.mark.parametrize(
    ("name", "flags", "shown", "code", "words"),
    [*(("cat", *case) for case in TLS), *(("publish", *TLS[i]) for i in (0, 2, 6, 10))],
)
def test_tls(
    secured: Secured, command: Command, name: str, flags: list[str], shown: str, code: int, words: str
) -> None:
    filled = [secured.files.get(flag, flag) for flag in flags]
    more = ["--from", "-1", "--limit", "1"] if name == "cat" else ["--token", "t"]
    tick = '{"t":5}'
    if name == "cat" and not code:
        assert command("publish", secured.gateway.url, "--token", "t", stdin=tick).code == 0
    ended = command(name, secured.urls[shown], *filled, *more, stdin=tick)
    assert ended.code == code, ended
    assert re.search(words, ended.err.rstrip()), ended
    assert ended.out.splitlines() == ([tick] if name == "cat" and not code else [])
    told = ended.err.splitlines()
    if code:
        assert len(told) == 1
    elif name == "publish":
        assert told[-1].startswith("1 tick published")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["http://"], 2, "is no address"),
        (["URL", "--from", "nonsense"], 2, "'nonsense' is no position"),
        (["URL", "--every", "0"], 2, "every"),
        (["URL", "--from", "a:1", "--tail", "1"], 2, "contradicts"),
        (["URL", "--run", "unknown"], 1, "answered 404"),
        (["URL/nowhere"], 1, "answered 404"),
        (["127.0.0.1:NOBODY"], 1, "Connection refused"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(command: Command, arguments: list[str], code: int, words: str) -> None:
    with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
        url = f"http://127.0.0.1:{port_of(gateway)}"
        ended = command("cat", *(a.replace("URL", url).replace("NOBODY", str(free_port())) for a in arguments))
    assert (ended.code, ended.out) == (code, ""), ended
    assert len(ended.err.splitlines()) == 1 and words in ended.err, ended


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals as POSIX has them")
def test_cat_ends_quietly_when_its_reader_goes_even_between_ticks() -> None:
    with GatewayProcess("serve") as gateway:
        publish(gateway.url, lines_of([0]))
        with started(gateway.url) as reading:
            assert reading.stdout is not None and reading.stderr is not None
            assert json.loads(reading.stdout.readline())["t"] == 0
            reading.stdout.close()
            assert reading.wait(PATIENCE) == 0  # though no other tick ever came
            assert reading.stderr.read() == b""


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals as POSIX has them")
@pytest.mark.parametrize("stalled", [False, True], ids=["waiting", "reader stalled"])
def test_ctrl_c_ends_cat_quietly(stalled: bool) -> None:
    big = [json.dumps({"t": t, "pad": "x" * 10_000}) for t in range(100)]  # far more than a pipe holds
    with GatewayProcess("serve") as gateway:
        publish(gateway.url, big if stalled else lines_of([0]))
        with started(gateway.url, "--from", "-1") as reading:
            assert reading.stdout is not None and reading.stderr is not None
            assert reading.stdout.readline()
            reading.send_signal(signal.SIGINT)
            assert reading.wait(PATIENCE) == 130
            assert reading.stderr.read() == b""


def test_cat_into_a_file(tmp_path: Any) -> None:
    lines = lines_of(range(500))
    with GatewayProcess("serve") as gateway:
        publish(gateway.url, lines)
        with (tmp_path / "ticks").open("wb") as file:
            subprocess.run(cat(gateway.url, "--from", "-1", "--limit", "500"), stdout=file, check=True, cwd=ROOT)
    assert (tmp_path / "ticks").read_text(encoding="utf-8").splitlines() == lines


def test_a_slow_reader_gets_everything() -> None:
    lines = [json.dumps({"t": t, "pad": "x" * 2000}) for t in range(2000)]
    with GatewayProcess("serve") as gateway:
        publish(gateway.url, lines[:1])
        with started(gateway.url, "--from", "-1", "--limit", "2000") as reading:
            assert reading.stdout is not None
            got = [reading.stdout.readline()]
            for at in range(1, 2000, 500):
                publish(gateway.url, lines[at : at + 500])  # while nobody reads the pipe
            got += reading.stdout.readlines()
            assert reading.wait(PATIENCE) == 0
    assert [line.decode().rstrip("\n") for line in got] == lines

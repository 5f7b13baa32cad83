"""The reader: every tick once and in order, whatever breaks. The gateway here breaks at will."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.client import Failure, Notice, Tick, read
from tick_gateway.client import reader as reader_module
from tick_gateway.client.connection import Backoff
from tick_gateway.client.errors import BadUsage
from tick_gateway.client.reader import Item, Track

from ...support.gateway_process import PATIENCE, free_port

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


async def test_the_token_is_sent() -> None:
    script = Script([END])
    async with serving(script.handle) as url:
        await read_all(url, token="secret")
    assert script.headers[0]["Authorization"] == "Bearer secret"


@given(st.text())
def test_any_start_is_kept_or_left_to_the_gateway(start: str) -> None:
    position = Track(start).position
    assert position is None or position.rpartition(":")[2].removeprefix("-").isdecimal()

"""The publisher: every line arrives once, whatever breaks. The gateway here breaks at will."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.client import Failure, Publisher, PublishSummary
from tick_gateway.client import publisher as publisher_module
from tick_gateway.client.connection import Backoff
from tick_gateway.client.errors import BadUsage
from tick_gateway.client.window import Window
from tick_gateway.http import connection_handover as takeover
from tick_gateway.sources import websocket

from ...support.gateway_process import PATIENCE
from ...support.serving import serving as in_process


@pytest.fixture(autouse=True, scope="module")
def no_waiting() -> Iterator[None]:
    """Come back at once: how long to wait is ``Backoff``'s affair."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tick_gateway.client.connection.Backoff", lambda: Backoff(0.0, 0.0))
        yield


class FakeGateway:
    """Keeps what is published, acknowledges every ``group``-th message, and breaks off after so many messages.

    Attributes:
        runs: for each run in order of arrival, the messages by their t.
        doubles: how many came that were there already.
        open: messages that were taken and not acknowledged; ``most`` were at once.
        sent: the messages of each connection.
        breaks: the connections that it broke off.
    """

    def __init__(self, breaks: Iterable[int] = (), group: int = 1, code: int | None = None) -> None:
        self.runs: dict[str, dict[int, str]] = defaultdict(dict)
        self.doubles = self.open = self.most = self.breaks = 0
        self.sent: list[list[str]] = []
        self.headers: list[dict[str, str]] = []
        self._breaks, self._group, self._code = iter(breaks), group, code

    async def handle(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        run, left = self.runs[request.headers["Tick-Run"]], next(self._breaks, None)
        self.headers.append(dict(request.headers))
        self.sent.append([])
        self.open = 0
        if left == 0:
            return await self._break(request, ws)
        async for message in ws:
            assert message.type is WSMsgType.TEXT
            self.sent[-1].append(message.data)
            await self._take(ws, run, message.data)
            if len(self.sent[-1]) == left:
                return await self._break(request, ws)
        return ws

    async def _take(self, ws: web.WebSocketResponse, run: dict[int, str], data: str) -> None:
        t = json.loads(data)["t"]
        self.open += 1
        self.most = max(self.most, self.open)
        if run.get(t) == data:
            self.doubles += 1
        elif t in run:
            await ws.send_json({"error": "conflict", "t": t, "message": f"tick {t} differs"})
        run.setdefault(t, data)
        if self.open >= self._group or t == max(run):
            await self.answer(ws, t)

    async def answer(self, ws: web.WebSocketResponse, t: int) -> None:
        self.open = 0
        await ws.send_json({"ack": t})

    async def _break(self, request: web.Request, ws: web.WebSocketResponse) -> web.WebSocketResponse:
        self.breaks += 1
        if self._code is not None:
            await ws.close(code=self._code, message=b"because")
        else:
            assert request.transport is not None
            request.transport.abort()
        return ws


@contextlib.asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/ws/publish", handler)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def pieces(data: bytes, size: int = 50) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def tick(t: int) -> str:
    return json.dumps({"t": t, "text": "ü" * (t % 7)}, ensure_ascii=False)


def joined(lines: Iterable[str]) -> bytes:
    return "\n".join(lines).encode()


async def publish_all(publisher: Publisher, data: bytes) -> PublishSummary:
    return await asyncio.wait_for(publisher.publish(pieces(data)), PATIENCE)


def cut_into_runs(numbers: list[int]) -> list[list[int]]:
    runs: list[list[int]] = [[]]
    for t in numbers:
        if runs[-1] and t < runs[-1][-1]:
            runs.append([])
        runs[-1].append(t)
    return runs


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sets(st.integers(0, 60), min_size=1, max_size=20).map(sorted), min_size=1, max_size=3),
    st.lists(st.integers(0, 15), max_size=8),
    st.integers(1, 6),
    st.integers(1, 8),
    st.booleans(),
)
def test_every_line_once_over_broken_connections(
    parts: list[list[int]], breaks: list[int], window: int, group: int, compress: bool
) -> None:
    numbers = [t for part in parts for t in part]
    numbers = [t for i, t in enumerate(numbers) if i == 0 or t != numbers[i - 1]]
    fake = FakeGateway(breaks, group=min(group, window))

    async def go() -> PublishSummary:
        async with serving(fake.handle) as url:
            publisher = Publisher(url, run="a", retry=True, compress=compress, window=Window(max_ticks=window))
            return await publish_all(publisher, joined(map(tick, numbers)))

    summary = asyncio.run(go())
    expected = cut_into_runs(numbers)
    names = ["a", *[f"a-{i}" for i in range(2, len(expected) + 1)]]
    assert {name: list(run.values()) for name, run in fake.runs.items()} == {
        name: [tick(t) for t in run] for name, run in zip(names, expected, strict=True)
    }
    assert all(list(run) == sorted(run) for run in fake.runs.values())
    assert (summary.published, summary.refused, summary.runs) == (len(numbers), 0, names)
    assert summary.resent >= fake.doubles
    assert fake.most <= window
    for sent in fake.sent:  # within a connection nothing is sent twice, and all in order
        order = [json.loads(message)["t"] for message in sent]
        assert order == sorted(set(order))


class Silent(FakeGateway):
    """Takes and never acknowledges; ``taken`` is set once there are ``enough``."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.enough, self.taken = enough, asyncio.Event()

    async def answer(self, ws: web.WebSocketResponse, t: int) -> None:
        if self.open >= self.enough:
            self.taken.set()


async def test_reading_pauses_where_the_window_is_full() -> None:
    fake = Silent(enough=5)
    pulled = 0

    async def lines() -> AsyncGenerator[bytes, None]:
        nonlocal pulled
        for t in range(1000):
            pulled += 1
            yield f"{tick(t)}\n".encode()

    async with serving(fake.handle) as url:
        publisher = Publisher(url, window=Window(max_ticks=5))
        publishing = asyncio.create_task(publisher.publish(lines()))
        await asyncio.wait_for(fake.taken.wait(), PATIENCE)
        for _ in range(20):  # however often the loop goes round, no further line is asked for
            await asyncio.sleep(0)
        assert pulled == 6  # one more waits to get in
        assert fake.most == 5
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


async def test_a_gateway_that_acknowledges_nothing_counts_as_dead() -> None:
    class Recovers(FakeGateway):
        async def answer(self, ws: web.WebSocketResponse, t: int) -> None:
            if len(self.sent) > 2:
                await super().answer(ws, t)

    fake, told = Recovers(), list[str]()
    async with serving(fake.handle) as url:
        publisher = Publisher(url, ack_seconds=0.1, status=told.append)
        summary = await publish_all(publisher, joined(map(tick, range(3))))
    assert len(fake.sent) == 3 and summary.published == 3 and summary.resent == 6
    assert len(told) == 2 and "acknowledged nothing for 0.1 s; trying again" in told[0]


async def test_a_quiet_input_is_no_dead_gateway() -> None:
    fake, told = FakeGateway(), list[str]()
    go_on = asyncio.Event()

    async def slow() -> AsyncGenerator[bytes, None]:
        yield f"{tick(0)}\n".encode()
        await go_on.wait()
        yield tick(1).encode()

    async with serving(fake.handle) as url:
        publisher = Publisher(url, ack_seconds=0.02, status=told.append)
        publishing = asyncio.create_task(publisher.publish(slow()))
        asyncio.get_running_loop().call_later(0.2, go_on.set)  # ten times the patience
        summary = await asyncio.wait_for(publishing, PATIENCE)
    assert summary.published == 2 and len(fake.sent) == 1 and told == []


async def test_bad_lines_are_told_and_passed_over() -> None:
    told: list[str] = []
    lines = [tick(0), "nonsense", "", "[1]", '{"x":1}', '{"t":NaN}', '{"t":1.0}', '{"t":-1}', "\xff", '  {"t":1}\r']
    data = joined(lines).replace(b"\xc3\xbf", b"\xff") + b"\n"
    fake = FakeGateway()
    async with serving(fake.handle) as url:
        summary = await publish_all(Publisher(url, run="a", refused=told.append), data)
    assert list(fake.runs["a"].values()) == [tick(0), '{"t":1}']
    assert summary.published == 2 and summary.refused == 7
    assert [line.partition(":")[0] for line in told] == [f"line {n}" for n in (2, 4, 5, 6, 7, 8, 9)]
    assert "NaN and Infinity are no JSON" in told[3]


async def test_what_the_gateway_refuses_is_told_with_its_line_and_reason() -> None:
    told: list[str] = []
    fake = FakeGateway()
    fake.runs["a"] = {1: '{"t":1,"other":true}'}
    async with serving(fake.handle) as url:
        summary = await publish_all(Publisher(url, run="a", refused=told.append), joined(map(tick, range(4))))
    assert told == ["line 2: tick 1 differs"]
    assert (summary.published, summary.refused) == (3, 1)


async def test_the_same_t_again_is_the_gateways_to_judge() -> None:
    fake, told = FakeGateway(), list[str]()
    data = joined([tick(0), tick(0), '{"t":0,"other":true}', tick(1)])
    async with serving(fake.handle) as url:
        summary = await publish_all(Publisher(url, run="a", refused=told.append), data)
    assert fake.runs == {"a": {0: tick(0), 1: tick(1)}} and fake.doubles == 1
    assert told == ["line 3: tick 0 differs"] and summary.runs == ["a"]


async def test_nothing_to_publish() -> None:
    async with serving(FakeGateway().handle) as url:
        summary = await publish_all(Publisher(url, run="a"), b"\n\n")
    assert str(summary).startswith("0 ticks published to a in ") and str(summary).endswith(" s, 0 refused")


async def test_names_stay_within_64_characters() -> None:
    fake = FakeGateway()
    async with serving(fake.handle) as url:
        summary = await publish_all(Publisher(url, run="r" * 64), joined(map(tick, [5, 4, 3])))
    assert summary.runs == ["r" * 64, "r" * 62 + "-2", "r" * 62 + "-3"]


async def test_a_tick_that_is_too_big_does_not_stop_the_others() -> None:
    class Small(FakeGateway):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            ws = web.WebSocketResponse(max_msg_size=100)
            await ws.prepare(request)
            self.sent.append([])
            async for message in ws:
                await self._take(ws, self.runs["a"], message.data)
            return ws

    fake, told = Small(), list[str]()
    big = json.dumps({"t": 2, "pad": "x" * 200})
    lines = [tick(0), tick(1), big, tick(3)]
    async with serving(fake.handle) as url:
        summary = await publish_all(Publisher(url, run="a", refused=told.append), joined(lines))
    assert list(fake.runs["a"].values()) == [tick(0), tick(1), tick(3)]
    assert told == [f"line 3: its {len(big)} bytes are more than the gateway accepts"]
    assert (summary.published, summary.refused) == (3, 1)


async def test_policy_ends_it() -> None:
    async with serving(FakeGateway([1], code=1008).handle) as url:
        with pytest.raises(Failure, match=r"closed the connection \(1008 because\)"):
            await publish_all(Publisher(url, retry=True), tick(0).encode())


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
async def test_other_closes_do_not(code: int) -> None:
    fake, told = FakeGateway([1], group=5, code=code), list[str]()
    async with serving(fake.handle) as url:
        summary = await publish_all(Publisher(url, status=told.append), joined(map(tick, range(3))))
    assert summary.published == 3 and fake.breaks == 1
    assert f"({code} because); trying again" in told[0]


@pytest.mark.parametrize(("status", "words"), [(401, "token, please"), (403, "token, please"), (404, "token, please")])
async def test_a_refused_handshake_tells_the_gateways_words(status: int, words: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": "not_allowed", "message": "token, please"}, status=status)

    async with serving(refuse) as url:
        with pytest.raises(Failure, match=f"answered {status}: {words}"):
            await publish_all(Publisher(url, retry=True), tick(0).encode())


async def test_token_and_run_are_sent() -> None:
    fake = FakeGateway()
    async with serving(fake.handle) as url:
        await publish_all(Publisher(url, run="x.y", token="secret"), tick(0).encode())
    assert fake.headers[0]["Authorization"] == "Bearer secret"
    assert fake.headers[0]["Tick-Run"] == "x.y"


@pytest.mark.parametrize("compress", [False, True])
async def test_compression_is_offered_where_it_was_asked_for(compress: bool) -> None:
    fake = FakeGateway()
    async with serving(fake.handle) as url:
        await publish_all(Publisher(url, compress=compress), tick(0).encode())
    assert ("permessage-deflate" in fake.headers[0].get("Sec-WebSocket-Extensions", "")) == compress


@pytest.mark.parametrize("near", [False, True])
async def test_a_gateway_may_take_compressed_lines_or_not(near: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []

    def disable_compression(ws: web.WebSocketResponse) -> None:
        taken.append(bool(ws.compress))
        takeover.disable_compression(ws)

    monkeypatch.setattr(websocket, "is_near", lambda request: near)
    monkeypatch.setattr(websocket, "disable_compression", disable_compression)
    lines = [json.dumps({"t": t, "x": str(t) * (10_000 if t % 10 == 0 else 5)}) for t in range(300)]  # in a thread, too
    async with in_process() as gateway:
        publisher = Publisher(f"127.0.0.1:{gateway.port}", run="a", compress=True)
        summary = await publish_all(publisher, joined(lines))
        assert await gateway.ticks("a") == [line.encode() for line in lines]
    assert (summary.published, summary.refused, summary.resent) == (300, 0, 0)
    assert taken == [not near]


async def test_unreachable() -> None:
    with pytest.raises(Failure, match="cannot reach http://127.0.0.1:1: Connection refused"):
        await publish_all(Publisher("127.0.0.1:1"), tick(0).encode())


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("endless", [False, True], ids=["short input", "endless input"])
async def test_a_port_that_never_answers(scheme: str, endless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "HEAD_SECONDS", 0.3)

    async def lines() -> AsyncGenerator[bytes, None]:
        yield f"{tick(0)}\n".encode()
        if endless:
            await asyncio.Event().wait()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Failure, match=f"cannot reach {url}: no sign of life in time"):
            await asyncio.wait_for(Publisher(url).publish(lines()), PATIENCE)


async def test_the_input_fails() -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield tick(0).encode()
        raise OSError("the disk is gone")

    async with serving(FakeGateway().handle) as url:
        with pytest.raises(OSError, match="the disk is gone"):
            await asyncio.wait_for(Publisher(url).publish(broken()), PATIENCE)


@pytest.mark.parametrize("run", ["", "-a", "a b", "a" * 65, "ü"])
def test_what_is_no_run_id(run: str) -> None:
    with pytest.raises(BadUsage, match="no run id"):
        Publisher("localhost:1", run=run)

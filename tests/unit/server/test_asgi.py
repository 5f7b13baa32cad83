"""The gateway on an ASGI server: mounted on FastAPI under a real uvicorn, every transport below its path; and what the
application says by itself."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import zstandard

from tests.support.aiohttp_readers import READERS
from tick_gateway import Gateway
from tick_gateway.errors import NotServing
from tick_gateway.model.notices import EndReason
from tick_gateway.server.asgi import AsgiApp, Message, Scope

from ...support import needs
from ...support.blocking_client import Peer, request
from ...support.gateway_process import PATIENCE, ROOT, Running
from ...support.markdown import DOCS, blocks

APP = """
from fastapi import FastAPI
from tick_gateway import Gateway
gateway = Gateway(drain_timeout=1.0)
app = FastAPI()
app.get("/own")(lambda: "mine")

@app.middleware("http")  # which hands on wrapped receive and send
async def mark(request, call_next):
    answer = await call_next(request)
    answer.headers["Marked"] = "1"
    return answer

app.mount("/sim", gateway.asgi())
alone = gateway.asgi()
"""


class Uvicorn(Running):
    """A program of FastAPI's as its users start it, on a port that the system picks."""

    def __init__(self, folder: Path, text: str, name: str = "app", *flags: str) -> None:
        needs.module("uvicorn")
        needs.module("fastapi")
        (folder / "simulation.py").write_text(text)
        command = [sys.executable, "-m", "uvicorn", f"simulation:{name}", "--app-dir", str(folder), "--port", "0"]
        super().__init__([*command, *flags], env={"PYTHONPATH": str(ROOT)})
        found = self.stderr.find(r"running on (http://127\.0\.0\.1:\d+)")
        if found is None:
            self.kill()
            raise AssertionError(self.report())
        self.url = found[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Uvicorn]:
    flags = ("--timeout-graceful-shutdown", "1")
    with Uvicorn(tmp_path_factory.mktemp("app"), APP, "app", *flags) as process:
        yield process
        assert process.terminate() in (0, -signal.SIGTERM), process.report()
        assert "Traceback" not in process.stderr.text, process.report()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=1 << 16) as session:
        yield session


async def publish(session: aiohttp.ClientSession, url: str, run: str, ts: range) -> list[Any]:
    """Publish a run of its own through the application."""
    ticks = [{"t": t, "run_of": run, "x": t / 8, "s": "ü/\u2028"} for t in ts]
    body = "".join(json.dumps(tick) + "\n" for tick in ticks).encode()
    async with session.post(f"{url}/publish", data=body, headers={"Tick-Run": run}) as answer:
        counts = await answer.json()
        assert (answer.status, counts["accepted"]) == (200, len(ticks)), counts
    return ticks


async def connections(session: aiohttp.ClientSession, url: str, wanted: int) -> None:
    """Return when so many readers are connected."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with session.get(f"{url}/meta") as answer:
                if (await answer.json())["connections"] == wanted:
                    return


@pytest.mark.parametrize("name", READERS)
async def test_each_transport_below_its_path(server: Uvicorn, session: aiohttp.ClientSession, name: str) -> None:
    url = f"{server.url}/sim"
    ticks = await publish(session, url, f"all-{name}", range(50))
    assert await READERS[name](session, url, 50) == ticks


async def test_live_ticks_come_as_they_are_published(server: Uvicorn, session: aiohttp.ClientSession) -> None:
    url = f"{server.url}/sim"
    await publish(session, url, "live", range(1))
    async with (
        session.get(f"{url}/sse?tail=0&hello=1", headers={"Accept-Encoding": "identity"}) as sse,
        session.get(f"{url}/?tail=0&hello=1", headers={"Accept-Encoding": "identity"}) as ndjson,
        session.ws_connect(f"{url.replace('http', 'ws', 1)}/ws/stream?tail=0&hello=1") as ws,
    ):
        assert sse.headers["Tick-Run"] == ndjson.headers["Tick-Run"] == "live"
        assert ws._response.headers["Tick-Run"] == "live"
        assert sse.headers["Access-Control-Allow-Origin"] == "*"
        assert b"hello" in await ndjson.content.readline() and (await ws.receive_json())["notice"] == "hello"
        await connections(session, url, 3)
        for t in range(1, 5):
            [tick] = await publish(session, url, "live", range(t, t + 1))
            assert json.loads(await ndjson.content.readline()) == tick
            assert await ws.receive_json() == tick
            while not (line := await sse.content.readline()).startswith(b"data: {") or b"hello" in line:
                continue
            assert json.loads(line[6:]) == tick
        await ws.send_json({"op": "ping", "id": 7})
        assert await ws.receive_json() == {"pong": 7, "tip": 4}
    await connections(session, url, 0)  # who leaves there is gone here


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("path", ["ndjson?from_t=RUN:-1&limit=50", "range?run=RUN", "incremental?from_t=RUN:-1"])
async def test_compressed_once(server: Uvicorn, coding: str, path: str) -> None:
    url, run = f"{server.url}/sim", f"{coding}-{path.partition('?')[0]}"
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        ticks = await publish(session, url, run, range(50))
        address = f"{url}/{path.replace('RUN', run)}"
        async with session.get(address, headers={"Accept-Encoding": coding}) as answer:
            assert answer.headers["Content-Encoding"] == coding
            data = await answer.read()
    zstd = zstandard.ZstdDecompressor()
    plain = gzip.decompress(data) if coding == "gzip" else zstd.stream_reader(data, read_across_frames=True).read()
    text = plain.decode()
    got = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.split("\n") if line]
    assert [tick for tick in got if "t" in tick] == ticks


async def test_answers_are_the_gateways_own(server: Uvicorn, session: aiohttp.ClientSession) -> None:
    url = f"{server.url}/sim"
    await publish(session, url, "answers", range(3))
    async with session.get(f"{server.url}/own") as answer:
        assert await answer.json() == "mine"
    async with session.get(f"{url}/poll?every=0") as answer:
        assert (answer.status, (await answer.json())["parameter"]) == (400, "every")
        assert answer.headers["Marked"] == "1"
    async with session.get(f"{url}/nothing") as answer:
        assert (answer.status, (await answer.json())["error"]) == (404, "not_found")
    async with session.get(f"{url}/ticks/2") as answer:
        assert (answer.status, (await answer.json())["t"]) == (200, 2)
    async with session.get(f"{url}/incremental?from_t=answers:0") as answer:
        assert answer.headers["Tick-Next"] == "answers:2"
        assert str(answer.links["next"]["url"]).startswith(f"{url}/incremental?from_t=answers:2")
    async with session.head(f"{url}/latest") as answer:
        assert answer.status == 200 and int(answer.headers["Content-Length"]) > 10 and await answer.read() == b""
    async with session.options(f"{url}/sse", headers={"Origin": "http://example.org"}) as answer:
        assert answer.status == 204 and "GET" in answer.headers["Access-Control-Allow-Methods"]
    async with session.get(url, headers={"Accept": "application/json"}) as answer:  # led on to the slash
        links = (await answer.json())["links"]
        assert str(answer.url) == f"{url}/" and links["meta"] == f"{url}/meta"
    async with session.get(links["meta"]) as answer:
        assert (await answer.json())["run"] == "answers"
    async with session.get(f"{url}/", headers={"Accept": "text/html"}) as answer:
        assert answer.content_type == "text/html"
    async with session.get(f"{url}/poll?last_t=answers:2&timeout=0") as answer:
        assert (await answer.json())["status"] == "timeout"
        assert len(answer.headers.getall("Date")) == 1


async def test_websockets_end_as_the_gateway_says(server: Uvicorn, session: aiohttp.ClientSession) -> None:
    url = f"{server.url}/sim"
    await publish(session, url, "ends", range(3))
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await session.ws_connect(f"{url}/ws/stream?every=0")
    assert refused.value.status == 400
    async with session.ws_connect(f"{url}/ws/stream?from_t=-1&limit=2") as ws:
        assert [(await ws.receive_json()).get("t") for _ in range(3)] == [0, 1, None]
        assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE and ws.close_code == 1000
    async with session.ws_connect(f"{url}/ws/stream?tail=0") as ws:
        for _ in range(10):
            await ws.send_str("nonsense")
            assert "error" in await ws.receive_json()
        closed = await ws.receive()
        assert (closed.data, closed.extra) == (1008, "too many bad commands, at ends:2") or closed.data == 1008
    async with session.ws_connect(f"{url}/ws/publish?run=by-ws") as ws:
        for t in range(3):
            await ws.send_str(f'{{"t":{t}}}')
        while (await ws.receive_json()) != {"ack": 2}:
            continue
        await ws.send_bytes(b"[]")
        assert (await ws.receive_json())["error"] == "malformed"


async def test_a_body_that_does_not_end_is_published_as_it_comes(
    server: Uvicorn, session: aiohttp.ClientSession
) -> None:
    url = f"{server.url}/sim"
    await publish(session, url, "before", range(1))
    more = asyncio.Queue[bytes]()

    async def body() -> AsyncIterator[bytes]:
        while piece := await more.get():
            yield piece

    async with session.get(f"{url}/ndjson?tail=0&hello=1", headers={"Accept-Encoding": "identity"}) as stream:
        await stream.content.readline()
        headers = {"Tick-Run": "endless"}
        posting = asyncio.create_task(session.post(f"{url}/publish", data=body(), headers=headers).__aenter__())
        for t in range(3):
            more.put_nowait(b'{"t":%d}\n' % t)
            while json.loads(line := await stream.content.readline()).get("t") != t:
                assert b"notice" in line
        more.put_nowait(b"")
        answer = await posting
        assert (await answer.json())["accepted"] == 3


async def test_a_reader_that_stalls_costs_nobody_a_tick(server: Uvicorn, session: aiohttp.ClientSession) -> None:
    """What it does not read waits in the gateway's memory, not in the application's."""
    url = f"{server.url}/sim"
    await publish(session, url, "stalled", range(1))
    headers = {"Accept-Encoding": "identity"}
    async with (
        session.get(f"{url}/ndjson?from_t=stalled:0", headers=headers) as stalled,
        session.get(f"{url}/ndjson?from_t=stalled:0&limit=2000", headers=headers) as other,
    ):
        body = b"".join(b'{"t":%d,"pad":"%s"}\n' % (t, b"x" * 10_000) for t in range(1, 2001))
        async with session.post(f"{url}/publish", data=body, headers={"Tick-Run": "stalled"}) as answer:
            assert (await answer.json())["accepted"] == 2000
        for reader in (other, stalled):
            got = 0
            while got < 2000:
                got += 1
                assert json.loads(await reader.content.readline())["t"] == got


async def test_who_may_publish(server: Uvicorn, session: aiohttp.ClientSession) -> None:
    url = f"{server.url}/sim"
    for headers in (
        {"Origin": server.url},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Host": "example.org"},
        {"Via": "1.1 x"},
    ):
        for path in ("publish", "runs/x/end"):
            async with session.post(f"{url}/{path}", data=b'{"t":1}', headers=headers) as answer:
                assert (answer.status, (await answer.json())["error"]) == (403, "not_allowed"), headers


# ---- the application by itself ----


@asynccontextmanager
async def mounted(**settings: Any) -> AsyncIterator[tuple[Gateway, AsgiApp]]:
    gateway = Gateway(**settings)
    app = gateway.asgi()
    try:
        yield gateway, app
    finally:
        await asyncio.to_thread(gateway.close)


async def call(app: AsgiApp, path: str, *, root: str = "", method: str = "GET", body: bytes = b"", **more: Any) -> Any:
    """One HTTP request, as a server makes it; gives the status, the body, and whether the answer was ended."""
    host = (b"host", b"localhost:8000")
    length = [(b"content-length", str(len(body)).encode())] if body else []
    scope: Scope = {
        "type": "http", "method": method, "path": path, "root_path": root, "query_string": b"",
        "headers": [host, *length], "client": ("127.0.0.1", 5), "scheme": "http",
    } | more  # fmt: skip
    asked: list[Message] = [{"type": "http.request", "body": body}]
    told: list[Message] = []

    async def receive() -> Message:
        return asked.pop(0) if asked else await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        told.append(message)

    await asyncio.wait_for(app(scope, receive, send), PATIENCE)
    data = b"".join(message.get("body", b"") for message in told[1:])
    return told[0]["status"], data, not told[-1].get("more_body", False)


async def test_it_starts_with_the_first_tick_or_request() -> None:
    async with mounted() as (gateway, app):
        assert str(gateway.state) == "mounted"
        assert repr(gateway) == "<Gateway on an ASGI application waiting for its application>"
        gateway.publish({"t": 1})
        assert (gateway.state, gateway.url) == ("serving", None)
        assert await call(app, "/latest") == (200, b'{"t":1}', True)
        assert gateway.asgi() is app
    assert (await call(app, "/latest"))[0] == 503
    with pytest.raises(NotServing, match="closed"):
        gateway.publish({"t": 2})
    async with mounted() as (gateway, app):
        assert (await call(app, "/latest"))[0] == 404  # no tick yet, but it serves
        assert gateway.state == "serving"
    async with mounted() as (gateway, _), gateway:
        gateway.publish({"t": 1})
    with Gateway(port=0, host="127.0.0.1") as listening, pytest.raises(NotServing, match="serves already"):
        listening.asgi()


@pytest.mark.parametrize(
    ("root", "path"), [("", "/latest"), ("/sim", "/sim/latest"), ("/sim", "/latest"), ("/a/b/", "/a/b/latest")]
)
async def test_paths_with_and_without_what_it_is_mounted_below(root: str, path: str) -> None:
    async with mounted() as (gateway, app):
        gateway.publish({"t": 1})
        assert await call(app, path, root=root) == (200, b'{"t":1}', True)


async def websocket(app: AsgiApp, path: str, *, fail: bool = False, **more: Any) -> list[Message]:
    """A WebSocket whose client asks and goes away; gives what it was told. ``fail``: it is gone when it is told."""
    scope: Scope = {
        "type": "websocket", "path": path, "root_path": "", "query_string": b"", "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 5), "scheme": "ws", "subprotocols": [],
    } | more  # fmt: skip
    asked: list[Message] = [{"type": "websocket.connect"}]
    told: list[Message] = []

    async def receive() -> Message:
        return asked.pop() if asked else {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Message) -> None:
        if fail:
            raise OSError("gone")
        told.append(message)

    await asyncio.wait_for(app(scope, receive, send), PATIENCE)
    return told


async def test_no_path_leads_to_another_host() -> None:
    """Servers hand on what stands in the request line, be it a path or not; and with it goes the inner port's word."""
    strangers = 0

    def meet(*_: object) -> None:
        nonlocal strangers
        strangers += 1

    async with mounted() as (gateway, app), await asyncio.start_server(meet, "127.0.0.1", 0) as elsewhere:
        gateway.publish({"t": 1})
        host = f"127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}"
        for path in (f"@{host}/latest", f"{host}/latest", f":x@{host}/latest", "latest", "*", f"http://{host}/latest"):
            status, body, _ = await call(app, path)
            assert (status, json.loads(body)["error"]) == (400, "bad_request"), path
            assert [one["type"] for one in await websocket(app, path)] == ["websocket.close"], path
        for path in (f"//{host}/latest", f"/@{host}/latest", f"/\\{host}", "/\udcff"):
            assert (await call(app, path))[0] in (400, 404), path
        assert (await call(app, "/latest"))[0] == 200
    assert strangers == 0


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"headers": [(b"x", b"a\x01b")]}, 400),
        ({"headers": [(b"x", b"a\x7fb")]}, 400),
        ({"headers": [(b"x", b"a\r\nb: c")]}, 400),
        ({"headers": [(b"a b", b"c")]}, 400),
        ({"query_string": b"run=\0"}, 400),
        ({"query_string": b"run=a HTTP/1.1\r\nx: y"}, 400),
        ({"query_string": b"run=\xff"}, 400),
        ({"method": "GET /other"}, 400),
        ({"method": "POST", "headers": [(b"content-length", b"x")]}, 400),
        ({"headers": [(b"x", b"\xff\xfe")]}, 200),
    ],
    ids=lambda value: ascii(value)[:40],
)
async def test_what_cannot_be_handed_on_is_told(more: dict[str, Any], status: int) -> None:
    """Servers differ in what they let pass as a request. Whatever it is, it is no fault of the application's."""
    async with mounted() as (gateway, app):
        gateway.publish({"t": 1})
        found, body, ended = await call(app, "/latest", **more)
        assert (found, ended) == (status, True)
        assert status == 200 or json.loads(body)["message"].startswith("this is no HTTP request: ")
        if "method" not in more:
            told = await websocket(app, "/ws/stream", **more)
            assert told[0]["type"] == ("websocket.accept" if status == 200 else "websocket.close")


async def test_headers_go_on_byte_for_byte() -> None:
    async with mounted(publish_token="schlüssel") as (_, app):
        for token, status in (("schlüssel", 200), ("schlussel", 401)):
            fields = [(b"authorization", f"Bearer {token}".encode()), (b"content-length", b"7")]
            assert (await call(app, "/publish", method="POST", body=b'{"t":1}', headers=fields))[0] == status


async def test_websocket_clients_that_are_gone_before_they_are_answered(caplog: pytest.LogCaptureFixture) -> None:
    async with mounted() as (gateway, app):
        gateway.publish({"t": 1})
        with pytest.raises(OSError, match="gone"):
            await websocket(app, "/ws/stream", fail=True)
        told: list[Message] = []

        async def receive() -> Message:
            return {"type": "websocket.disconnect", "code": 1006}

        async def send(message: Message) -> None:
            told.append(message)

        await app({"type": "websocket", "path": "/ws/stream", "headers": []}, receive, send)
        assert not told
        gc.collect()  # what was left open would be told now
        async with asyncio.timeout(PATIENCE):
            while gateway.runtime.fanout.registry.sessions:
                await asyncio.to_thread(gateway.wait, 0.01)
    assert not caplog.records


async def test_a_peer_from_elsewhere_is_no_local_publisher() -> None:
    """The inner listener's peer is always on this machine, whoever asks the server."""
    async with mounted() as (gateway, app):
        for client in (("203.0.113.7", 5), ("2001:db8::1", 5), None):
            status, body, _ = await call(app, "/publish", method="POST", body=b'{"t":1}', client=client)
            assert (status, json.loads(body)["error"]) == (403, "not_allowed")
        assert gateway.runtime.bus.published == 0
        assert (await call(app, "/publish", method="POST", body=b'{"t":1}', client=("::1", 5)))[0] == 200


async def test_the_inner_port_answers_its_application_alone() -> None:
    async with mounted() as (gateway, _), aiohttp.ClientSession() as session:
        gateway.publish({"t": 1})
        for path in ("/latest", "/ndjson", "/healthz", "/ws/stream"):
            for word in ({}, {"Tick-Gateway-Word": "guessed"}):
                async with session.get(f"http://127.0.0.1:{gateway.inner_port}{path}", headers=word) as answer:
                    assert (answer.status, (await answer.json())["error"]) == (403, "not_allowed")
        with Peer(gateway.inner_port) as peer:  # bytes that are no text
            peer.send(request("GET", "/latest", {"Tick-Gateway-Word": "WORD"}).replace(b"WORD", b"\xff\xfe"))
            head = await asyncio.to_thread(peer.head)
        assert head.status == 403


class Broken:
    """A gateway whose answer breaks off in its middle."""

    inner_port = 0

    def start(self) -> object:
        return self

    def close(self, reason: EndReason = "finished") -> None:
        pass


async def test_an_answer_that_breaks_off_does_not_look_like_one_that_ended() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"t":1}\n\r\n')
        await writer.drain()
        writer.close()

    inner = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with inner:
        gateway = Broken()
        gateway.inner_port = inner.sockets[0].getsockname()[1]
        assert await call(AsgiApp(gateway), "/ndjson") == (200, b'{"t":1}\n', False)
    status, body, ended = await call(AsgiApp(gateway), "/ndjson")  # nobody listens any more
    assert (status, json.loads(body)["error"], ended) == (503, "not_serving", True)


async def test_the_lifespan_of_one_that_is_served_as_it_is() -> None:
    async with mounted() as (gateway, app):
        asked, told = asyncio.Queue[Message](), asyncio.Queue[Message]()
        task = asyncio.create_task(app({"type": "lifespan"}, asked.get, told.put))
        asked.put_nowait({"type": "lifespan.startup"})
        assert (await told.get())["type"] == "lifespan.startup.complete"
        assert gateway.publish({"t": 1})
        asked.put_nowait({"type": "lifespan.shutdown"})
        assert (await told.get())["type"] == "lifespan.shutdown.complete"
        await task
        assert gateway.state == "closed"
        asked.put_nowait({"type": "lifespan.startup"})
        await app({"type": "lifespan"}, asked.get, told.put)
        failed = await told.get()
        assert failed["type"] == "lifespan.startup.failed" and "one life" in failed["message"]
        with pytest.raises(NotImplementedError):
            await app({"type": "other"}, asked.get, told.put)


@pytest.mark.filterwarnings("ignore:.*testclient.*")
def test_below_the_test_client_of_fastapi() -> None:
    """Whose loops come and go; and who is no peer on this machine."""
    needs.module("fastapi")
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app, gateway = FastAPI(), Gateway()
    app.mount("/sim", gateway.asgi())
    for t in range(3):
        gateway.publish({"t": t})
    for _ in range(2):
        with TestClient(app, base_url="http://localhost") as client:
            assert client.get("/sim/latest").json() == {"t": 2}
            lines = client.get("/sim/ndjson?from_t=-1&limit=2").text.splitlines()
            assert [json.loads(line).get("t") for line in lines] == [0, 1, None]
            with client.websocket_connect("/sim/ws/stream?from_t=-1&limit=2") as ws:
                assert [ws.receive_json().get("t") for _ in range(3)] == [0, 1, None]
            assert client.post("/sim/publish", content=b'{"t":9}').json()["error"] == "not_allowed"
    gateway.close()


def test_it_is_an_application_to_type_checkers() -> None:
    """mypy reads this, too."""
    needs.module("starlette")
    from fastapi import FastAPI
    from starlette.applications import Starlette
    from starlette.routing import Mount

    gateway = Gateway()
    FastAPI().mount("/sim", gateway.asgi())
    Starlette(routes=[Mount("/sim", app=gateway.asgi())])


# ---- the how-to ----


async def test_the_program_of_the_how_to(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """With a reader that is still connected when the server is asked to end."""
    [block] = blocks(DOCS / "how-to" / "fastapi.md", "python")
    with Uvicorn(tmp_path, block.text, "app", "--timeout-graceful-shutdown", "1") as process:
        url = f"{process.url}/sim"
        async with session.get(f"{url}/ndjson?limit=3") as answer:
            lines = [json.loads(line) for line in (await answer.read()).splitlines()]
        assert [line.get("notice") for line in lines] == [None, None, None, "end"]
        async with session.post(f"{url}/publish", data=b'{"t":1}') as answer:
            assert answer.status == 403
        async with session.get(f"{url}/sse") as stream:
            await stream.content.readline()
            process.process.terminate()
            code = await asyncio.to_thread(process.wait)
        assert code in (0, -signal.SIGTERM), process.report()


async def test_served_as_it_is(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    with Uvicorn(tmp_path, APP, "alone") as process:
        ticks = await publish(session, process.url, "alone", range(5))
        assert await READERS["ndjson"](session, process.url, 5) == ticks
        assert await READERS["websocket"](session, process.url, 5) == ticks
        assert process.terminate() in (0, -signal.SIGTERM), process.report()
        assert "Traceback" not in process.stderr.text, process.report()

"""The example of docs/how-to/sixth-transport.md, mounted beside the five: all that it did not write works in it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from examples.sixth_transport import RS, TRANSPORT
from tests.support.gateway_process import ROOT
from tests.support.markdown import DOCS, blocks
from tick_gateway import Settings
from tick_gateway.runtime import Runtime
from tick_gateway.server.app import make_app
from tick_gateway.transports import TRANSPORTS

Client = TestClient[Any, Any]


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(Settings(ring=10))


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[Client]:
    async with TestClient(TestServer(make_app(runtime, transports=(*TRANSPORTS, TRANSPORT)))) as client:
        yield client


def publish(runtime: Runtime, run: str, *numbers: int) -> None:
    for t in numbers:
        runtime.bus.publish({"t": t, "x": [t]}, run=run)


async def record(response: aiohttp.ClientResponse) -> Any:
    """The next record of a sequence; one that breaks off, or that nothing began, raises."""
    line = await response.content.readuntil(b"\n")
    assert line.startswith(RS) and line.endswith(b"\n")
    return json.loads(line.lstrip(RS))


async def records(client: Client, query: str) -> list[Any]:
    """All records of a stream that ends by itself."""
    async with client.get(f"/json-seq?{query}") as response:
        body = await response.read()
    first, *rest = body.split(RS)
    assert first == b""
    return [json.loads(text) for text in rest if text]


async def test_it_is_mounted_and_described(client: Client) -> None:
    async with client.get("/meta") as response:
        assert (await response.json())["transports"]["json-seq"] == "/json-seq"
    async with client.get("/openapi.json") as response:
        operation = (await response.json())["paths"]["/json-seq"]["get"]
    assert "application/json-seq" in operation["responses"]["200"]["content"]
    assert {"$ref": "#/components/parameters/from_t"} in operation["parameters"]
    assert operation["x-stream"] is True


async def test_ticks_come_live(runtime: Runtime, client: Client) -> None:
    publish(runtime, "one", 0)
    async with client.get("/json-seq") as response:
        assert response.headers["Content-Type"] == "application/json-seq"
        assert response.headers["Tick-Run"] == "one"
        assert await record(response) == {"t": 0, "x": [0]}
        for t in range(1, 100):
            publish(runtime, "one", t)
            assert await record(response) == {"t": t, "x": [t]}


async def test_it_shares_no_bytes_with_its_neighbours(runtime: Runtime, client: Client) -> None:
    publish(runtime, "one", 0)
    async with client.get("/json-seq") as mine, client.get("/ndjson") as other:
        for t in range(10):
            assert await record(mine) == {"t": t, "x": [t]}
            assert await other.content.readline() == b'{"t":%d,"x":[%d]}\n' % (t, t)
            publish(runtime, "one", t + 1)


async def test_it_resumes(runtime: Runtime, client: Client) -> None:
    publish(runtime, "one", *range(8))
    assert await records(client, "from_t=one:4&limit=3") == [
        *({"t": t, "x": [t]} for t in (5, 6, 7)),
        {"notice": "end", "reason": "limit", "position": "one:7"},
    ]
    views = await records(client, "from_t=-1&limit=2&every=3&fields=x&batch=2&stamp=1")
    assert [[tick["data"] for tick in views[0]], views[1]["notice"]] == [
        [{"t": 0, "x": [0]}, {"t": 3, "x": [3]}],
        "end",
    ]


async def test_it_tells_what_is_missing(runtime: Runtime, client: Client) -> None:
    publish(runtime, "one", *range(9))
    publish(runtime, "two", *range(5))  # memory holds ten ticks: those of the first run up to 3 are gone
    assert await records(client, "from_t=one:1&limit=6") == [
        {"notice": "gap", "run": "one", "after": 1, "next": 4},
        *({"t": t, "x": [t]} for t in range(4, 9)),
        {"notice": "reset", "run": "two", "old": "one", "complete": False},
        {"t": 0, "x": [0]},
        {"notice": "end", "reason": "limit", "position": "two:0"},
    ]


async def test_a_quiet_stream_gives_signs_of_life(runtime: Runtime, client: Client) -> None:
    async with client.get("/json-seq?hello=1&heartbeat=1") as response:
        assert await record(response) == {"notice": "hello", "run": None, "first": None, "tip": None}
        assert await response.content.readexactly(1) == RS
        publish(runtime, "one", 0)  # nobody takes the sign of life for a record
        assert (await record(response))["notice"] == "hello"
        assert (await record(response))["t"] == 0


async def test_http_1_0_gets_no_chunks(runtime: Runtime, client: Client) -> None:
    publish(runtime, "one", 0)
    async with client.get("/json-seq?limit=1", headers={"Connection": "close"}) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
    assert client.server.port is not None
    session = aiohttp.ClientSession(version=aiohttp.HttpVersion10)
    async with session, session.get(client.make_url("/json-seq?limit=1")) as response:
        assert "Transfer-Encoding" not in response.headers
        assert (await response.read()).startswith(RS + b'{"t":0,"x":[0]}\n')


async def test_errors_are_the_gateways(client: Client) -> None:
    async with client.get("/json-seq?nonsense=1") as response:
        assert response.status == 400
        assert (await response.json())["error"] == "unknown_parameter"
    async with client.get("/json-seq?run=nobody") as response:
        assert response.status == 404


def test_the_page_shows_the_file_as_it_is() -> None:
    example = (ROOT / "examples" / "sixth_transport.py").read_text("utf-8")
    shown = blocks(DOCS / "how-to" / "sixth-transport.md", "python")
    assert shown, "the page shows nothing"
    for block in shown[:-1]:  # the last one is the registry's line
        assert block.text.strip() in example, block

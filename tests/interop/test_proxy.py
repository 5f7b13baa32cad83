"""All transports, and publishers, through proxies that are configured as docs/how-to/proxy.md says."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.support.gateway_process import PATIENCE
from tests.support.proxies import AT_ONCE, PROXIES, Changes, documented, proxy
from tick_gateway import Gateway

TOKEN = {"Authorization": "Bearer choose-a-long-one"}
COUNT = 300


def port_of(gateway: Gateway) -> int:
    port = urlsplit(gateway.url or "").port
    assert port is not None
    return port


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway.in_thread(host="127.0.0.1", port=0, publish_token="choose-a-long-one") as gateway:
        yield gateway


async def from_websocket(session: aiohttp.ClientSession, url: str) -> AsyncIterator[str]:
    async with session.ws_connect(f"{url}/ws/stream?from_t=-1&hello=1") as ws:
        async for message in ws:
            yield message.data


async def from_lines(session: aiohttp.ClientSession, url: str, path: str, prefix: str = "") -> AsyncIterator[str]:
    async with session.get(f"{url}{path}?from_t=-1&hello=1") as response:
        async for line in response.content:
            if line.startswith(f'{prefix}{{"'.encode()):
                yield line.decode().removeprefix(prefix)


async def from_poll(session: aiohttp.ClientSession, url: str) -> AsyncIterator[str]:
    position = "-1"
    while True:
        async with session.get(f"{url}/poll", params={"last_t": position, "limit": "50"}) as response:
            answer = await response.json()
        position = answer["position"] or position
        for tick in answer.get("ticks", []):
            yield json.dumps(tick)


async def from_pulls(session: aiohttp.ClientSession, url: str) -> AsyncIterator[str]:
    position = "-1"
    while True:
        async with session.get(f"{url}/incremental", params={"from_t": position}) as response:
            position = response.headers.get("Tick-Next", position)
            for tick in await response.json():
                yield json.dumps(tick)


async def read(ticks: AsyncIterator[str], begun: asyncio.Event) -> list[int]:
    """Reads up to the last tick; `begun` is set at the first thing that comes. Notices other than hello are a fault."""
    numbers: list[int] = []
    async for text in ticks:
        begun.set()
        value = json.loads(text)
        if value.get("notice") != "hello":
            numbers.append(value["t"])
        if numbers and numbers[-1] == COUNT - 1:
            return numbers
    raise AssertionError(f"it ended after {numbers[-1:]}")


@pytest.mark.parametrize("name", PROXIES)
async def test_all_transports(name: str, tmp_path: Path, gateway: Gateway) -> None:
    with proxy(name, tmp_path, port_of(gateway)) as url:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
            readers = {
                "websocket": from_websocket(session, url),
                "sse": from_lines(session, url, "/sse", "data: "),
                "ndjson": from_lines(session, url, "/ndjson"),
                "longpoll": from_poll(session, url),
                "incremental": from_pulls(session, url),
            }
            begun = {name: asyncio.Event() for name in readers}
            tasks = [asyncio.create_task(read(ticks, begun[name])) for name, ticks in readers.items()]
            for name in ("websocket", "sse", "ndjson"):  # a hello, without a tick behind it that would push it through
                await asyncio.wait_for(begun[name].wait(), PATIENCE)

            arrived = asyncio.Event()

            async def body() -> AsyncIterator[bytes]:
                """One body, whose second half is sent once a reader has the first: nothing was held back."""
                for t in range(COUNT):
                    if t == COUNT // 2:
                        await asyncio.wait_for(arrived.wait(), PATIENCE)
                    yield b'{"t":%d}\n' % t

            async def watch() -> None:
                async for text in from_poll(session, url):
                    if json.loads(text)["t"] == COUNT // 2 - 1:
                        return arrived.set()

            watching = asyncio.create_task(watch())
            async with session.post(f"{url}/publish?run=one", data=body(), headers=TOKEN) as response:
                assert await response.json() == {
                    "run": "one", "accepted": COUNT, "duplicates": 0, "tip": COUNT - 1, "stored": False,
                }  # fmt: skip
            await watching
            for name, numbers in zip(readers, await asyncio.gather(*tasks), strict=True):
                # A stream that began on the empty bus begins with the run's first tick too.
                assert numbers == list(range(COUNT)), name


@pytest.mark.parametrize("name", PROXIES)
async def test_publishing_through_a_proxy_needs_the_token(name: str, tmp_path: Path) -> None:
    with Gateway.in_thread(host="127.0.0.1", port=0) as gateway, proxy(name, tmp_path, port_of(gateway)) as url:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{url}/publish", data=b'{"t":1}') as response:
                assert response.status == 403
                assert (await response.json())["error"] == "not_allowed"
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{url}/ws/publish")
            assert refused.value.status == 403
            async with session.post(f"{gateway.url}publish", data=b'{"t":1}') as response:
                assert response.status == 200, "the machine itself may"


async def test_a_proxy_that_lets_no_publisher_through(tmp_path: Path, gateway: Gateway) -> None:
    """Token or not; reading goes on."""
    gateway.publish({"t": 1})
    more = {"    location / {": f"{documented('return 403;').text}\n    location / {{"}
    with proxy("nginx", tmp_path, port_of(gateway), more) as url:
        async with aiohttp.ClientSession() as session:
            for path in ("/publish", "/ws/publish", "/runs/one/end"):
                async with session.post(url + path, headers=TOKEN) as response:
                    assert response.status == 403
                    assert "nginx" in await response.text()
            async with session.get(f"{url}/latest") as response:
                assert await response.text() == '{"t":1}'


def below_a_path(name: str, port: int) -> Changes:
    """What the page says of it, put into what it says of the proxy."""
    if name == "haproxy":
        rule = documented("replace-path", name).text
        return {f"    server gateway 127.0.0.1:{port}\n": f"    server gateway 127.0.0.1:{port}\n    {rule}"}
    if name == "caddy":
        plain = f"    reverse_proxy 127.0.0.1:{port} {{\n        flush_interval -1\n    }}\n"
        return {plain: documented("handle_path", name).text.replace("127.0.0.1:8000", f"127.0.0.1:{port}")}
    below = documented("location /ticks/").text
    others = re.search(r"proxy_http_version.*?(?=\n    \})", documented("upstream tick_gateway").text, re.DOTALL)
    assert others is not None and "# and all" in below
    more = below.replace("# and all the other lines of the location above", others[0])
    return {"    location / {": f"{more}\n    location / {{"}


@pytest.mark.parametrize("name", PROXIES)
async def test_below_a_path(name: str, tmp_path: Path, gateway: Gateway) -> None:
    gateway.publish({"t": 5})
    port = port_of(gateway)
    with proxy(name, tmp_path, port, {**AT_ONCE.get(name, {}), **below_a_path(name, port)}) as url:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/ticks/", headers={"Accept": "text/html"}) as response:
                assert "<title>tick-gateway</title>" in await response.text()
            async with session.get(f"{url}/ticks/ndjson?limit=1") as response:
                assert (await response.content.readline()) == b'{"t":5}\n'
            async with session.get(f"{url}/ticks/sse?limit=1", headers={"Accept": "text/event-stream"}) as response:
                assert b'data: {"t":5}\n' in await response.read()
            async with session.ws_connect(f"{url}/ticks/ws/stream") as ws:
                assert (await ws.receive_str(timeout=PATIENCE)) == '{"t":5}'
        gateway.close()
        events = {"Accept": "text/event-stream"}
        async with aiohttp.ClientSession() as session, session.get(f"{url}/ticks/sse", headers=events) as response:
            assert (response.status, await response.read()) == (200, b"retry: 2000\n")

"""nginx in front of a gateway, configured exactly as docs/how-to/proxy.md says, addresses apart."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests import needs
from tests.markdown import DOCS, Block, blocks
from tests.process import PATIENCE, Running
from tick_gateway import Gateway

PAGE = DOCS / "how-to" / "proxy.md"
TOKEN = {"Authorization": "Bearer choose-a-long-one"}
COUNT = 300

MAIN = """\
daemon off; master_process off; pid {folder}/pid; error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {http}
}}
"""


def documented(containing: str) -> Block:
    [block] = [block for block in blocks(PAGE, "nginx") if containing in block.text]
    return block


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def fill_in(text: str, what: str, value: str) -> str:
    assert text.count(what) == 1, f"the page says {what} {text.count(what)} times"
    return text.replace(what, value)


@contextmanager
def nginx(folder: Path, gateway: Gateway, more: str = "") -> Iterator[str]:
    """Runs nginx in front of `gateway`, and gives its address. `more` goes into the block `server`."""
    program = needs.program("nginx")
    assert gateway.url is not None
    http = documented("upstream tick_gateway").text
    http = fill_in(http, "127.0.0.1:8000", urlsplit(gateway.url).netloc)
    http = fill_in(http, "    location / {", f"{more}\n    location / {{")
    for _ in range(10):  # nginx cannot ask the system for a free port; between asking and using, another may take it
        port = free_port()
        config = folder / "nginx.conf"
        config.write_text(MAIN.format(folder=folder, http=fill_in(http, "listen 80;", f"listen 127.0.0.1:{port};")))
        with Running([program, "-p", folder, "-c", config]) as process:
            said = process.stderr.find(r'using the ".*" event method|\[emerg\].*')
            assert said is not None, process.report()
            if "in use" in said[0]:
                continue
            assert "emerg" not in said[0], said[0]
            yield f"http://127.0.0.1:{port}"
            return
    pytest.fail("no free port")


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


async def test_all_transports_through_nginx(tmp_path: Path, gateway: Gateway) -> None:
    with nginx(tmp_path, gateway) as url:
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
                """One body, whose second half is sent once a reader has the first: nginx held nothing back."""
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


async def test_publishing_through_nginx_needs_the_token(tmp_path: Path) -> None:
    with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
        more = documented("return 403;").text
        with nginx(tmp_path, gateway) as url:
            async with aiohttp.ClientSession() as session:
                async with session.post(f"{url}/publish", data=b'{"t":1}') as response:
                    assert response.status == 403
                    assert (await response.json())["error"] == "not_allowed"
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(f"{url}/ws/publish")
                assert refused.value.status == 403
                async with session.post(f"{gateway.url}publish", data=b'{"t":1}') as response:
                    assert response.status == 200, "the machine itself may"
        with nginx(tmp_path, gateway, more) as url:  # refused by nginx, token or not; reading goes on
            async with aiohttp.ClientSession() as session:
                for path in ("/publish", "/ws/publish", "/runs/one/end"):
                    async with session.post(url + path, headers=TOKEN) as response:
                        assert response.status == 403
                        assert "nginx" in await response.text()
                async with session.get(f"{url}/latest") as response:
                    assert await response.text() == '{"t":1}'


async def test_below_a_path(tmp_path: Path, gateway: Gateway) -> None:
    whole = documented("upstream tick_gateway").text
    below = documented("location /ticks/").text
    others = re.search(r"proxy_http_version.*?(?=\n    \})", whole, re.DOTALL)
    assert others is not None
    more = fill_in(below, "# and all the other lines of the location above", others[0])
    gateway.publish({"t": 5})
    with nginx(tmp_path, gateway, more) as url:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/ticks/", headers={"Accept": "text/html"}) as response:
                assert "<title>tick-gateway</title>" in await response.text()
            async with session.get(f"{url}/ticks/ndjson?limit=1") as response:
                assert (await response.content.readline()) == b'{"t":5}\n'
            async with session.ws_connect(f"{url}/ticks/ws/stream") as ws:
                assert (await ws.receive_str(timeout=PATIENCE)) == '{"t":5}'

"""The page at ``/`` in browsers: it shows the newest tick over whichever transport is left to it, and comes back."""

import asyncio
import json
import shlex
from itertools import count
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support import needs
from tests.support.cutting_proxy import Network
from tests.support.gateway_process import GatewayProcess, Publisher, Running, publish
from tick_gateway import Gateway
from tick_gateway.transports import TRANSPORTS

NO_WEBSOCKET = "delete window.WebSocket;"
NO_EVENT_SOURCE = "delete window.EventSource;"
DRAWN = (
    "new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer).some(Boolean)"
)


class Page(Running):
    """The page at `url`; `script` runs before its own, to take from the browser what some networks take."""

    def __init__(self, url: str, script: str = "", kind: str = "chromium") -> None:
        needs.node_packages()
        super().__init__([needs.node(), needs.JS / "page.mjs", kind, needs.browser(kind), url, script], stdin=True)
        self._ids = count()

    def value(self, expression: str, *, wait: bool = False) -> Any:
        """What an expression is in the page; with `wait`, once it is true."""
        number = next(self._ids)
        self.feed([json.dumps({"id": number, "expression": expression, "wait": wait})])
        found = self.stdout.find(rf'^{{"id":{number}[,}}].*')
        assert found is not None, f"never true: {expression}\n{self.report()}"
        answer = json.loads(found[0])
        assert "error" not in answer, answer
        return answer.get("value")

    def until(self, expression: str) -> Any:
        return self.value(expression, wait=True)

    @property
    def console(self) -> list[str]:
        return [line for line in self.stdout.lines if line.startswith('{"console"')]


def flock(t: int) -> str:
    return json.dumps({"t": t, "state": {"agents": [{"x": t + i, "y": i * i, "vx": 1, "vy": i} for i in range(9)]}})


@pytest.mark.parametrize(
    "kind, script, transport, compressed",
    [
        ("chromium", "", "WebSocket", "Sec-WebSocket-Extensions: permessage-deflate"),
        ("firefox", "", "WebSocket", "Sec-WebSocket-Extensions: permessage-deflate"),
        ("chromium", NO_WEBSOCKET, "Server-Sent Events", "Content-Encoding: gzip"),
        ("chromium", NO_WEBSOCKET + NO_EVENT_SOURCE, "long-poll", "Content-Encoding: zstd"),
    ],
)
def test_it_shows_the_newest_tick(kind: str, script: str, transport: str, compressed: str) -> None:
    with (
        GatewayProcess() as gateway,
        Network(gateway.port) as network,
        Page((way := network.proxy()).url, script, kind) as page,
        Publisher(gateway.url, run="one") as publisher,
    ):
        page.until(f"state.textContent === 'connected over {transport}'")
        assert page.value("t.textContent") == "none yet"
        publisher.publish(['{"t":0,"note":"<b>no markup</b>"}'])
        page.until(
            "t.textContent === '0' && run.textContent === 'one' && json.textContent.includes('<b>no markup</b>')"
        )
        assert page.value("canvas.hidden && document.querySelector('b') === null")

        # One after another, so that several come within the second over which the page counts.
        numbers = count(1)
        while not page.value("Number(rate.textContent) > 0"):
            publisher.publish([flock(next(numbers))])
        last = next(numbers)
        publisher.publish([flock(last)])
        page.until(f"t.textContent === '{last}' && document.getElementById('count').textContent === '{last + 1}'")
        page.until(f"!canvas.hidden && canvas.ariaLabel.startsWith('9 agents') && {DRAWN}")
        assert compressed in "\n".join(way.heads)
    assert not page.console


def test_it_survives_a_restart() -> None:
    with GatewayProcess() as gateway:
        publish(gateway.url, [flock(t) for t in range(5)], run="one")
        with Page(gateway.url) as page:
            page.until("t.textContent === '4' && state.dataset.state === 'live'")
            assert not page.console
            assert gateway.terminate() == 0
            page.until("state.dataset.state === 'lost'")
            with GatewayProcess("serve", "--port", str(gateway.port)) as again:
                publish(again.url, [flock(7)], run="two")
                page.until("t.textContent === '7' && run.textContent === 'two' && state.dataset.state === 'live'")
                assert page.value("notice.textContent").endswith(": run two began")
                assert page.value("state.textContent") == "connected over WebSocket", "it gave a transport up for good"
            # Chromium itself says on the console that nothing answered; the page says nothing.
            assert all("net::ERR_" in line for line in page.console), page.console


async def test_links_and_lines_work_below_a_prefix() -> None:
    gateway, app = Gateway(), web.Application()
    gateway.mount(app, "/sim/ticks")
    for t in range(20):
        gateway.publish({"t": t})
    async with TestServer(app) as server:
        await asyncio.to_thread(check_links_and_lines, str(server.make_url("/sim/ticks/")), gateway)


def check_links_and_lines(url: str, gateway: Gateway) -> None:
    numbers = count(20)
    with Page(url) as page:
        page.until("t.textContent === '19' && table.rows.length > 2")
        links: list[str] = page.value("[...document.links].map((link) => link.href)")
        assert all(link.startswith(url) for link in links), links
        linked = {link.partition("?")[0].removeprefix(url[:-1]) for link in links}
        assert {transport.path for transport in TRANSPORTS} - linked == {"/ws/stream"}
        for link in links:
            read = f"fetch({json.dumps(link)}).then((answer) => answer.text().then(() => answer.status))"
            assert page.value(read) == 200, link

        lines: list[str] = page.value("[...document.querySelectorAll('code')].map((code) => code.textContent)")
        assert len(lines) == page.value("document.querySelectorAll('button').length") >= 7
        for line in lines:
            if line.startswith("curl "):
                with Running([needs.program("curl"), "--silent", "--show-error", *shlex.split(line)[1:]]) as curl:
                    while curl.stdout.find('"t":', timeout=0.2) is None:  # some wait for the next tick
                        assert curl.process.poll() in (None, 0), curl.report()
                        gateway.publish({"t": next(numbers)})
            else:
                page.value(line.replace("console.log(event.data)", "(window.said = event.data)"))
                page.until("window.said?.startsWith('{\"t\":')")

        page.value("document.querySelector('button').click()")
        page.until("document.querySelector('button').textContent === 'Copied'")
    assert not page.console

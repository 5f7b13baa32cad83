"""Clients that no one here wrote read every tick, each once, in order, and byte for byte as it was published."""

import re
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from random import Random

import pytest

from tests.support import needs
from tests.support.browser import Browser, Page
from tests.support.cutting_proxy import Network
from tests.support.gateway_process import GatewayProcess, Lines, Publisher, Running, difference
from tests.support.peers import MODULES

COUNT = 501

# What re-encoding, or cutting lines at the wrong characters, would change: other spacing than a serializer's, numbers
# and escapes that can be written in several ways, letters of several bytes, and characters that Unicode counts as line
# ends and JSON does not: these go out as escapes, and nothing else is changed.
TRICKY = (
    '"text":"Zürich, 東京, 🐦, \\u00e9, \\/, \\n, \u0085|\u2028|\u2029" , '
    '"numbers" : [1.50,-0,1E2,0.1e-3, 12345678901234567890]'
)

ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}

NODE_PEERS = ("ws", "eventsource", "fetch-event-source")

CURL = {
    "curl-ndjson": (["--no-buffer", "{url}/ndjson"], ""),
    "curl-ndjson-compressed": (["--no-buffer", "--compressed", "{url}/ndjson"], ""),
    "curl-sse": (["--no-buffer", "--header", "Accept: text/event-stream", "{url}/stream"], "data: "),
    "curl-at-the-address": (["--no-buffer", "{url}/"], ""),
}

IN_CHROMIUM = {
    "WebSocket": (
        "new WebSocket(location.origin.replace('http', 'ws') + '/ws/stream').onmessage = (e) => console.log(e.data);"
    ),
    "EventSource": "new EventSource('/sse').onmessage = (e) => console.log(e.data);",
    "fetch": """
        const reader = (await fetch('/ndjson')).body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = '';
        for (let part = await reader.read(); !part.done; part = await reader.read()) {
          const lines = (rest + part.value).split('\\n');
          rest = lines.pop();
          for (const line of lines) if (line) console.log(line);
        }""",
    "fetch-event-source": """
        import { fetchEventSource } from '/node_modules/@microsoft/fetch-event-source/lib/esm/index.js';
        fetchEventSource('/sse', { openWhenHidden: true, onmessage: (message) => console.log(message.data) });""",
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    with GatewayProcess("serve") as process:
        yield process


def ticks() -> list[str]:
    """About a kilobyte each, also where it is compressed."""
    noise = Random(0)
    return [f'{{"t":{t}, {TRICKY},"rest":"{b64encode(noise.randbytes(630)).decode()}"}}' for t in range(COUNT)]


def publish_to(
    gateway: GatewayProcess, run: str, readers: dict[str, Lines], prefix: str, report: Callable[[], str]
) -> None:
    """Publishes every tick to readers that were started before, once each has the first; compares what they got."""
    published = ticks()
    wanted = [line.translate(ESCAPED) for line in published]
    with Publisher(gateway.url, run=run) as publisher:
        for name, lines in readers.items():
            assert lines.find(f"^{re.escape(prefix + wanted[0])}$"), f"{name} never got the first tick\n{report()}"
        for start in range(1, COUNT, 10):
            publisher.publish(published[start : start + 10])
        for name, lines in readers.items():
            found = lines.find(f"^{re.escape(prefix + wanted[-1])}$")
            got = [line.removeprefix(prefix) for line in lines.lines if line.startswith(prefix) and line.strip()]
            assert found, f"{name} got {len(got)} lines, and never the last tick\n{report()}"
            parted = difference(got, wanted)
            assert not parted, f"{name} got other ticks than were published"


def check(gateway: GatewayProcess, name: str, command: list[str], prefix: str = "") -> None:
    run = f"peer-{name}"
    with Publisher(gateway.url, run=run) as publisher:
        publisher.publish(ticks()[:1])
    with Running(command) as client:
        publish_to(gateway, run, {name: client.stdout}, prefix, client.report)


@pytest.mark.parametrize("name", MODULES)
def test_python_peer(gateway: GatewayProcess, name: str) -> None:
    for module in MODULES[name]:
        needs.module(module)
    check(gateway, name, [sys.executable, "-m", "tests.support.peers", name, gateway.url])


@pytest.mark.parametrize("name", NODE_PEERS)
def test_node_peer(gateway: GatewayProcess, name: str) -> None:
    needs.node_packages()
    check(gateway, f"node-{name}", [needs.node(), str(needs.JS / "peers.mjs"), name, gateway.url])


READLINE = """
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
const input = Readable.fromWeb((await fetch(process.argv[1] + '/ndjson')).body);
for await (const line of createInterface({ input, crlfDelay: Infinity })) if (line) console.log(line);
"""


def test_node_reads_lines(gateway: GatewayProcess) -> None:
    """Its readline takes U+2028 and U+2029 for ends of lines."""
    check(gateway, "node-readline", [needs.node(), "--input-type=module", "-e", READLINE, gateway.url])


@pytest.mark.parametrize("name", ["eventsource", "fetch-event-source"])
def test_a_peer_that_comes_back_by_itself(gateway: GatewayProcess, name: str) -> None:
    """Cut in the middle of an event, and after its id where that came first: the event is asked for again."""
    needs.node_packages()
    run = f"peer-cut-{name}"
    with Publisher(gateway.url, run=run) as publisher, Network(gateway.port) as network:
        publisher.publish(ticks()[:1])
        # The head of the answer and an event are about 1,400 bytes, each event after it about 1,000.
        proxy = network.proxy([6_000, 100_000])
        with Running([needs.node(), needs.JS / "peers.mjs", name, proxy.url]) as client:
            publish_to(gateway, run, {name: client.stdout}, "", client.report)
        assert proxy.cut == 2


@pytest.mark.parametrize("name", CURL)
def test_curl(gateway: GatewayProcess, name: str) -> None:
    options, prefix = CURL[name]
    command = [needs.program("curl"), "--silent", "--show-error", *(part.format(url=gateway.url) for part in options)]
    check(gateway, name, command, prefix)


def test_peers_of_every_transport_side_by_side(gateway: GatewayProcess) -> None:
    """The gateway makes bytes once for all clients of a kind: none must be handed those of another kind."""
    run = "peer-side-by-side"
    with Publisher(gateway.url, run=run) as publisher:
        publisher.publish(ticks()[:1])
    needs.module("picows")
    names = ("aiohttp-ndjson", "websockets", "aiohttp-sse", "picows")
    with ExitStack() as stack:
        clients = {}
        for name in names:
            command = [sys.executable, "-m", "tests.support.peers", name, gateway.url]
            clients[name] = stack.enter_context(Running(command))
            # One by one, so that each finds the bytes that were made for those before it.
            assert clients[name].stdout.find("."), f"{name} never got the first tick\n{clients[name].report()}"
        readers: dict[str, Lines] = {name: client.stdout for name, client in clients.items()}
        publish_to(gateway, run, readers, "", lambda: "".join(client.report() for client in clients.values()))


def test_chromium(gateway: GatewayProcess) -> None:
    run = "peer-chromium"
    with Publisher(gateway.url, run=run) as publisher:
        publisher.publish(ticks()[:1])
    with Browser([Page(name, gateway.url, script, module=True) for name, script in IN_CHROMIUM.items()]) as browser:
        publish_to(gateway, run, browser.said, "", browser.report)

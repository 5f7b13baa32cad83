"""Clients that others wrote read compressed ticks, each once, in order, without delay, whatever becomes of them.

All of them go through the same life at once, each over a network of its own. They join in the middle of a section,
while others share its compressor; stop reading until the gateway has no more room for them, and read on; are cut off in
the middle of a tick, by a close and by a reset, and come back with their position; and those on a WebSocket change
their view, and change it back. But for the time in which nobody reads, tick k + 1 is published when everybody has shown
tick k: a decoder that holds anything back ends its part.

What a tick takes on the wire tells how it was compressed, since most of it is the same in all: large stands alone,
small shares what all are sent.
"""

import contextlib
import json
import re
import socket
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from urllib.request import urlopen

import pytest

from tests.support import needs
from tests.support.browser import Browser, Page
from tests.support.cutting_proxy import PIECE, CuttingProxy, Network
from tests.support.gateway_process import GatewayProcess, Lines, Publisher, Running, difference, publish
from tests.support.peers import MODULES, PEERS

SECTION = 16
RUN = "compressed"
LARGE = 600
"""Bytes on the wire: more than any tick that shares its compressor takes, and less than one that does not."""

STORED = 300
"""Ticks in the gateway with history, of which memory holds a few."""

RANGE = f"/range?run={RUN}&t1={STORED - 1}"

PLAIN, GZIP, ZSTD, DEFLATE, ALONE = "plain", "gzip", "zstd", "permessage-deflate", "server_no_context_takeover"
SHARED = (GZIP, ZSTD, DEFLATE)


@dataclass(frozen=True)
class Client:
    """A client at a place; `takes` is how it is sent ticks, `modules` and `program` what it needs."""

    place: str
    name: str
    takes: str
    modules: tuple[str, ...] = ()
    program: str = ""

    @property
    def polls(self) -> bool:
        return "poll" in self.name

    @property
    def shares(self) -> bool:
        return self.takes in SHARED and not self.polls

    @property
    def views(self) -> bool:
        """Whether it is on a WebSocket, where views can be changed."""
        return self.takes in (DEFLATE, ALONE)

    def __str__(self) -> str:
        return f"{self.place}-{self.name}"


CLIENTS = (
    Client("python", "aiohttp-ndjson", GZIP, ("aiohttp",)),
    Client("python", "aiohttp-sse", GZIP, ("aiohttp",)),
    Client("python", "aiohttp-websocket-deflate", DEFLATE, ("aiohttp",)),
    Client("python", "httpx-gzip", GZIP, ("httpx",)),
    Client("python", "httpx-zstd", ZSTD, ("httpx", "zstandard")),
    Client("python", "httpx-poll-gzip", GZIP, ("httpx",)),
    Client("python", "httpx-poll-zstd", ZSTD, ("httpx", "zstandard")),
    Client("python", "requests", GZIP, ("requests",)),
    Client("python", "websockets", DEFLATE, ("websockets",)),
    Client("python", "websockets-sync", DEFLATE, ("websockets",)),
    Client("python", "websockets-no-takeover", ALONE, ("websockets",)),
    Client("python", "curl-gzip", GZIP, (), "curl"),
    Client("python", "curl-zstd", ZSTD, (), "curl"),
    Client("python", "wget", PLAIN, (), "wget"),
    Client("node", "fetch", GZIP),
    Client("node", "eventsource", GZIP),
    Client("node", "ws-deflate", DEFLATE),
    Client("node", "ws-no-takeover", ALONE),
    *(
        Client(browser, name, takes)
        for browser in needs.BROWSERS
        for name, takes in (("fetch", GZIP), ("EventSource", GZIP), ("WebSocket", DEFLATE), ("poll", ZSTD))
    ),
)

IN_BROWSERS = {
    "fetch": f"ndjson('', '{RUN}', (line) => console.log(line));",
    "EventSource": "sse((path) => new EventSource(path), (line) => console.log(line));",
    "WebSocket": (
        f"websocket((path) => new WebSocket(location.origin.replace('http', 'ws') + path), '{RUN}', "
        "(line) => console.log(line));"
    ),
    "poll": "poll('', (line) => console.log(line));",
    "range": f"""
        const answer = await fetch('{RANGE}');
        console.log(`${{answer.status}} ${{answer.headers.get('Content-Encoding')}}\\n${{await answer.text()}}end`);""",
}

# Whoever holds the streams open that the others join: one for each kind of stream.
ANCHORS = (
    ("/ndjson?heartbeat=3600", f"Accept-Encoding: {GZIP}"),
    ("/ndjson?heartbeat=3600", f"Accept-Encoding: {ZSTD}"),
    ("/sse?heartbeat=3600", f"Accept-Encoding: {GZIP}"),
    *(
        (
            f"/ws/stream{query}",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Extensions: {DEFLATE}",
        )
        for query in ("", "?heartbeat=3600", "?heartbeat=3600&fields=own,command")
    ),
)


def noise(seed: int, size: int) -> str:
    return b64encode(Random(seed).randbytes(size * 3 // 4)).decode()


SAME = noise(0, 1_200)


def tick(t: int, size: int = 0, **more: object) -> str:
    """`size` bytes of it are in no other tick."""
    rest = f',"noise":"{noise(t, size)}"' if size else ""
    rest += "".join(f',"{name}":{json.dumps(value)}' for name, value in more.items())
    return f'{{"t":{t}, "own":"{t:06d}", "text":"Zürich, 東京, 🐦, \\u00e9, \\/" , "same":"{SAME}"{rest}}}'


@dataclass
class Part:
    """What a client was sent, and what it said of it."""

    client: Client
    proxy: CuttingProxy
    said: Lines = field(default_factory=Lines)
    warned: Lines = field(default_factory=Lines)
    sizes: list[int] = field(default_factory=list)
    """What ticks that were published one by one took on the wire."""
    lost: str = ""
    """Why it is waited for no longer."""

    def has(self, start: str) -> bool:
        """Waits for a line; False: it never comes."""
        return self.said.wait(lambda lines: any(line.startswith(start) for line in lines[-4:]))


class Life:
    """A gateway and its clients, and what is published to them."""

    def __init__(self, gateway: GatewayProcess, publisher: Publisher, network: Network, history: str) -> None:
        self.gateway = gateway
        self.history = history
        """The URL of the other gateway, for what browsers read of it meanwhile."""
        self.ranges: dict[str, Lines] = {}
        self.network = network
        self.ticks: list[str] = []
        self.viewed = range(0)
        self.apart: dict[str, dict[Client, int]] = {}
        """By what came before: what the next tick took on the wire."""
        self.parts: dict[Client, Part] = {}
        self.absent: dict[Client, BaseException] = {}
        """Why a client could not be started."""
        self._publisher = publisher
        self._anchors: list[socket.socket] = []

    # ---- the gateway ----

    def publish(self, count: int, size: int = 0) -> None:
        """Publishes, and waits for nobody."""
        start = len(self.ticks)
        lines = [tick(t, size) for t in range(start, start + count)]
        self.ticks += lines
        self._publisher.publish(lines)

    @property
    def live(self) -> int:
        """How many streams stand at the tip."""
        found = re.search(r"^tick_gateway_connections_live (\d+)", self._get("/metrics"), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def viewed_tick(self, t: int, fields: str) -> str:
        return self._get(f"/ticks/{t}?fields={fields}")

    def _get(self, target: str) -> str:
        with urlopen(f"{self.gateway.url}{target}", timeout=60) as answer:
            text: str = answer.read().decode()
        return text.removesuffix("\n")

    # ---- its clients ----

    def anchor(self) -> None:
        for target, header in ANCHORS:
            anchor = socket.create_connection(("127.0.0.1", self.gateway.port))
            anchor.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
            # Pongs, also where there was no ping: who answers none of three in a row is dropped.
            reply = b"\x8a\x80\0\0\0\0" if "Upgrade" in header else b""
            threading.Thread(target=_drain, args=[anchor, reply], daemon=True).start()
            self._anchors.append(anchor)
        while self.live < len(ANCHORS):
            pass  # each look takes a round trip

    def start(self, stack: ExitStack) -> None:
        """Starts every client that this machine has."""
        pages: dict[str, list[Page]] = {}
        for client in CLIENTS:
            try:
                for module in client.modules:
                    needs.module(module)
                if client.program:
                    needs.program(client.program)
                if client.place != "python":
                    needs.node()
                    needs.node_packages()
                if client.place in needs.BROWSERS:
                    needs.browser(client.place)
            except (pytest.skip.Exception, pytest.fail.Exception) as reason:
                self.absent[client] = reason
                continue
            part = self.parts[client] = Part(client, self.network.proxy())
            if client.place in needs.BROWSERS:
                script = f"{(needs.JS / 'streams.mjs').read_text()}\n{IN_BROWSERS[client.name]}"
                pages.setdefault(client.place, []).append(Page(client.name, part.proxy.url, script, module=True))
                continue
            if client.place == "python":
                command = [sys.executable, "-m", "tests.support.peers"]
            else:
                command = [needs.node(), str(needs.JS / "peers.mjs")]
            running = stack.enter_context(Running([*command, client.name, part.proxy.url, RUN]))
            part.said, part.warned = running.stdout, running.stderr
        for place, opened in pages.items():
            opened.append(Page("range", self.history, IN_BROWSERS["range"], module=True))
            browser = stack.enter_context(Browser(opened, place))
            self.ranges[place] = browser.said["range"]
            for part in self.parts.values():
                if part.client.place == place:
                    part.said, part.warned = browser.said[part.client.name], browser.warned[part.client.name]

    def close(self) -> None:
        for anchor in self._anchors:
            anchor.close()

    @property
    def present(self) -> list[Part]:
        return [part for part in self.parts.values() if not part.lost]

    def await_newest(self) -> None:
        """Waits until each client has shown the newest tick."""
        t = len(self.ticks) - 1
        for part in self.present:
            if not part.has(f'{{"t":{t},'):
                part.lost = f"it never showed tick {t}"

    def step(self, size: int = 0, **more: object) -> dict[Client, int]:
        """Publishes a tick when everybody has the one before it; returns what it took on the wire, to each."""
        before = {part.client: part.proxy.passed for part in self.present}
        self.ticks.append(tick(len(self.ticks), size, **more))
        self._publisher.publish(self.ticks[-1:])
        self.await_newest()
        for part in self.present:
            part.sizes.append(part.proxy.passed - before[part.client])
        return {part.client: part.sizes[-1] for part in self.present}

    def enter_section(self) -> None:
        """Goes on until all who share a compressor are a few ticks into a section."""
        sharers = [part for part in self.present if part.client.shares]
        for _ in range(3 * SECTION):
            self.step()
            waiting = [part for part in sharers if not (part.sizes[-1] < LARGE <= max(part.sizes[-SECTION // 2 :]))]
            if not [part for part in waiting if not part.lost]:
                return
        for part in waiting:
            part.lost = f"its ticks took {part.sizes[-3 * SECTION :]} bytes: it never shared a section with others"

    # ---- their life ----

    def join(self, stack: ExitStack) -> None:
        self.publish(1)
        self.anchor()
        for _ in range(3):  # now all the streams are in the middle of a section
            self.publish(1)
        self.start(stack)
        self.await_newest()
        self.apart["joined"] = self.step()
        self.enter_section()

    def lag(self) -> None:
        self.network.stall()
        with urlopen(f"{self.gateway.url}/ndjson", timeout=60) as witness:
            for _ in range(600):  # that is 5 MB
                self.publish(1, size=8_000)
                # One by one: of many that are written at once, the last would be a section's, and end it.
                while not witness.readline().startswith(b'{"t":%d,' % (len(self.ticks) - 1)):
                    pass
                if self.live <= len(ANCHORS) + 1:
                    break
            else:
                raise AssertionError("the gateway never ran out of room for clients that do not read")
        self.publish(20, size=8_000)  # for these, certainly, there was no room
        self.network.piece = 10 * PIECE + 7  # for there is much to catch up on
        self.network.flow()
        self.await_newest()
        self.network.piece = PIECE
        self.enter_section()

    def cut(self, how: str) -> None:
        for part in self.present:
            part.proxy.cut_after(700)
        self.step(size=2_000)
        self.apart[how] = self.step()
        self.enter_section()

    def change_views(self) -> None:
        first = self._command({"op": "view", "fields": ["own", "command"], "id": 1})
        for _ in range(SECTION + 4):
            self.step()
        last = self._command({"op": "view", "id": 2})
        self.viewed = range(first + 1, last + 1)
        self.step()
        self.enter_section()

    def _command(self, command: dict[str, object]) -> int:
        """Lets the clients on WebSockets send a command, and waits until it is done; returns the tick before it."""
        self.step(command=command)
        for part in self.present:
            if part.client.views and not part.has(f'{{"ok":{command["id"]},'):
                part.lost = f"{command} was not answered"
        return len(self.ticks) - 1


@pytest.mark.parametrize("place", needs.BROWSERS)
def test_a_browser_reads_frames_of_history(life: Life, place: str) -> None:
    if place not in life.ranges:
        raise next(reason for client, reason in life.absent.items() if client.place == place)
    said = life.ranges[place]
    assert said.find("^end$"), said.text[-1000:]
    assert not difference(said.lines, [f"200 {ZSTD}", *map(tick, range(STORED)), "end"])


def test_curl_reads_frames_of_history(history: GatewayProcess) -> None:
    with Running([needs.program("curl"), "-s", "-i", "--compressed", f"{history.url}{RANGE}"]) as curl:
        assert curl.wait() == 0
    head, _, body = curl.stdout.text.partition("\n\n")
    assert f"Content-Encoding: {ZSTD}" in head.splitlines()
    assert not difference(body.splitlines(), list(map(tick, range(STORED))))


def test_httpx_reads_frames_of_history(history: GatewayProcess) -> None:
    httpx = needs.module("httpx")
    needs.module("zstandard")
    answer = httpx.get(f"{history.url}{RANGE}", timeout=60)
    assert answer.headers["Content-Encoding"] == ZSTD, "httpx asks for zstd by itself where zstandard is installed"
    assert not difference(answer.text.splitlines(), list(map(tick, range(STORED))))


@pytest.mark.parametrize("name", ["httpx-zstd", "curl-zstd"])
def test_a_stream_goes_from_history_to_live(history: GatewayProcess, name: str) -> None:
    """From stored frames to frames that were made now."""
    client = next(client for client in CLIENTS if client.name == name)
    for module in client.modules:
        needs.module(module)
    if client.program:
        needs.program(client.program)
    with urlopen(f"{history.url}/meta", timeout=60) as answer:
        tip = json.load(answer)["tip"]
    query = f"?from_t={RUN}:-1"
    command = [sys.executable, "-m", "tests.support.peers", name, history.url, RUN, query]
    with Running(command) as reader, Publisher(history.url, run=RUN) as publisher:
        for t in range(tip + 1, tip + 11):
            assert reader.stdout.find(f'^{{"t":{t - 1},'), reader.report()
            publisher.publish([tick(t)])
        assert reader.stdout.find(f'^{{"t":{tip + 10},'), reader.report()
        assert not difference(reader.stdout.lines, list(map(tick, range(tip + 11))))


def test_requests_leaves_what_it_cannot_decode(history: GatewayProcess) -> None:
    """As docs/how-to/compression.md warns: by itself, it asks for no more than it can decode."""
    requests = needs.module("requests")
    by_itself = requests.get(f"{history.url}{RANGE}", timeout=60)
    assert not difference(by_itself.text.splitlines(), list(map(tick, range(STORED))))
    decodes = ZSTD in by_itself.request.headers["Accept-Encoding"]
    by_hand = requests.get(f"{history.url}{RANGE}", headers={"Accept-Encoding": ZSTD}, timeout=60)
    assert by_hand.content.startswith(b'{"t":0' if decodes else b"\x28\xb5\x2f\xfd")


def test_each_peer_is_met() -> None:
    """Here or, in its plainest use, in test_peers."""
    assert set(PEERS) == set(MODULES) | {client.name for client in CLIENTS if client.place == "python"}


def _drain(connection: socket.socket, reply: bytes) -> None:
    """Reads and forgets, and replies each time."""
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            connection.sendall(reply)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway whose past lies on disk, in many blocks."""
    options = ["--data", str(tmp_path_factory.mktemp("history")), "--block-bytes", "8k", "--ring", "20"]
    with GatewayProcess("serve", *options) as gateway:
        for start in range(0, STORED, 10):
            publish(gateway.url, map(tick, range(start, start + 10)), run=RUN)
        yield gateway


@pytest.fixture(scope="module")
def life(history: GatewayProcess) -> Iterator[Life]:
    with (
        GatewayProcess("serve", "--compression-section", str(SECTION)) as gateway,
        Publisher(gateway.url, run=RUN) as publisher,
        Network(gateway.port) as network,
        ExitStack() as stack,
    ):
        life = Life(gateway, publisher, network, history.url)
        stack.callback(life.close)
        life.join(stack)
        life.lag()
        life.cut("closed")
        life.cut("reset")
        life.change_views()
        yield life


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_client(life: Life, client: Client) -> None:
    if client in life.absent:
        raise life.absent[client]
    part = life.parts[client]
    warned = f"and on stderr:\n{part.warned.text[-3000:]}"
    got = [line for line in part.said.lines if not line.startswith('{"ok":')]
    wanted = list(life.ticks)
    if client.views:
        wanted[life.viewed.start : life.viewed.stop] = [life.viewed_tick(t, "own,command") for t in life.viewed]
    start = 3  # the newest tick when it came
    parted = difference(got, wanted[start:])
    assert not part.lost, f"{part.lost}; {parted}; {warned}"
    assert not parted, warned

    assert part.proxy.cut == 2
    heads = part.proxy.heads
    if client.place in needs.BROWSERS:  # whose pages came from there, too
        heads = [head for head in heads if "\r\nTick-Run:" in head]
    if client.polls:
        assert len(heads) > 3
    else:
        assert len(heads) == 3, f"it came back for another reason than a cut; {warned}"
    for head in heads:
        size = re.search(r"^Content-Length: (\d+)", head, re.MULTILINE)
        if size is None or int(size[1]) >= 256:  # a poll that ended without a tick is small, and comes as it is
            check_head(client, head)
    sizes = {how: sizes[client] for how, sizes in life.apart.items()}
    if client.shares or client.takes == ALONE:
        assert min(sizes.values()) >= LARGE, f"not in the middle of a section: {sizes}"
    elif client.takes == PLAIN:
        assert min(part.sizes) > len(SAME), part.sizes


def check_head(client: Client, head: str) -> None:
    """An answer is compressed as it was asked for."""
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    if client.views:
        assert headers["Sec-WebSocket-Extensions"].startswith(DEFLATE), head
        assert (ALONE in headers["Sec-WebSocket-Extensions"]) == (client.takes == ALONE), head
    else:
        assert headers.get("Content-Encoding", PLAIN) == client.takes, head

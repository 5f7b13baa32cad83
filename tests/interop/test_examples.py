"""The clients under examples/clients print every tick once, in order, whatever becomes of the connection.

All of them, in Python, Node and Chromium, go through the same life at once, each over a network of its own: connections
cut in the middle of a tick, by a close and by a reset; connections that die in silence; an absence in which the gateway
forgot ticks; another run; a gateway that was ended and one that took its place. They find the gateway below a path.
"""

import json
import re
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from random import Random
from urllib.request import urlopen

import pytest

from tests.support import needs
from tests.support.browser import Browser, Page
from tests.support.cutting_proxy import CuttingProxy, Network
from tests.support.gateway_process import ROOT, GatewayProcess, Lines, Publisher, Running, difference, publish

CLIENTS = ROOT / "examples" / "clients"
TRANSPORTS = ("websocket", "sse", "ndjson", "poll", "incremental")
PLACES = ("python", "node", "node 24", "chromium")

FIRST = 2
"""The newest tick when the clients come."""

LIVE = 400
"""Ticks of about 300 bytes, published while connections are cut."""

SILENT = 100
"""Ticks that are published after connections died in silence."""

SILENCE = 3
"""Seconds without a sign of life after which a connection is given up, in place of the examples' 45."""

RING = 1_000
"""Ticks that the gateway remembers."""

STAGE = 40.0
"""Seconds that the clients have for a part of their life: about ten times what it takes."""

CUTS = (3_001, 20_011, 60_007)
"""Bytes of answers: at the odd ones, somewhere inside of a tick."""


@dataclass
class Life:
    """What happened, and what each client said of it."""

    first: int = 0
    """The oldest tick of the first run that could still be read after the absence."""
    last: int = 0
    said: dict[tuple[str, str], Lines] = field(default_factory=dict)
    warned: dict[tuple[str, str], Lines] = field(default_factory=dict)
    proxies: dict[tuple[str, str], CuttingProxy] = field(default_factory=dict)
    absent: dict[str, BaseException] = field(default_factory=dict)
    """Why the clients of a place could not be started."""

    lost: set[tuple[str, str]] = field(default_factory=set)
    """Clients that are waited for no longer: each fails in its own test, not here."""

    def await_all(self, line: str) -> None:
        """Waits until each client has printed a line."""
        deadline = time.monotonic() + STAGE
        for client, lines in self.said.items():
            if client not in self.lost and not lines.find(f"^{line}$", deadline - time.monotonic()):
                self.lost.add(client)


def ticks(start: int, end: int, size: int = 0) -> list[str]:
    """`size` bytes of each tick are noise, which stays on the wire what it is where a connection is compressed."""
    noise = Random(start)
    return [json.dumps({"t": t, "rest": b64encode(noise.randbytes(size * 3 // 4)).decode()}) for t in range(start, end)]


def hurried(path: Path) -> str:
    """An example that waits less for signs of life, and has them come more often."""
    text = path.read_text()
    for long, short in (("silence = 45_000", f"silence = {SILENCE}_000"), ("silence = 45 ", f"silence = {SILENCE} ")):
        text = text.replace(long, short)
    assert f"silence = {SILENCE}" in text, f"{path.name} does not say how long it waits"
    return re.sub(r"(ndjson\?stamp=1|query = \"stamp=1)", r"\1&heartbeat=1", text)


def start(life: Life, network: Network, stack: ExitStack, folder: Path) -> None:
    """Starts every client whose place this machine has."""
    pages = []
    for place in PLACES:
        try:
            if place == "python":
                command = [sys.executable]
            elif place.startswith("node"):
                command = [needs.node() if place == "node" else needs.node_release(24)]  # which has a WebSocket itself
                # Packages are looked for beside a script and above it: as if its reader had installed them there.
                if not (folder / "node_modules").exists():
                    (folder / "node_modules").symlink_to(needs.node_packages())
            else:
                command = [needs.node(), str(needs.node_packages()), needs.chromium()]
        except (pytest.skip.Exception, pytest.fail.Exception) as reason:
            life.absent[place] = reason
            continue
        for transport in TRANSPORTS:
            proxy = life.proxies[place, transport] = network.proxy(CUTS)
            if place == "chromium":
                pages.append(Page(transport, proxy.url, hurried(CLIENTS / f"{transport}.mjs"), module=True))
                continue
            source = CLIENTS / (f"{transport}_client.py" if place == "python" else f"{transport}.mjs")
            copy = folder / source.name
            copy.write_text(hurried(source))
            client = stack.enter_context(Running([*command, copy, proxy.url]))
            life.said[place, transport], life.warned[place, transport] = client.stdout, client.stderr
    if pages:
        browser = stack.enter_context(Browser(pages))
        life.said |= {("chromium", name): lines for name, lines in browser.said.items()}
        life.warned |= {("chromium", name): lines for name, lines in browser.warned.items()}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    life = Life()
    with ExitStack() as stack:
        with GatewayProcess("serve", "--ring", str(RING)) as gateway, Publisher(gateway.url, run="one") as publisher:
            network = stack.enter_context(Network(gateway.port, prefix="/sim"))
            publisher.publish(ticks(0, FIRST + 1))
            start(life, network, stack, tmp_path_factory.mktemp("clients"))
            life.await_all(f"one {FIRST}")
            for t in range(FIRST + 1, LIVE, 10):
                publisher.publish(ticks(t, min(t + 10, LIVE), size=300))
            life.await_all(f"one {LIVE - 1}")

            network.forget()
            publisher.publish(ticks(LIVE, LIVE + SILENT))
            life.await_all(f"one {LIVE + SILENT - 1}")

            network.hold()
            life.last = LIVE + SILENT + RING + 500
            for t in range(LIVE + SILENT, life.last + 1, 100):
                publisher.publish(ticks(t, min(t + 100, life.last + 1)))
            with urlopen(f"{gateway.url}/meta", timeout=60) as answer:
                life.first = json.load(answer)["first"]
            assert life.first > LIVE + SILENT, "nothing was forgotten: there is no gap to be told of"
            network.release()
            life.await_all(f"one {life.last}")

            publish(gateway.url, ticks(0, 100), run="two")
            life.await_all("two 99")

        with GatewayProcess("serve") as gateway:
            publish(gateway.url, ticks(0, 50), run="three")
            network.target = gateway.port
            publish(gateway.url, ticks(50, 100), run="three")
            life.await_all("three 99")
            yield life


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("place", PLACES)
def test_example(life: Life, place: str, transport: str) -> None:
    if place in life.absent:
        raise life.absent[place]
    printed = life.said[place, transport].lines
    warned = life.warned[place, transport].text
    wanted = [f"one {t}" for t in (*range(FIRST, LIVE + SILENT), *range(life.first, life.last + 1))]
    wanted += [f"{run} {t}" for run in ("two", "three") for t in range(100)]
    parted = difference(printed, wanted)
    assert not parted, f"and on stderr:\n{warned[-3000:]}"
    assert life.proxies[place, transport].cut > len(CUTS), "its connections were not cut where they should have been"
    for notice in ("gap", "reset"):
        assert notice in warned.lower(), f"it was not told of the {notice}:\n{warned[-3000:]}"


def test_all_begin_at_the_first_tick_of_a_gateway_that_had_none(tmp_path: Path) -> None:
    """Also those that ask now and then, and asked when there was nothing yet."""
    with GatewayProcess("serve") as gateway, Network(gateway.port) as network, ExitStack() as stack:
        clients = {}
        for transport in TRANSPORTS:
            proxy = network.proxy()
            source = CLIENTS / f"{transport}_client.py"
            copy = tmp_path / source.name
            copy.write_text(source.read_text().replace("limit=100&", "limit=100&timeout=0.5&"))  # poll: nothing came
            clients[transport] = proxy, stack.enter_context(Running([sys.executable, copy, proxy.url]))
        for proxy, client in clients.values():
            while not proxy.heads:
                assert client.process.poll() is None, client.report()
                time.sleep(0.01)
        publish(gateway.url, ticks(0, 20), run="one")
        for transport, (_, client) in clients.items():
            assert client.stdout.find("^one 19$"), client.report()
            assert client.stdout.lines == [f"one {t}" for t in range(20)], transport


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_answers_that_break_off_anywhere(transport: str, tmp_path: Path) -> None:
    """In their heads too, of which Python takes the half for the whole."""
    cuts = list(accumulate(range(13, 800, 29)))  # each some bytes further into an answer than the one before
    with GatewayProcess("serve") as gateway, Network(gateway.port, narrow=False) as network:
        publish(gateway.url, ticks(0, 1), run="one")
        proxy = network.proxy(cuts)
        copy = tmp_path / f"{transport}_client.py"
        copy.write_text(re.sub(r"sleep\((1|wait)\)", "sleep(0.01)", (CLIENTS / copy.name).read_text()))
        with Running([sys.executable, copy, proxy.url]) as client:
            for t in range(1, 300):
                publish(gateway.url, ticks(t, t + 1, size=200), run="one")
                assert client.stdout.find(f"^one {t}$"), client.report()
                if proxy.cut == len(cuts):
                    break
            lines = client.stdout.lines
            assert lines == [f"one {n}" for n in range(int(lines[0].split()[1]), t + 1)], client.report()
        assert proxy.cut == len(cuts)


def test_each_transport_is_shown_in_both_languages() -> None:
    assert {path.stem for path in CLIENTS.glob("*.mjs")} == set(TRANSPORTS)
    assert {path.stem for path in CLIENTS.glob("*.py")} == {f"{name}_client" for name in TRANSPORTS}


@pytest.mark.parametrize("path", sorted(CLIENTS.glob("*.*[sy]")), ids=lambda path: path.name)
def test_an_example_stays_short(path: Path) -> None:
    """What a newcomer copies has to be read first."""
    assert len(path.read_text().splitlines()) <= 45

"""The client snippets of the original design print ticks exactly as they stand, HOST filled in, nothing else changed.

In Node, with the globals that browsers have from the packages ws and eventsource; and in Chromium, on a page of another
origin than the gateway's, as it is for whoever pastes them into a console.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import needs
from tests.support.browser import Browser, Page
from tests.support.gateway_process import GatewayProcess, Lines, Publisher, Running, difference

SEED = Path(__file__).parent / "seed"
COUNT = 200

# What the reader types after pasting a snippet: one of them only defines a function.
CALLS = {"websocket": "", "sse": "", "poll": "pollTicks();"}


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    with GatewayProcess("serve") as process:
        yield process


def snippet(name: str, gateway: GatewayProcess) -> str:
    text = (SEED / f"{name}.js").read_text()
    assert text.count("HOST:8000") == 1
    return text.replace("HOST:8000", f"127.0.0.1:{gateway.port}")


def ticks(start: int, end: int) -> list[str]:
    return [f'{{"t":{t},"agents":[{{"id":0,"x":{t / 7},"y":1}},{{"id":1,"x":2,"y":3}}]}}' for t in range(start, end)]


def line(name: str, t: int) -> str:
    return f"Tick: {t} 2" if name == "websocket" else f"Tick: {t}"


def check(publisher: Publisher, readers: dict[str, Lines], start: int) -> None:
    """Publishes to readers that run already, each once it has printed tick 1, and compares what they print."""
    for name, lines in readers.items():
        assert lines.find(f"^{line(name, 1)}$"), f"{name} never printed tick 1, but {lines.lines[:5]}"
    for t in range(start, COUNT, 5):
        publisher.publish(ticks(t, min(t + 5, COUNT)))
    for name, lines in readers.items():
        lines.find(f"^{line(name, COUNT - 1)}$")
        parted = difference(lines.lines, [line(name, t) for t in range(1, COUNT)])
        assert not parted, name


@pytest.mark.parametrize("name", CALLS)
def test_in_node(gateway: GatewayProcess, tmp_path: Path, name: str) -> None:
    needs.node_packages()
    filled = tmp_path / f"{name}.js"
    filled.write_text(snippet(name, gateway))
    with Publisher(gateway.url, run=f"node-{name}") as publisher:
        # The streams begin with the newest tick, the poll after its lastT = 0: with these two, all begin with tick 1.
        publisher.publish(ticks(0, 2))
        with Running([needs.node(), needs.JS / "seed.mjs", filled, CALLS[name]]) as client:
            check(publisher, {name: client.stdout}, 2)


def test_in_chromium(gateway: GatewayProcess) -> None:
    elsewhere = gateway.url.replace("127.0.0.1", "localhost")
    with Publisher(gateway.url, run="chromium") as publisher:
        publisher.publish(ticks(0, 2))
        pages = [Page(name, elsewhere, f"{snippet(name, gateway)}\n{call}") for name, call in CALLS.items()]
        with Browser(pages) as browser:
            check(publisher, browser.said, 2)
            assert not browser.warned["websocket"].lines + browser.warned["sse"].lines + browser.warned["poll"].lines


def test_the_snippets_are_the_originals() -> None:
    """A snippet that was mended to pass would show nothing."""
    assert {path.stem for path in SEED.glob("*.js")} == set(CALLS)
    assert "new WebSocket('ws://HOST:8000/ws/stream')" in (SEED / "websocket.js").read_text()
    assert "new EventSource('http://HOST:8000/stream')" in (SEED / "sse.js").read_text()
    assert "fetch(`http://HOST:8000/poll?last_t=${lastT}`)" in (SEED / "poll.js").read_text()

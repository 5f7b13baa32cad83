"""EventSource behind the documented proxies outlives a gateway: ended, killed, or stuck, it comes back to the next one.

Browsers give up for good on any answer but 200, and a proxy has no gateway to ask for one.
"""

import json
import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.support import needs
from tests.support.browser import Browser, Page
from tests.support.gateway_process import PATIENCE, GatewayProcess, Lines, Running, difference, free_port, publish
from tests.support.proxies import AT_ONCE, PROXIES, Changes, proxy

SOURCES = ("/sse", "/stream", "elsewhere")
"""Where an EventSource of a page reads; elsewhere: at another proxy, so that the page is of another origin."""

PEERS = ("eventsource", "fetch-event-source")
"""EventSources that others wrote, in Node."""

ENDS = ("SIGTERM", "SIGKILL")
"""How gateways end, one after another."""

TICKS = 50
"""Of each gateway."""

HURRY = {"retry: 2000": "retry: 200"}
STUCK = {
    "nginx": {"proxy_read_timeout 75s": "proxy_read_timeout 100ms"},
    "haproxy": {"timeout server 75s": "timeout server 100ms"},
}


@dataclass
class Story:
    """What each EventSource said, by its proxy and where it reads."""

    said: dict[tuple[str, str], Lines] = field(default_factory=dict)
    warned: dict[str, Lines] = field(default_factory=dict)
    """By proxy: its page's errors, each with the source's state."""

    def ticks(self, name: str, source: str) -> list[str]:
        start = _start(source)
        lines = self.said[name, source].lines
        return [line.removeprefix(start) for line in lines if line.startswith(f'{start}{{"t":')]

    def errors(self, name: str, source: str) -> list[str]:
        return [line for line in self.warned[name].lines if line.startswith(f"{source} ")]

    def await_tick(self, t: int) -> None:
        for (name, source), lines in self.said.items():
            found = lines.find(f'^{re.escape(_start(source))}{{"t":{t}}}$')
            assert found, f"{source} through {name} never got tick {t}: {self.errors(name, source)[-5:]}"

    def await_answers_without_a_gateway(self, before: dict[tuple[str, str], int]) -> None:
        """Waits until each EventSource in the browser met the end of its stream, and that of its proxy's own answer."""
        for (name, source), count in before.items():

            def met(lines: Sequence[str], start: str = _start(source), least: int = count + 2) -> bool:
                return sum(line.startswith(start) for line in lines) >= least

            told = f"{source} through {name} does not come back"
            assert self.warned[name].wait(met), f"{told}: {self.errors(name, source)}"


def _start(source: str) -> str:
    """How a source's lines begin."""
    return "" if source in PEERS else f"{source} "


def page(name: str, urls: dict[str, str]) -> Page:
    names = list(urls)
    other = urls[names[names.index(name) - 1]]
    sources = {source: f"{other}/sse" if source == "elsewhere" else source for source in SOURCES}
    script = f"""
        for (const [name, address] of Object.entries({json.dumps(sources)})) {{
          const source = new EventSource(address);
          source.onmessage = (event) => console.log(`${{name}} ${{event.data}}`);
          source.onerror = () => console.warn(`${{name}} ${{source.readyState}}`);
        }}"""
    return Page(name, urls[name], script)


def tell(folder: Path) -> Story:
    """Lets every EventSource live through all the ends."""
    story, port = Story(), free_port()
    options = ("--port", str(port), "--data", str(folder / "history"))
    with ExitStack() as stack:
        gateway = GatewayProcess("serve", *options)
        stack.callback(gateway.kill)
        publish(gateway.url, ['{"t":0}'], run="one")
        urls = {}
        for name in PROXIES:
            (folder / name).mkdir()
            urls[name] = stack.enter_context(proxy(name, folder / name, port, {**HURRY, **AT_ONCE.get(name, {})}))
        browser = stack.enter_context(Browser([page(name, urls) for name in urls]))
        story.warned = browser.warned
        for name, url in urls.items():
            story.said |= {(name, source): browser.said[name] for source in SOURCES}
            for peer in PEERS:
                running = stack.enter_context(Running([needs.node(), needs.JS / "peers.mjs", peer, url]))
                story.said[name, peer] = running.stdout
        story.await_tick(0)
        for life, end in enumerate((*ENDS, "")):
            last = (life + 1) * TICKS - 1
            publish(gateway.url, [f'{{"t":{t}}}' for t in range(max(last + 1 - TICKS, 1), last + 1)], run="one")
            story.await_tick(last)
            if end:
                before = {(name, source): len(story.errors(name, source)) for name in urls for source in SOURCES}
                gateway.kill() if end == "SIGKILL" else gateway.terminate()
                story.await_answers_without_a_gateway(before)
                gateway = GatewayProcess("serve", *options)
                stack.callback(gateway.kill)
    return story


def test_every_tick_once(tmp_path: Path) -> None:
    story = tell(tmp_path)
    wanted = [f'{{"t":{t}}}' for t in range((len(ENDS) + 1) * TICKS)]
    faults = {at: parted for at in story.said if (parted := difference(story.ticks(*at), wanted))}
    assert not faults
    states = {(name, source): {line.rpartition(" ")[2] for line in story.errors(name, source)}
              for name, source in story.said if source in SOURCES}  # fmt: skip
    assert {at: seen for at, seen in states.items() if seen != {"0"}} == {}, "it gave up, and was opened anew"


def ask(url: str, accept: str) -> tuple[int, dict[str, str], bytes]:
    try:
        with urlopen(Request(url, headers={"Accept": accept}), timeout=PATIENCE) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except HTTPError as error:
        return error.code, dict(error.headers), error.read()


@pytest.mark.parametrize(
    ("name", "changes"),
    [*((name, AT_ONCE.get(name, {})) for name in PROXIES), *STUCK.items()],
    ids=[*PROXIES, *(f"{name}-stuck" for name in STUCK)],
)
def test_the_answer_of_a_proxy_without_a_gateway(name: str, changes: Changes, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stuck:
        port = stuck.getsockname()[1]
        if changes is not STUCK.get(name):
            stuck.close()
        with proxy(name, tmp_path, port, changes) as url:
            status, headers, body = ask(f"{url}/sse", "text/event-stream")
            assert (status, body) == (200, b"retry: 2000\n")
            head = {key.lower(): value for key, value in headers.items()}
            assert head["content-type"].startswith("text/event-stream")
            assert head["access-control-allow-origin"] == "*" and head["cache-control"] == "no-store"
            assert ask(f"{url}/ndjson", "*/*")[0] in (502, 503, 504), "others are told of it"

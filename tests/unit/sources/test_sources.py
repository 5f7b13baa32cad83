"""What every registered source promises, whichever it is: its ticks come to readers, in order, each once; and where it
is a task, nobody else publishes meanwhile."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.backend import Writer
from tests.support.blocking_client import Follower, Peer, ask, request
from tests.support.frames import TEXT, frame
from tests.support.gateway_process import GatewayProcess
from tick_gateway.sources import SOURCES, Source

LINES = [f'{{"t":{t},"x":{t * t}}}' for t in range(5)]

Fed = tuple[GatewayProcess, Callable[[], None]]
"""A gateway, and what makes the source bring the lines."""


@contextlib.contextmanager
def http(folder: Path) -> Iterator[Fed]:
    with GatewayProcess("serve") as gateway:
        body = "\n".join(LINES).encode()

        def feed() -> None:
            assert ask(gateway.port, request("POST", "/publish", {}, body)).json()["accepted"] == len(LINES)

        yield gateway, feed


@contextlib.contextmanager
def websocket(folder: Path) -> Iterator[Fed]:
    with GatewayProcess("serve") as gateway, Peer(gateway.port) as peer:
        peer.open("/ws/publish")

        def feed() -> None:
            for line in LINES:
                peer.send(frame(TEXT, line.encode()))

        yield gateway, feed


@contextlib.contextmanager
def stdin(folder: Path) -> Iterator[Fed]:
    with GatewayProcess("serve", "--stdin", stdin=True) as gateway:
        yield gateway, lambda: gateway.feed(LINES)


@contextlib.contextmanager
def tail(folder: Path) -> Iterator[Fed]:
    with GatewayProcess("serve", "--tail", str(folder)) as gateway, Writer(folder / "a.jsonl") as writer:
        yield gateway, lambda: writer.write(*(line.encode() for line in LINES))


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[Fed]:
    with GatewayProcess("demo", "--rate", "100", "--agents", "1") as gateway:
        yield gateway, lambda: None


WAYS = {"http": http, "websocket": websocket, "stdin": stdin, "tail": tail, "demo": demo}

each = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


def test_every_source_is_tried_here() -> None:
    assert list(WAYS) == [source.name for source in SOURCES]


@each
def test_it_is_mounted_or_started_by_a_command(source: Source) -> None:
    is_task = source.make is not None
    assert is_task is not bool(source.routes)
    assert is_task is bool(source.command) is bool(source.options)
    assert all(route.publishes for route in source.routes), "no other origin's page may use it"


@each
def test_its_ticks_come_in_order_and_others_are_refused_meanwhile(source: Source, tmp_path: Path) -> None:
    with WAYS[source.name](tmp_path) as (gateway, feed):
        follower = Follower(gateway.port)
        feed()
        if source.name == "demo":
            follower.lines.find('^{"t":3,')
            ts = [json.loads(line)["t"] for line in follower.lines.lines if line.startswith('{"t"')]
            assert ts == [*range(ts[0], ts[0] + len(ts))]
        else:
            follower.wait_for(LINES)
        follower.close()
        (run,) = ask(gateway.port, request("GET", "/runs")).json()["runs"]
        refused = ask(gateway.port, request("POST", f"/publish?run={run['run']}", {}, LINES[-1].encode()))
        assert refused.status == (409 if source.make is not None else 200)
        if source.make is not None:
            assert refused.json()["error"] in ("own_source", "tailing")

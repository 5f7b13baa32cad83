"""The bench's own ticks, and how they come due."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable

import pytest

from tick_gateway.bench.exchange import TICK
from tick_gateway.bench.publisher import LoadPublisher, PublishJob, bodies, paced


@pytest.mark.parametrize("size", [100, 1000, 20_000])
def test_ticks_are_about_as_long_as_asked_for_and_begin_as_readers_look_for_them(size: int) -> None:
    head = b'{"t":%d,"ts":%d' % (1000, 1_700_000_000_000_000_000)
    for body in bodies(size)[:50]:
        tick = head + body
        assert tick.endswith(b"}\n") and abs(len(tick) - size) < max(size * 0.2, 60)
        assert json.loads(tick)["t"] == 1000 and TICK.match(tick)


def test_as_fast_as_possible_is_all_at_once_in_bursts() -> None:
    found = list(paced(PublishJob("r", 5, 150)))
    assert [t for one in found for t in one] == list(range(5, 155))
    assert max(map(len, found)) == 64


def test_at_a_rate_each_comes_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 0.05))
    came = [(t, round(now[0], 2)) for one in paced(PublishJob("r", 0, 4, rate=10.0)) for t in one]
    assert came == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]


def answering(answer: bytes) -> tuple[LoadPublisher, Callable[[], bytes]]:
    """A publisher to somebody who answers so; and what was sent."""
    server = socket.create_server(("127.0.0.1", 0))
    said = bytearray()

    def serve() -> None:
        with server, server.accept()[0] as peer:
            while not said.endswith(b"0\r\n\r\n"):
                said.extend(peer.recv(1 << 16))
            peer.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def sent() -> bytes:
        thread.join(60)
        return bytes(said)

    address = int(socket.AF_INET), ("127.0.0.1", int(server.getsockname()[1]))
    return LoadPublisher(address, "host:1", "/sim", "secret", 200, 60.0), sent


def test_one_body_of_ticks_to_a_run_of_its_own() -> None:
    publisher, sent = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    report = publisher.publish(PublishJob("r", 0, 3))
    assert (report.count, report.problem) == (3, "")
    data = sent()
    assert data.startswith(b"POST /sim/publish HTTP/1.1\r\nHost: host:1\r\n")
    assert b"Authorization: Bearer secret\r\n" in data and b"Tick-Run: r\r\n" in data
    assert [int(found[1]) for found in TICK.finditer(data)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("body", "problem"),
    [(b'{"message":"no"}', "publishing was answered 403: no"), (b"<html>", "publishing was answered 403")],
)
def test_a_refusal_is_told(body: bytes, problem: str) -> None:
    publisher, _ = answering(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert publisher.publish(PublishJob("r", 0, 1)).problem == problem

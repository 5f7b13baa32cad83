"""Readers that are dropped, and those that are not: a peer that takes nothing, one that takes little, and a tick of
which no bytes can be made."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.async_client import WebSocket
from tests.support.blocking_client import Peer, request
from tests.support.harness import Harness
from tests.support.reconnecting import PATIENCE
from tick_gateway.history.local.limits import Limits
from tick_gateway.model import projection, view
from tick_gateway.wire import framing as wire
from tick_gateway.wire.compression import DeflateCompressor, ZstdFrameCompressor
from tick_gateway.wire.ndjson import NDJSONFraming

from ..simulation.client import Client, Pairs
from ..simulation.disk import Disk
from ..simulation.room import HIGH_WATER, Room
from ..support.decoders import EventStream

KINDS = ("ws", "sse", "ndjson", "sse+gzip", "ndjson+zstd", "ws+deflate")
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


def stalled(room: Room, kind: str, pairs: Pairs, *, blocked: bool = True) -> Client:
    """A reader that was at the tip and has stopped reading."""
    client = Client(room, kind, [("tail", "0"), *pairs])
    room.settle()
    client.wire.stalled = True
    t = 0
    while len(client.wire.buffer) < 500 or (blocked and not client.session.state.blocked):
        t += 1
        room.tell(t, size=100)
    assert client.session.state.blocked == blocked
    return client


def lasts(room: Room, client: Client, most: float, each: Callable[[], object] = bool, every: float = 1.0) -> float:
    """How long it is until a reader is dropped, up to ``most`` seconds; ``each`` is called now and then."""
    begun = room.clock.now
    while client.connected and room.clock.now - begun < most:
        each()
        room.advance(every)
    return room.clock.now - begun


# ---- peers that take nothing ----


@kinds
def test_a_blocked_reader_that_takes_nothing_is_dropped(room: Room, kind: str) -> None:
    client = stalled(room, kind, [("heartbeat", "1")])
    assert 9 <= lasts(room, client, 100) <= 12
    assert room.fanout.registry.dropped == 1 and not room.fanout.registry.sessions


@kinds
def test_by_default_it_is_dropped_after_a_minute(room: Room, kind: str) -> None:
    assert 59 <= lasts(room, stalled(room, kind, []), 100) <= 62


@pytest.mark.parametrize("pairs", [[("limit", "1000")], [("lag", "skip")], [("every", "1"), ("batch", "3")]])
def test_whatever_it_asked_for(room: Room, pairs: Pairs) -> None:
    assert 9 <= lasts(room, stalled(room, "ndjson", [("heartbeat", "1"), *pairs]), 100) <= 12


@kinds
def test_a_blocked_reader_that_takes_a_little_is_kept(room: Room, kind: str) -> None:
    """Every tick late is the promise."""
    client = stalled(room, kind, [("heartbeat", "1")])
    for _ in range(10):
        assert lasts(room, client, 9, lambda: None) >= 9
        client.wire.take(1)
    assert client.connected and client.session.state.blocked
    client.wire.read_on()
    room.settle()
    newest = client.numbers[-1]
    assert client.numbers == list(range(1, newest + 1))


def test_a_paused_reader_that_does_not_read_costs_no_more_and_is_dropped(room: Room) -> None:
    client = Client(room, "ws", [("heartbeat", "1")])
    room.tell(1)
    client.command("pause")
    room.settle()
    client.wire.stalled = True
    client.session.write(b"\x81\x01x" * (HIGH_WATER // 3 + 1))
    assert client.session.state.blocked
    most = client.wire.most
    assert 9 <= lasts(room, client, 100) <= 12
    assert client.wire.most == most, "no heartbeat is put behind what is not read"


@pytest.mark.parametrize("kind", ["sse", "ndjson", "ndjson+gzip"])
def test_a_quiet_reader_whose_system_takes_nothing_is_dropped(room: Room, kind: str) -> None:
    """A machine that is gone without a word: its heartbeats are never taken."""
    client = stalled(room, kind, [("heartbeat", "2")], blocked=False)
    assert 8 <= lasts(room, client, 100) <= 12


@pytest.mark.parametrize("kind", ["ws", "sse", "ndjson"])
def test_a_quiet_reader_that_still_takes_what_came_before_is_kept(room: Room, kind: str) -> None:
    """It has not come to the pings that lie behind it."""
    client = stalled(room, kind, [("heartbeat", "1")], blocked=False)
    lasts(room, client, 60, lambda: client.wire.take(5), every=0.5)
    assert client.connected
    assert lasts(room, client, 100) <= 12, "and then it takes no more"


def test_a_quiet_reader_with_a_tick_now_and_then_is_kept_while_it_reads(room: Room) -> None:
    clients = [Client(room, kind, [("heartbeat", "2"), ("tail", "0")]) for kind in KINDS]
    for t in range(1, 20):
        room.tell(t)
        room.advance(5)
    assert all(client.connected and client.numbers[-1] == 19 for client in clients)


def test_who_waits_for_the_disk_gets_signs_of_life() -> None:
    limits = Limits(block_bytes=200, level=1, fsync="never")
    room = Room(ring=2, disk=Disk(limits, [0], cache_bytes=1))
    try:
        for t in range(1, 30):
            room.tell(t)
        assert room.disk is not None
        clients = [Client(room, "sse", [("from_t", f"auto-1:{t}"), ("heartbeat", "2")]) for t in (0, 15)]
        room.settle()
        room.disk.read_seconds = 30.0
        room.advance(25)
        for client in clients:
            assert isinstance(client.decoder, EventStream) and client.decoder.comments >= 8
        room.advance(1000)
        assert [client.numbers[-1] for client in clients] == [29, 29]
    finally:
        room.close()


async def test_a_websocket_that_reads_nothing() -> None:
    """Real sockets: what the peer's system has not taken is seen, too."""
    harness = Harness(small=True)
    harness.set_flush_policy(sweep_interval=0.05)
    harness.set_patience(stall_seconds=0.5, missed_beats=0)
    async with harness:
        await harness.publish_all(range(3))
        await WebSocket.connect(harness.port, "/ws/stream?tail=0&heartbeat=1", small=True)
        await harness.until(lambda: bool(harness.sessions))
        t = 3
        while not all(one.state.blocked for one in harness.sessions):
            await harness.publish_all([t], size=50_000)
            t += 1
        await harness.until(lambda: not harness.sessions)
        assert harness.runtime.fanout.registry.dropped == 1


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
async def test_a_pull_that_is_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tick_gateway.http.listen.UNREAD_MS", 300)
    async with Harness(small=True) as harness:
        await harness.publish_all(range(60), size=100_000)
        assert harness._server is not None
        server = harness._server._runner.server
        assert server is not None
        with await asyncio.to_thread(Peer, harness.port, receive_buffer=4096) as peer:
            peer.send(request("GET", "/incremental"))
            await harness.until(lambda: harness.asked == 1 and bool(server.connections))
            await harness.until(lambda: not server.connections)
        await WebSocket.connect(harness.port, "/ws/stream?tail=1")
        await harness.until(lambda: bool(harness.sessions))
        (one,) = harness.sessions
        assert one.transport is not None
        sock = one.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0, "streams decide for themselves"


@pytest.mark.parametrize("target", ["/incremental?from_t=A:{}", "/poll?limit=999&last_t=A:{}"])
async def test_large_answers_that_nobody_reads_are_bounded_together(target: str) -> None:
    """Each is another one, of megabytes; those who read are served meanwhile."""
    async with Harness(small=True) as harness:
        await harness.publish_all(range(100), size=50_000)
        unsent = harness.runtime.response_cache.unsent
        unsent._max_bytes = 8 << 20
        with ExitStack() as stack:
            for number in range(12):
                peer = await asyncio.to_thread(Peer, harness.port, receive_buffer=4096)
                stack.enter_context(peer)
                peer.send(request("GET", target.format(number % 6)))
            await harness.until(lambda: harness.asked == 12)
            assert 0 < unsent.bytes <= unsent._max_bytes
            response = await harness.get(target.format(20))
            assert response.status == 200
            assert (await response.read()).count(b'"run_of"') == 79
        await harness.until(lambda: not unsent.bytes)


# ---- ticks of which no bytes can be made ----


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Numbers of ticks that no projection can be made of."""
    numbers: set[int] = set()
    project = projection.project

    def fail(data: bytes, fields: tuple[str, ...]) -> bytes:
        if json.loads(data)["t"] in numbers:
            raise ValueError("a fault of the gateway")
        return project(data, fields)

    monkeypatch.setattr(view, "project", fail)
    return numbers


def unjudged(room: Room, kind: str, pairs: Pairs) -> Client:
    """A reader whose gaps are not held against what can be read."""
    client = Client(room, kind, pairs)
    client.witness.see = lambda message: None  # type: ignore[method-assign]
    return client


def told(client: Client) -> list[Any]:
    """The numbers of the ticks that came, and of each gap between which ticks it lies."""
    found: list[Any] = []
    for body in client._bodies:
        for one in body if isinstance(body, list) else [body]:
            found.append((one["after"], one["next"]) if one.get("notice") == "gap" else one.get("t", one.get("notice")))
    return found


@pytest.fixture
def complaints(room: Room) -> list[dict[str, Any]]:
    """What is logged as an error, which is no failure here."""
    room.log.failures = []
    return room.log.failures


VIEWS: list[Pairs] = [[], [("stamp", "1")], [("batch", "3")], [("limit", "7")]]


@kinds
@pytest.mark.parametrize("pairs", VIEWS, ids=lambda pairs: pairs[0][0] if pairs else "plain")
def test_a_tick_that_cannot_be_shown_is_a_gap_for_those_who_asked_for_it_so(
    room: Room, faulty: set[int], complaints: list[dict[str, Any]], kind: str, pairs: Pairs
) -> None:
    whole = Client(room, kind, [("tail", "0")])
    some = [unjudged(room, kind, [("tail", "0"), ("fields", "u"), *pairs]) for _ in range(3)]
    room.settle()
    faulty |= {3, 5, 6}
    room.tell(1, 2)
    for t in (3, 4, 5, 6):
        room.publish(t)
    room.advance(3)
    for t in (7, 8):
        room.tell(t)
        room.advance(3)
    assert whole.numbers == [1, 2, 3, 4, 5, 6, 7, 8]
    limited = ("limit", "7") in pairs
    for client in some:
        assert told(client) == [1, 2, (2, 4), 4, (4, 6), (5, 7), 7, 8]
        assert client.connected and (limited or client.session.state.live)
    assert [one["message"] for one in complaints if "tick" in one["message"]] == [
        f"tick {t} of run auto-1 cannot be put into the form that some readers asked for; they get a gap"
        for t in (3, 5, 6)
    ], "once each, however many readers"


@pytest.mark.usefixtures("complaints")
def test_who_catches_up_is_told_too_and_that_its_run_is_not_complete(room: Room, faulty: set[int]) -> None:
    faulty.add(3)
    for t in range(1, 6):
        room.publish(t, run="a")
    room.tell(1, run="b")
    clients = [unjudged(room, kind, [("from_t", "a:1"), ("fields", "u")]) for kind in KINDS]
    room.settle()
    for client in clients:
        assert told(client) == [2, (2, 4), 4, 5, "reset", 1]
        resets = [body for body in client._bodies if isinstance(body, dict) and body.get("notice") == "reset"]
        assert [reset["complete"] for reset in resets] == [False]


@pytest.mark.usefixtures("complaints")
def test_the_last_round_too(room: Room, faulty: set[int]) -> None:
    clients = [unjudged(room, kind, [("tail", "0"), ("fields", "u")]) for kind in KINDS]
    room.tell(1)
    room.settle()
    faulty.add(2)
    room.publish(2)
    room.publish(3)
    room.drain()
    for client in clients:
        assert told(client)[-3:] == [(1, 3), 3, "end"]


@pytest.mark.usefixtures("complaints")
@pytest.mark.parametrize(
    ("kind", "compressor"),
    [("sse+gzip", DeflateCompressor), ("ws+deflate", DeflateCompressor), ("sse+zstd", ZstdFrameCompressor)],
)
def test_a_compressor_that_fails_loses_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch, kind: str, compressor: type[DeflateCompressor | ZstdFrameCompressor]
) -> None:
    """What went into it and did not come out is not referred to."""
    clients = [Client(room, kind, [("tail", "0")]) for _ in range(3)]
    room.tell(1, 2)
    add, fails = compressor.add, [True]

    def fail(self: Any, data: bytes) -> bytes:
        made = add(self, data)
        if fails:
            fails.clear()
            raise MemoryError
        return made

    monkeypatch.setattr(compressor, "add", fail)
    for t in range(3, 9):
        room.tell(t)
    assert [client.numbers for client in clients] == [list(range(1, 9))] * 3
    assert all(client.session.state.live for client in clients)
    room.drain()
    assert [client.witness.ended for client in clients] == ["shutdown"] * 3


@pytest.mark.usefixtures("complaints")
def test_a_reader_that_cannot_be_told_what_it_has_to_know_is_dropped_alone(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.tell(1, run="a")
    lines, events = (Client(room, kind, [("tail", "0")]) for kind in ("ndjson", "sse"))
    room.settle()

    def fail(self: Any, notice: Any) -> wire.Framed:
        raise ValueError("a fault of the gateway")

    monkeypatch.setattr(NDJSONFraming, "notice", fail)
    room.tell(1, run="b")
    assert not lines.connected and events.connected and events.notices == ["reset"]


async def test_what_a_history_command_cannot_show_is_logged(faulty: set[int], caplog: pytest.LogCaptureFixture) -> None:
    async with Harness() as harness:
        await harness.publish_all(range(4))
        faulty.add(2)
        reader = await WebSocket.connect(harness.port, "/ws/stream?tail=0&fields=x")
        reader.send(json.dumps({"op": "history", "id": 1, "t0": 1, "t1": 3}).encode())
        messages = [json.loads(await asyncio.wait_for(reader.message(), PATIENCE)) for _ in range(2)]
        assert [one["t"] for one in messages[0]["ticks"]] == [1, 3]
        assert messages[1]["gap"] == {"after": 1, "next": 3}
    told = [record for record in caplog.records if "tick 2 of run A cannot be put" in record.message]
    assert len(told) == 1 and told[0].levelname == "ERROR" and told[0].exc_info


async def test_pulls_go_on_behind_it(faulty: set[int]) -> None:
    async with Harness() as harness:
        await harness.publish_all(range(8))
        faulty |= {3, 5}
        response = await harness.get("/incremental?from_t=A:1&fields=x")
        assert [one["t"] for one in await response.json()] == [2, 4, 6, 7]
        assert response.headers["Tick-Gap"] == "after=2;next=4, after=4;next=6"
        assert response.headers["Tick-Next"] == "A:7"
        response = await harness.get("/poll?from_t=A:2&fields=x")
        answer = await response.json()
        assert (answer["t"], answer["gap"], answer["position"]) == (4, [{"after": 2, "next": 4}], "A:4")
        reader = await WebSocket.connect(harness.port, "/ws/stream?tail=0&fields=x")
        reader.send(json.dumps({"op": "history", "id": 1, "t0": 2, "t1": 6}).encode())
        messages = [json.loads(await asyncio.wait_for(reader.message(), PATIENCE)) for _ in range(2)]
        assert [one["t"] for one in messages[0]["ticks"]] == [2, 4, 6]
        assert messages[1] == {"history": 1, "done": True, "gap": {"after": 2, "next": 6}}
        harness.publish([8])
        assert json.loads(await asyncio.wait_for(reader.message(), PATIENCE))["t"] == 8

"""/ws/publish where the other side breaks the protocol: a clear close code, and nothing lost of what came before."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.blocking_client import UPGRADE, Peer, ask, request
from tests.support.frames import BINARY, CLOSE, CONT, PING, TEXT, frame
from tests.support.gateway_process import PATIENCE, GatewayProcess, peak
from tests.support.serving import serving
from tick_gateway.sources import websocket

MAX_TICK = 30_000
COUNT = 1000
PROTOCOL_ERROR, BAD_DATA, TOO_BIG = 1002, 1007, 1009
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits; server_no_context_takeover"}


def deflated(data: bytes) -> bytes:
    """A message's content as permessage-deflate has it."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def bomb(size: int) -> bytes:
    """A message's content of so many zeros, in megabytes: as the pieces do not depend on one another, one is made."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return (piece * (size >> 20)).removesuffix(b"\0\0\xff\xff")


FAULTS: dict[str, tuple[bytes, int]] = {
    "compressed": (frame(TEXT, deflated(b'{"t":9999}'), rsv=4), PROTOCOL_ERROR),
    "a bomb": (frame(TEXT, bomb(64 << 20), rsv=4), PROTOCOL_ERROR),
    "a bomb in fragments": (frame(BINARY, deflated(bytes(1 << 20)), rsv=4, fin=False) + frame(CONT), PROTOCOL_ERROR),
    "a compressed control frame": (frame(PING, b"x", rsv=4), PROTOCOL_ERROR),
    "a message inside another": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), PROTOCOL_ERROR),
    "text that is no UTF-8": (frame(TEXT, b'{"t":9999,"x":"\xff"}'), BAD_DATA),
    "a character in two fragments": (frame(TEXT, b'"\xc3', fin=False) + frame(CONT, b'\x28"'), BAD_DATA),
    "a large message": (frame(TEXT, b"x" * (MAX_TICK + 2000)), TOO_BIG),
    "the beginning of a large one": (bytes([0x81, 0xFF]) + struct.pack("!Q", 1 << 40), TOO_BIG),
    "goodbye": (frame(CLOSE, struct.pack("!H", 1000)), 1000),
}


@pytest.fixture(scope="module")
def process() -> Iterator[GatewayProcess]:
    with GatewayProcess("serve", "--max-tick", str(MAX_TICK)) as found:
        yield found


def tip(port: int) -> int:
    found = ask(port, request("GET", "/meta", {"Connection": "close"})).json()["tip"]
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("headers", [{}, OFFER], ids=["plain", "compression offered"])
@pytest.mark.parametrize("name", FAULTS)
def test_what_came_before_a_fault_is_published_and_acknowledged(
    process: GatewayProcess, name: str, headers: dict[str, str]
) -> None:
    fault, code = FAULTS[name]
    run = f"{name.replace(' ', '-')}-{len(headers)}"
    with Peer(process.port) as peer:
        peer.send(request("GET", "/ws/publish", UPGRADE | headers | {"Tick-Run": run}))
        head = peer.head()
        assert head.status == 101 and "sec-websocket-extensions" not in head.headers  # the offer is declined
        peer.send(b"".join([*(frame(TEXT, b'{"t":%d}' % t) for t in range(COUNT)), frame(TEXT, b"nonsense"), fault]))
        answers = []
        while (found := peer.frame()).opcode == TEXT:
            answers.append(json.loads(found.payload))
        assert (found.opcode, found.code) == (CLOSE, code)
        assert code == 1000 or b"before it were taken" in found.payload
    assert [answer["number"] for answer in answers if "error" in answer] == [COUNT + 1]
    assert max(answer.get("ack", -1) for answer in answers) == COUNT - 1
    assert tip(process.port) == COUNT - 1


# ---- where compression was negotiated ----

TOKEN = "secret"
FAR = OFFER | {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "192.0.2.1"}


@pytest.fixture(scope="module")
def far() -> Iterator[GatewayProcess]:
    with GatewayProcess("serve", "--max-tick", str(MAX_TICK), "--publish-token", TOKEN) as found:
        yield found


class Deflate:
    """One side of permessage-deflate, with its context."""

    def __init__(self, dictionary: bytes = b"") -> None:
        self._compressor = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=dictionary)

    def __call__(self, data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
        return (self._compressor.compress(data) + self._compressor.flush(flush)).removesuffix(b"\0\0\xff\xff")


COMPRESSED_FAULTS: dict[str, tuple[bytes, int]] = {
    "a bomb": (frame(TEXT, bomb(64 << 20), rsv=4), TOO_BIG),
    "a bomb just above": (frame(TEXT, Deflate()(bytes(MAX_TICK + 2000)), rsv=4), TOO_BIG),
    "a bomb in fragments": (
        frame(BINARY, bomb(16 << 20)[:3000], rsv=4, fin=False) + frame(CONT, bomb(16 << 20)[3000:]),
        TOO_BIG,
    ),
    "many members": (frame(TEXT, Deflate()(b"", zlib.Z_FINISH) * 5000, rsv=4), TOO_BIG),
    "no deflate at all": (frame(TEXT, b"\xff" * 100, rsv=4), BAD_DATA),
    "beyond the window's beginning": (frame(TEXT, Deflate(b'{"t":1,"x":2}')(b'{"t":1,"x":2}'), rsv=4), BAD_DATA),
    "text that is no UTF-8": (frame(TEXT, Deflate()(b'{"t":9,"x":"\xff"}'), rsv=4), BAD_DATA),
    "a compressed continuation": (frame(TEXT, b"x", fin=False) + frame(CONT, Deflate()(b"x"), rsv=4), PROTOCOL_ERROR),
    "another reserved bit": (frame(TEXT, b"x", rsv=2), PROTOCOL_ERROR),
    "goodbye": (frame(CLOSE, struct.pack("!H", 1000)), 1000),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", COMPRESSED_FAULTS)
@pytest.mark.parametrize("taking", ["fresh", "in context"])
def test_faults_of_compressed_messages(far: GatewayProcess, name: str, taking: str) -> None:
    fault, code = COMPRESSED_FAULTS[name]
    before, deflate, run = peak(far.process.pid), Deflate(), f"{taking}-{name}".translate(str.maketrans("' ", "--"))
    with Peer(far.port) as peer:
        peer.send(request("GET", "/ws/publish", UPGRADE | FAR | {"Tick-Run": run}))
        head = peer.head()
        assert head.status == 101 and head.headers["sec-websocket-extensions"].startswith("permessage-deflate")
        ticks = [b'{"t":%d,"x":"%d"}' % (t, t * t) for t in range(COUNT if taking == "in context" else 0)]
        frames = [  # compressed, plain, in fragments
            frame(TEXT, deflate(tick), rsv=4)
            if t % 3
            else frame(TEXT, tick)
            if t % 2
            else frame(TEXT, (whole := deflate(tick))[:5], rsv=4, fin=False) + frame(PING) + frame(CONT, whole[5:])
            for t, tick in enumerate(ticks)
        ]
        if taking == "in context" and name == "beyond the window's beginning":
            code = 1000  # in a context, it may refer to what is there: garbage, which is no tick
            fault += frame(CLOSE, struct.pack("!H", 1000))
        peer.send(b"".join([*frames, fault]))
        acks = [-1]
        while (found := peer.frame()).opcode != CLOSE:  # never compressed
            if found.opcode == TEXT:
                acks.append(json.loads(found.payload).get("ack", -1))
        assert found.code == code
    assert max(acks) == len(ticks) - 1
    if ticks:
        with urlopen(f"{far.url}/range?run={run}", timeout=PATIENCE) as answer:
            assert answer.read().splitlines() == ticks
    assert peak(far.process.pid) - before < 32 << 20


async def test_a_peer_that_never_hangs_up_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "_CLOSE_SECONDS", 0.05)
    async with serving() as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request("GET", "/ws/publish", UPGRADE) + frame(TEXT, b"{}", rsv=4))
        told = await reader.read()  # to its end: the gateway has nothing more to say
        assert struct.pack("!H", PROTOCOL_ERROR) in told
        runner = gateway.client.server.runner
        assert runner is not None and runner.server is not None
        async with asyncio.timeout(PATIENCE):
            while gateway.gateway.runtime._publishers or runner.server.connections:  # noqa: ASYNC110 - aiohttp has no event for it
                await asyncio.sleep(0.001)
        writer.close()


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "large fragments": (frame(TEXT, b'{"t":1', fin=False), frame(CONT, b" " * 1000, fin=False)),
    "small fragments": (frame(BINARY, b'{"t":1', fin=False), frame(CONT, b" ", fin=False) * 100),
    "fragments and pings": (frame(TEXT, b"", fin=False), (frame(CONT, b"[", fin=False) + frame(PING)) * 100),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", ENDLESS)
def test_fragments_without_end(process: GatewayProcess, name: str) -> None:
    first, more = ENDLESS[name]
    before = peak(process.process.pid)
    with Peer(process.port) as peer:
        peer.open("/ws/publish", {"Tick-Run": name.replace(" ", "-")}).send(frame(TEXT, b'{"t":0}'), first)
        peer.send(*repeat(more, 40 if name == "large fragments" else 400))  # 40,000 bytes of content
        assert peer.close_frame().code == TOO_BIG
    assert peak(process.process.pid) - before < 16 << 20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_empty_fragments_without_end_cost_nothing(process: GatewayProcess) -> None:
    before = peak(process.process.pid)
    with Peer(process.port) as peer:
        peer.open("/ws/publish", {"Tick-Run": "empty"}).send(frame(TEXT, b'{"t"', fin=False))
        peer.send(*repeat(frame(CONT, fin=False) * 1000, 200), frame(CONT, b":1}"))
        assert peer.frame().json() == {"ack": 1}
    assert peak(process.process.pid) - before < 16 << 20

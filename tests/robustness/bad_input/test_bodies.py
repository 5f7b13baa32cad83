"""Clients that go in the middle of what they say, and those that say too much."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.support.blocking_client import Peer, chunk, request
from tests.support.frames import BINARY, CONT, PING, PONG, TEXT, frame
from tests.support.gateway_process import resident
from tick_gateway.wire.websocket import Reader

from ...support.bad_input import HANDSHAKES, STEAL, Bystander, fall_silent, hang_up, vanish

MB = 1 << 20
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# ---- bodies that break off ----


def prefixes(data: bytes) -> Iterator[bytes]:
    return (data[:size] for size in range(len(data)))


@pytest.mark.parametrize("leave", [vanish, hang_up, fall_silent])
@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_client_that_goes_in_the_middle_of_its_handshake(
    bystander: Bystander, name: str, leave: Callable[[Peer], None]
) -> None:
    for prefix in prefixes(HANDSHAKES[name]):
        leave(Peer(bystander.port).send(prefix))


@pytest.mark.parametrize("leave", [vanish, hang_up])
@pytest.mark.parametrize("name", ["ndjson", "sse", "websocket", "poll", "publish by websocket"])
def test_a_client_that_goes_right_after_it(bystander: Bystander, name: str, leave: Callable[[Peer], None]) -> None:
    for _ in range(30):
        leave(Peer(bystander.port).send(HANDSHAKES[name]))


@pytest.mark.parametrize("leave", [vanish, hang_up, fall_silent])
def test_a_body_that_breaks_off_keeps_its_whole_lines(bystander: Bystander, leave: Callable[[Peer], None]) -> None:
    for cut in (b"", b"{", b'{"t":123', b'{"t":9007199254740991}'):
        for chunked in (True, False):
            length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": "100000"}
            body = bystander.lines(3) + cut
            if chunked:
                middle = len(body) // 2
                body = chunk(body[:middle]) + b"%x\r\n" % (len(body) + 1000) + body[middle:]
            peer = Peer(bystander.port).send(request("POST", "/publish", length) + body)
            bystander.follower.wait_for(bystander.expected)  # they are out before the body is over
            leave(peer)


def test_chunks_that_break_off_are_answered(bystander: Bystander) -> None:
    """The fault comes behind chunks that were taken; aiohttp's parser does not tell the body's reader of it."""
    faults = (b"zz\r\n", b"-1\r\n", b"\r\n", b"8;" + b"x" * 20_000 + b"\r\n", b"f" * 17 + b"\r\n", b"3\r\n{}\n\n")
    peers = []
    for _ in faults:
        peer = Peer(bystander.port)
        peers.append(
            peer.send(request("POST", "/publish", {"Transfer-Encoding": "chunked"}) + chunk(bystander.lines(2)))
        )
        bystander.follower.wait_for(bystander.expected)
    for peer, fault in zip(peers, faults, strict=True):
        peer.send(fault, chunk(STEAL.encode() + b"\n"), b"0\r\n\r\n")
    for peer in peers:
        answer = peer.response()
        assert answer.status == 400, answer
        assert (answer.json()["error"], answer.json()["accepted"]) == ("bad_body", 2)
        assert peer.rest() == b""
        peer.close()


def test_half_open_connections_hold_nobody_up(bystander: Bystander) -> None:
    starts = (b"", b"G", b"GET /ndjson HTTP/1.1\r\nHost:", HANDSHAKES["websocket"][:60], b"\x16\x03\x01")
    peers = [Peer(bystander.port).send(start) for start in starts for _ in range(20)]
    bystander.check()
    for peer in peers:
        peer.close()


# ---- too much of everything ----


@LINUX
def test_a_line_of_100_mb(bystander: Bystander) -> None:
    before = peak = resident(bystander.pid)
    with Peer(bystander.port) as peer:
        peer.send(
            request("POST", "/publish", {"Transfer-Encoding": "chunked"}), chunk(bystander.lines() + b'{"t":5,"x":"')
        )
        piece = chunk(b"x" * MB)
        for _ in range(100):
            peer.send(piece)
            peak = max(peak, resident(bystander.pid))
        peer.send(chunk(b'"}\n' + bystander.lines()), b"0\r\n\r\n")
        answer = peer.response()
    assert answer.status == 413, answer
    told = answer.json()
    assert (told["error"], told["accepted"], told["errors"][0]["line"]) == ("too_big", 2, 2)
    assert peak - before < 40 * MB, f"{(peak - before) / MB:.0f} MB more"


@LINUX
def test_json_of_100_mb(bystander: Bystander) -> None:
    before = resident(bystander.pid)
    with Peer(bystander.port) as peer:
        headers = {"Content-Length": str(100 * MB), "Content-Type": "application/json"}
        peer.send(request("POST", "/publish", headers))
        peak = before
        try:
            for _ in range(100):
                peer.send(b"[" * MB)
                peak = max(peak, resident(bystander.pid))
        except ConnectionError:
            pass  # the answer came first: who refuses need not listen to the end
        assert peer.head().status == 413
    assert peak - before < 150 * MB, f"{(peak - before) / MB:.0f} MB more"


@LINUX
@pytest.mark.parametrize("path", ["/ws/stream?hello=1", "/ws/publish"])
def test_messages_of_100_mb(bystander: Bystander, path: str) -> None:
    before = resident(bystander.pid)
    announced = b"\x82\xff" + struct.pack("!Q", 100 * MB) + os.urandom(4)
    pieces = [frame(BINARY if index == 0 else CONT, b"x" * MB, fin=False) for index in range(100)]
    for sent in ([announced], [announced, b"x" * MB], pieces):
        with Peer(bystander.port) as peer:
            peer.open(path)
            try:
                peer.send(*sent)
            except ConnectionError:
                continue  # closed while this side was still sending: the code may be lost with the connection
            assert peer.close_frame().code == 1009
    assert resident(bystander.pid) - before < 60 * MB


def test_empty_fragments_are_not_kept(bystander: Bystander) -> None:
    reader = Reader()
    reader.feed(frame(TEXT, fin=False))
    flood = frame(CONT, fin=False) * 1000
    for _ in range(20):
        assert reader.feed(flood).messages == []
    assert len(reader._parts) == 0
    for path in ("/ws/stream?hello=1", "/ws/publish"):
        with Peer(bystander.port) as peer:
            peer.open(path).send(frame(TEXT, fin=False), *[flood] * 20, frame(PING, b"still there?"))
            while (found := peer.frame()).opcode != PONG:
                continue
            assert found.payload == b"still there?"


@LINUX
@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/ws/stream?hello=1", frame(PING, b"x" * 125)),
        ("/ws/stream?hello=1", frame(TEXT, b'{"op":"ping","id":"' + b"x" * 1000 + b'"}')),
        ("/ws/publish", frame(PING, b"x" * 125)),
        ("/ws/publish", frame(TEXT, b"no tick")),
    ],
    ids=["pings", "commands", "pings to a publisher", "lines"],
)
def test_who_asks_and_does_not_read_the_answers(bystander: Bystander, path: str, sent: bytes) -> None:
    before = resident(bystander.pid)
    with Peer(bystander.port, receive_buffer=4096) as peer:
        peer.open(path)
        peer.socket.settimeout(1.0)
        flood, total = sent * (MB // len(sent)), 0
        try:
            while total < 60 * MB:
                total += peer.socket.send(flood)
        except (TimeoutError, ConnectionError):
            pass  # the gateway does not read on, or has closed: either bounds it
        bystander.check()
        assert resident(bystander.pid) - before < 25 * MB

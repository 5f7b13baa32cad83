"""Requests with faults in them, from a seed: whatever they come to, the reader has what the gateway took in."""

from __future__ import annotations

import random

from tests.support.blocking_client import UPGRADE, Peer, ask, chunk, request
from tests.support.frames import BINARY, CLOSE, CONT, PING, TEXT, frame

from ...support.bad_input import HANDSHAKES, Bystander

# ---- anything at all ----

CHUNKED = {"Transfer-Encoding": "chunked"}
BYE = frame(CLOSE, b"\x03\xe8")
SEEDS = [
    *HANDSHAKES.values(),
    request("GET", "/range?t0=0&t1=5&format=json", {"Accept": "application/json", "If-None-Match": '"x"'}),
    request("GET", "/incremental?from_t=bystander-1:3&limit=5&fields=good"),
    request("GET", "/ticks/3", {"Connection": "keep-alive"}) + request("GET", "/meta", {"Connection": "close"}),
    request("POST", "/publish?run=fuzz", CHUNKED) + chunk(b'{"t":1}\n{"t":2') + chunk(b"}\n") + b"0\r\n\r\n",
    request("POST", "/publish", {"Content-Type": "application/json"}, b'[{"t":1},{"t":2,"x":[1,2,{"y":null}]}]'),
    request("POST", "/runs/fuzz/end", {}, b""),
    request("GET", "/ws/stream?hello=1", UPGRADE) + frame(TEXT, b'{"op":"view","every":2,"id":1}') + frame(PING, b"ab"),
    request("GET", "/ws/stream", UPGRADE) + frame(TEXT, b'{"op":"seek",', fin=False) + frame(CONT, b'"from_t":0}'),
    request("GET", "/ws/publish?run=fuzz", UPGRADE) + frame(TEXT, b'{"t":5}') + frame(BINARY, b'{"t":6}') + BYE,
]  # fmt: skip


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The same with a few faults in it."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        end = min(at + chance.randint(1, 30), len(found))
        match chance.randrange(7):
            case 0 if at < len(found):
                found[at] ^= 1 << chance.randrange(8)
            case 1:
                del found[at:end]
            case 2:
                found[at:at] = found[at:end]
            case 3:
                found[at:at] = chance.randbytes(chance.randint(1, 8))
            case 4:
                found[at:end] = found[at:end][::-1]
            case 5:
                found[at:at] = chance.choice([b"\r\n", b"\n", b"\0", b" ", b"%", b":", b"\xff", b"9" * 20, b"{" * 50])
            case _:
                del found[at:]
    return bytes(found)


def test_anything_at_all(bystander: Bystander) -> None:
    """300 requests with faults. Whatever they come to, the reader has what the gateway took in."""
    chance = random.Random(20_260_101)
    for number in range(300):
        data = mutated(chance.choice(SEEDS), chance)
        peer = Peer(bystander.port)
        try:
            if chance.random() < 0.3 and data:
                cut = chance.randrange(len(data))
                peer.send(data[:cut], data[cut:])
            else:
                peer.send(data)
            if chance.random() < 0.2:
                peer.reset()
                continue
            peer.half_close()
        except OSError:
            pass  # answered and closed before this side had said everything
        answer = said(peer)
        peer.close()
        assert not answer.startswith(b"HTTP/1.1 5") or answer.startswith(b"HTTP/1.1 505"), (number, data, answer)
    bystander.new_run()
    runs = [run["run"] for run in ask(bystander.port, request("GET", "/runs")).json()["runs"]]
    taken: list[bytes] = []
    for run in runs:
        taken += ask_range(bystander.port, run)
    assert [tick for tick in taken if b'"good":true' in tick] == bystander.expected
    bystander.expected = taken


def said(peer: Peer) -> bytes:
    """What a client is answered that says nothing more: to the connection's end, or of a stream, which goes on, the
    head."""
    try:
        head = peer.until(b"\r\n\r\n")
    except (EOFError, OSError):
        return peer.rest()
    return head if b"\r\nX-Accel-Buffering:" in head else head + peer.rest()


def ask_range(port: int, run: str) -> list[bytes]:
    """Every tick of a run."""
    with Peer(port) as peer:
        peer.send(request("GET", f"/range?run={run}", version="1.0"))
        assert peer.head().status == 200
        return peer.rest().splitlines()

"""Nonsense on a WebSocket, of readers and of publishers."""

from __future__ import annotations

import pytest

from tests.support.blocking_client import UPGRADE, Peer, ask, request
from tests.support.frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, frame

from ...support.bad_input import Bystander

# ---- nonsense on a WebSocket ----

PROTOCOL_ERROR, BAD_DATA, TOO_BIG = 1002, 1007, 1009
FRAMES: dict[str, tuple[bytes, set[int]]] = {
    **{f"reserved bit {bit}": (frame(TEXT, b"{}", rsv=bit), {PROTOCOL_ERROR}) for bit in (1, 2, 4, 7)},
    **{f"opcode {op:#x}": (frame(op, b"{}"), {PROTOCOL_ERROR}) for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a control frame in fragments": (frame(PING, b"x", fin=False), {PROTOCOL_ERROR}),
    "a control frame that is too long": (frame(PING, b"x" * 126), {PROTOCOL_ERROR}),
    "a close frame that is too long": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), {PROTOCOL_ERROR}),
    "a continuation of nothing": (frame(CONT, b"{}"), {PROTOCOL_ERROR}),
    "a message inside another": (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), {PROTOCOL_ERROR}),
    "text that is no UTF-8": (frame(TEXT, b"\xff\xfe"), {BAD_DATA}),
    "text that is cut inside a character": (frame(TEXT, b'{"t":1,"x":"\xe2\x82'), {BAD_DATA}),
    "text of surrogates": (frame(TEXT, b'"\xed\xa0\x80"'), {BAD_DATA}),
    "a close frame of one byte": (frame(CLOSE, b"\x03"), {PROTOCOL_ERROR}),
    **{f"close code {n}": (frame(CLOSE, n.to_bytes(2, "big")), {PROTOCOL_ERROR}) for n in (0, 999, 1004, 1005, 2999)},
    "a close reason that is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff\xfe"), {BAD_DATA, PROTOCOL_ERROR}),
    "a length beyond 63 bits": (b"\x81\xff" + b"\xff" * 8 + b"abcd", {PROTOCOL_ERROR, TOO_BIG}),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", {PROTOCOL_ERROR}),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/ws/stream?hello=1", "/ws/stream", "/ws/publish"])
@pytest.mark.parametrize("name", FRAMES)
def test_frames_that_are_none(bystander: Bystander, name: str, path: str) -> None:
    data, codes = FRAMES[name]
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        with Peer(bystander.port) as peer:
            peer.open(path).send(*pieces)
            assert peer.close_frame().code in codes
            peer.send(frame(CLOSE, b"\x03\xe8"))
            assert peer.rest() == b""


@pytest.mark.parametrize("path", ["/ws/stream?hello=1", "/ws/stream"])
def test_frames_without_a_mask(bystander: Bystander, path: str) -> None:
    for data in (frame(TEXT, b'{"op":"ping"}', mask=None), frame(PING, b"x", mask=None), frame(PONG, mask=None)):
        with Peer(bystander.port) as peer:
            peer.open(path).send(data)
            assert peer.close_frame().code == PROTOCOL_ERROR


def test_nonsense_without_a_mask_is_no_tick(bystander: Bystander) -> None:
    with Peer(bystander.port) as peer:
        peer.open("/ws/publish").send(frame(TEXT, b"nonsense", mask=None))
        answer = peer.frame()
        assert answer.code == PROTOCOL_ERROR if answer.opcode == CLOSE else answer.json()["error"] == "malformed"


COMMANDS = [
    b"", b" ", b"nonsense", b"[]", b"7", b"null", b'"ping"', b"{}", b'{"op":7}', b'{"op":null}', b'{"op":"nonsense"}',
    b'{"op":"__class__"}', b'{"op":["ping"]}', b'{"op":"ping","more":1}', b'{"op":"view","every":0}',
    b'{"op":"view","every":"x"}', b'{"op":"view","fields":null}', b'{"op":"view","fields":["a..b"]}',
    b'{"op":"view","fields":{"a":1}}', b'{"op":"view","batch":1001}', b'{"op":"seek"}', b'{"op":"seek","from_t":"x"}',
    b'{"op":"seek","from_t":-2}', b'{"op":"seek","from_t":1.5}', b'{"op":"seek","from_t":null}',
    b'{"op":"seek","from_t":0,"speed":-1}', b'{"op":"history"}', b'{"op":"history","id":1,"t0":5,"t1":4}',
    b'{"op":"history","id":1,"t0":"x"}', b'{"op":"history","id":1,"run":"nobody"}', b'{"op":"view","every":NaN}',
    b'{"op":"view","stamp":"perhaps"}', b"[" * 30_000, b'{"op":' * 5_000, b'{"op":"ping","id":NaN}',
]  # fmt: skip


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_bad_commands_are_told_and_the_stream_goes_on(bystander: Bystander, opcode: int) -> None:
    for begin in range(0, len(COMMANDS), 9):  # ten of them end it
        with Peer(bystander.port) as peer:
            peer.open("/ws/stream?hello=1&tail=0").send(*(frame(opcode, text) for text in COMMANDS[begin : begin + 9]))
            told = 0
            while told < len(COMMANDS[begin : begin + 9]):
                message = peer.frame().json()
                told += "error" in message
                assert "notice" in message or message["message"], message
            (tick,) = bystander.ticks()
            ask(bystander.port, bystander.post(tick))
            while (last := peer.frame().payload) != tick:
                assert b"notice" in last


def test_ten_bad_commands_end_it(bystander: Bystander) -> None:
    with Peer(bystander.port) as peer:
        peer.open("/ws/stream?hello=1").send(*[frame(TEXT, b"nonsense")] * 20)
        closing = peer.close_frame()
        assert closing.code == 1008 and b"10 bad commands" in closing.payload
        assert len(closing.payload) <= 125


@pytest.mark.parametrize("path", ["/ws/stream", "/ws/publish"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Upgrade": "h2c"},
        {"Upgrade": ""},
        {"Connection": "keep-alive"},
        {"Sec-WebSocket-Version": "12"},
        {"Sec-WebSocket-Version": ""},
        {"Sec-WebSocket-Key": ""},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Key": "not base64 at all, not"},
        {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ=="},
        {"Sec-WebSocket-Key": "\udcff"},
        {"Content-Length": "5"},
        {"Transfer-Encoding": "chunked"},
    ],
    ids=lambda headers: " ".join(map(ascii, *headers.items())),
)
def test_handshakes_that_are_none(bystander: Bystander, path: str, headers: dict[str, str]) -> None:
    with Peer(bystander.port) as peer:
        answer = peer.send(request("GET", path, UPGRADE | headers)).response()
        assert answer.status in (400, 426), answer
        assert answer.json()["error"] == "not_a_websocket"


def test_a_handshake_of_http_1_0(bystander: Bystander) -> None:
    assert ask(bystander.port, request("GET", "/ws/stream", UPGRADE, version="1.0")).status == 426

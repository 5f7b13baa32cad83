"""What WebSocket clients send: handshakes, frames, and the errors of RFC 6455. One table, fed in pieces of any size."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.errors import NotAWebSocket
from tick_gateway.wire.websocket import (
    MAX_COMMAND_BYTES,
    Reader,
    accept_key,
    close_frame,
    lone_control,
    negotiate,
)

from ...support.decoders import Message, WebSocketMessages
from ...support.frames import frame

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def closing(code: int, reason: str = "") -> bytes:
    """A client's close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


class Case(NamedTuple):
    """``close``: the code that answers, where the connection ends."""

    sent: bytes
    messages: list[str]
    pongs: tuple[bytes, ...] = ()
    close: int | None = None


LARGEST = b"x" * MAX_COMMAND_BYTES

CASES: dict[str, Case] = {
    "text": Case(frame(TEXT, "ü".encode()), ["ü"]),
    "binary counts as text": Case(frame(BINARY, b"a"), ["a"]),
    "empty": Case(frame(TEXT, b""), [""]),
    "two": Case(frame(TEXT, b"a") + frame(TEXT, b"b"), ["a", "b"]),
    "126 bytes": Case(frame(TEXT, b"x" * 126), ["x" * 126]),
    "another mask": Case(frame(TEXT, b"abcde", mask=b"\xff\x00\x80\x7f"), ["abcde"]),
    "no mask to speak of": Case(frame(TEXT, b"abc", mask=b"\0\0\0\0"), ["abc"]),
    "fragments": Case(frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False) + frame(CONT, b"c"), ["abc"]),
    "a character over two fragments": Case(frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\xbc"), ["ü"]),
    "empty fragments": Case(frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 50 + frame(CONT, b"a"), ["a"]),
    "a ping within fragments": Case(
        frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(CONT, b"b"), ["ab"], (b"p",)
    ),
    "pings": Case(frame(PING, b"") + frame(PING, b"x" * 125), [], (b"", b"x" * 125)),
    "a pong that nobody asked for": Case(frame(PONG, b"p") + frame(TEXT, b"a"), ["a"]),
    "close": Case(frame(TEXT, b"a") + closing(1000, "bye"), ["a"], close=1000),
    "close without a code": Case(frame(CLOSE, b""), [], close=-1),
    "close with a code of its own": Case(closing(4321), [], close=4321),
    "nothing counts behind a close": Case(closing(1000) + frame(TEXT, b"a"), [], close=1000),
    "unmasked": Case(b"\x81\x01a", [], close=1002),
    "a reserved bit": Case(b"\xc1" + frame(TEXT, b"a")[1:], [], close=1002),
    "a reserved opcode": Case(frame(3, b"a"), [], close=1002),
    "a reserved control opcode": Case(frame(11, b""), [], close=1002),
    "a fragmented ping": Case(frame(PING, b"", fin=False), [], close=1002),
    "a ping too long": Case(frame(PING, b"x" * 126), [], close=1002),
    "a continuation of nothing": Case(frame(CONT, b"a"), [], close=1002),
    "a new message within fragments": Case(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), [], close=1002),
    "a close of one byte": Case(frame(CLOSE, b"\x03"), [], close=1002),
    "a close code that is never sent": Case(closing(1005), [], close=1002),
    "a close reason that is no UTF-8": Case(frame(CLOSE, b"\x03\xe8\xff"), [], close=1007),
    "no UTF-8": Case(frame(TEXT, b"a") + frame(TEXT, b"\xff") + frame(TEXT, b"b"), ["a"], close=1007),
    "half a character": Case(frame(TEXT, b"\xc3"), [], close=1007),
    "a surrogate": Case(frame(TEXT, b"\xed\xa0\x80"), [], close=1007),
    "the largest": Case(frame(TEXT, LARGEST), [LARGEST.decode()]),
    "too large": Case(frame(TEXT, LARGEST + b"x"), [], close=1009),
    "too large in fragments": Case(frame(TEXT, LARGEST, fin=False) + frame(CONT, b"x"), [], close=1009),
    "a length that nobody could send": Case(b"\x81\xff" + b"\x7f" + b"\xff" * 7, [], close=1009),
}


def read(pieces: list[bytes]) -> Case:
    reader, frames = Reader(), WebSocketMessages()
    messages: list[str] = []
    replies: list[Message] = []
    ended = False
    for piece in pieces:
        received = reader.feed(piece)
        messages += received.messages
        if received.replies == b"\x88\x00":  # a close without a code answers one without
            replies.append(Message("close", b"", None, -1))
        else:
            replies += frames.feed(received.replies)
        ended = received.closing
    closes = [reply.code for reply in replies if reply.name == "close"]
    assert len(closes) == (1 if ended else 0)
    pongs = tuple(reply.data for reply in replies if reply.name == "pong")
    assert len(pongs) + len(closes) == len(replies)
    return Case(b"".join(pieces), messages, pongs, closes[0] if closes else None)


@pytest.mark.parametrize("name", CASES)
def test_fed_whole(name: str) -> None:
    case = CASES[name]
    assert read([case.sent]) == case


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.sent) < 3000])
def test_fed_byte_by_byte(name: str) -> None:
    case = CASES[name]
    assert read([case.sent[i : i + 1] for i in range(len(case.sent))]) == case


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.close is None])
def test_fed_with_the_beginning_of_what_comes_next(name: str) -> None:
    case = CASES[name]
    following = frame(TEXT, b"next")
    for cut in (1, 2, 5, len(following) - 1):
        found = read([case.sent + following[:cut], following[cut:]])
        assert found == case._replace(sent=case.sent + following, messages=[*case.messages, "next"])


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_answered_or_waited_with(data: bytes) -> None:
    whole = read([data])
    assert read([data[i : i + 1] for i in range(len(data))]) == whole


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(max_size=200), max_size=4),
    st.lists(st.integers(1, 60), min_size=1),
    st.binary(min_size=4, max_size=4),
)
def test_messages_come_out_as_they_were_sent(texts: list[str], sizes: list[int], mask: bytes) -> None:
    encoded = [text.encode("utf-8", "replace") for text in texts]
    wire = b"".join(frame(TEXT, data, mask=mask) for data in encoded)
    pieces: list[bytes] = []
    while wire:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(wire[:size])
        wire = wire[size:]
    assert read(pieces).messages == [data.decode() for data in encoded]


# ---- lone control frames ----


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (frame(PONG, b""), (PONG, b"")),
        (frame(PING, b"abcde"), (PING, b"abcde")),
        (frame(PING, b"x" * 125), (PING, b"x" * 125)),
        (frame(PING, b"x" * 126), None),
        (frame(PONG, b"a")[:-1], None),
        (frame(PONG, b"a") + b"\x81", None),
        (frame(PONG, b"") * 2, None),
        (frame(PING, b"", fin=False), None),
        (frame(TEXT, b"a"), None),
        (frame(CLOSE, b""), None),
        (b"\x89\x00", None),
        (b"\x89\x04abcd", None),
        (b"\x8a\xfe\x00\x00\x00\x00" + b"x" * 126, None),
        (b"", None),
    ],
)
def test_lone_control_frames(data: bytes, found: tuple[int, bytes] | None) -> None:
    assert lone_control(data) == found


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=125), st.binary(min_size=4, max_size=4))
def test_a_lone_control_frame_is_unmasked(data: bytes, mask: bytes) -> None:
    found = lone_control(bytes((0x80 | PONG, 0x80 | len(data))) + mask + data)
    assert found == (PONG, bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf8"])
def test_text_that_is_not_utf8_fails_with_the_fragment_that_shows_it(bad: bytes) -> None:
    reader = Reader()
    assert not reader.feed(frame(TEXT, "{ü".encode()[:2], fin=False)).closing, "half a character may be whole later"
    assert not reader.feed(frame(CONT, "ü".encode()[1:] + b"x", fin=False)).closing
    received = reader.feed(frame(CONT, bad + b"x", fin=False))
    assert (received.closing, received.failed, received.messages) == (True, True, [])
    assert WebSocketMessages().feed(received.replies)[0].code == 1007


def test_a_message_that_ends_in_half_a_character_fails() -> None:
    reader = Reader()
    received = reader.feed(frame(TEXT, b"{", fin=False) + frame(CONT, "ü".encode()[:1]))
    assert received.failed and WebSocketMessages().feed(received.replies)[0].code == 1007


# ---- the opening handshake ----

HANDSHAKE: dict[str, str | list[str]] = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Upgrade": ["WebSocket"]},
        {"Upgrade": ["h2c, websocket"]},
        {"Connection": ["keep-alive, upgrade"]},
        {"Connection": ["keep-alive", "Upgrade"]},
        {"Sec-WebSocket-Version": [" 13 "]},
    ],
)
def test_the_key_is_answered_as_in_the_rfc(changes: dict[str, str | list[str]]) -> None:
    assert accepted(HANDSHAKE | changes) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def accepted(headers: Mapping[str, str | list[str]]) -> str:
    def lines(name: str) -> list[str]:
        found = headers.get(name, [])
        return found if isinstance(found, list) else [found]

    return accept_key(lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Upgrade", "h2c"),
        ("Connection", "keep-alive"),
        ("Connection", "upgraded"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "AAAA"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ!=="),
        ("Sec-WebSocket-Key", "ü" * 24),
        ("Sec-WebSocket-Key", ["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="]),
        ("Sec-WebSocket-Version", ["13", "8"]),
        ("Upgrade", ["h2c", "websockets"]),
    ],
)
def test_no_proper_handshake_is_refused_with_the_header_named(name: str, value: str | list[str]) -> None:
    without = {key: text for key, text in HANDSHAKE.items() if key != name}
    for headers in (without, HANDSHAKE | {name: value}):
        with pytest.raises(NotAWebSocket, match=name) as refusal:
            accepted(headers)
        assert refusal.value.status == 426


def test_offers_without_end_are_refused() -> None:
    offer = "permessage-deflate"
    assert negotiate(", ".join(["x-none"] * 1000 + [offer]), 3)[0] is not None
    with pytest.raises(NotAWebSocket, match="longer than 8190 characters"):
        negotiate(", ".join(["x-none"] * 2000 + [offer]), 3)


def test_the_codes_of_a_close_frame_are_read_back() -> None:
    assert WebSocketMessages().feed(close_frame(1013, "later")) == [Message("close", b"later", None, 1013)]

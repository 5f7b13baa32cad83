"""Framings, pinned byte for byte, and read back by decoders that know nothing of the gateway."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tick_gateway.bench.decoders import ChunkedDecoder
from tick_gateway.errors import Overloaded
from tick_gateway.model.notices import End, Gap, Hello, Notice, Reset
from tick_gateway.model.tick import UNKNOWN_RUN, Position
from tick_gateway.model.view import Payload
from tick_gateway.wire.checksum import NOTHING
from tick_gateway.wire.framing import LAST_CHUNK, Framing, chunk, joined
from tick_gateway.wire.ndjson import NDJSONFraming, lines
from tick_gateway.wire.sse import SSEFraming, refusal
from tick_gateway.wire.websocket import WebSocketFraming, close_frame, frame

from ...support.decoders import EventStream, Lines, Message, WebSocketMessages

PAIR = [Payload(5, b'{"t":5}'), Payload(7, b'{"t":7}')]
TICK = SSEFraming(False, None, "tick")
SSE, NDJSON, WS = SSEFraming(False), NDJSONFraming(False), WebSocketFraming()
BARE = WebSocketFraming(bare=True)
HERE = Position("r", 7)

MESSAGES: list[tuple[Framing, bytes]] = [
    (SSE, b'data: {"t":5}\nid: r:5\n\ndata: {"t":7}\nid: r:7\n\n'),
    (
        SSEFraming(False, None, "tick"),
        b'event: tick\ndata: {"t":5}\nid: r:5\n\nevent: tick\ndata: {"t":7}\nid: r:7\n\n',
    ),
    (SSEFraming(), b'2e\r\ndata: {"t":5}\nid: r:5\n\ndata: {"t":7}\nid: r:7\n\n\r\n'),
    (NDJSON, b'{"t":5}\n{"t":7}\n'),
    (NDJSONFraming(), b'10\r\n{"t":5}\n{"t":7}\n\r\n'),
    (WS, b'\x81\x07{"t":5}\x81\x07{"t":7}'),
    (BARE, b'\x81\x07{"t":5}\x81\x07{"t":7}'),
]

SIGNS: list[tuple[Framing, bytes, bytes]] = [  # what goes out at once, and the heartbeat
    (SSE, b"retry: 1000\n", b":\n"),
    (SSEFraming(event="tick"), b"c\r\nretry: 1000\n\r\n", b"2\r\n:\n\r\n"),
    (NDJSON, b"", b"\n"),
    (NDJSONFraming(), b"", b"1\r\n\n\r\n"),
    (WS, b"", b"\x89\x00"),
    (BARE, b"", b"\x89\x00"),
]

NOTICES: list[tuple[Notice, str, str | None]] = [  # its JSON, and the SSE id that it sets
    (Gap("r", 5, 9), '{"notice":"gap","run":"r","after":5,"next":9}', "r:8"),
    (Gap("r", 5, None), '{"notice":"gap","run":"r","after":5,"next":null}', "r:5"),
    (Gap("r", -1, 1), '{"notice":"gap","run":"r","after":-1,"next":1}', "r:0"),
    (Reset("n", "o", True), '{"notice":"reset","run":"n","old":"o","complete":true}', "n:-1"),
    (Reset("n", UNKNOWN_RUN, False), '{"notice":"reset","run":"n","old":null,"complete":false}', "n:-1"),
    (End("limit", HERE), '{"notice":"end","reason":"limit","position":"r:7"}', "end"),
    (End("run", HERE), '{"notice":"end","reason":"run","position":"r:7"}', "end"),
    (End("shutdown", HERE), '{"notice":"end","reason":"shutdown","position":"r:7"}', "r:7"),
    (End("shutdown", None), '{"notice":"end","reason":"shutdown","position":null}', None),
    (Hello("r", 0, 7), '{"notice":"hello","run":"r","first":0,"tip":7}', None),
    (Hello(None, None, None), '{"notice":"hello","run":null,"first":null,"tip":null}', None),
]


@pytest.mark.parametrize(("framing", "wire"), MESSAGES)
def test_messages(framing: Framing, wire: bytes) -> None:
    assert framing.messages("r", PAIR).data == wire


@pytest.mark.parametrize(("framing", "opening", "heartbeat"), SIGNS)
def test_opening_and_heartbeat(framing: Framing, opening: bytes, heartbeat: bytes) -> None:
    assert (framing.opening.data, framing.heartbeat.data) == (opening, heartbeat)


@pytest.mark.parametrize(("notice", "text", "event_id"), NOTICES)
def test_notices(notice: Notice, text: str, event_id: str | None) -> None:
    id_line = "" if event_id is None else f"id: {event_id}\n"
    event = f"event: {notice.name}\ndata: {text}\n{id_line}\n".encode()
    line = f"{text}\n".encode()
    for name in (None, "tick"):
        assert SSEFraming(False, None, name).notice(notice).data == event
    assert SSEFraming().notice(notice).data == chunk(event)
    assert NDJSON.notice(notice).data == line
    assert NDJSONFraming().notice(notice).data == chunk(line)
    assert WS.notice(notice).data == bytes([0x81, len(text)]) + text.encode()
    assert BARE.notice(notice).data == b"", "a client that gave no parameter gets ticks and nothing else"
    assert "t" not in json.loads(text), "so that readers can tell a notice from a tick"


@pytest.mark.parametrize("notice", [row[0] for row in NOTICES])
def test_only_an_end_closes_but_for_a_gap_of_a_bare_websocket(notice: Notice) -> None:
    ends = isinstance(notice, End)
    assert SSE.ends(notice) == NDJSON.ends(notice) == WS.ends(notice) == ends
    assert SSE.closing(notice, NOTHING) == NDJSON.closing(notice, NOTHING) == b""
    assert SSEFraming().closing(notice, NOTHING) == NDJSONFraming().closing(notice, NOTHING) == LAST_CHUNK
    assert BARE.ends(notice) == (ends or isinstance(notice, Gap))


@pytest.mark.parametrize(
    ("framing", "notice", "code", "reason"),
    [
        (WS, End("limit", HERE), 1000, "limit r:7"),
        (WS, End("run", HERE), 1000, "run r:7"),
        (WS, End("shutdown", HERE), 1001, "shutdown r:7"),
        (WS, End("shutdown", None), 1001, "shutdown"),
        (BARE, End("run", HERE), 1000, "run r:7"),
        (BARE, Gap("r", 5, 9), 4001, "gap after r:5"),
        (BARE, Gap("r" * 64, 2**53 - 1, None), 4001, f"gap after {'r' * 64}:9007199254740991"),
    ],
)
def test_close_frames_carry_their_code_and_the_position(
    framing: WebSocketFraming, notice: Notice, code: int, reason: str
) -> None:
    assert framing.ends(notice)
    assert WebSocketMessages().feed(framing.closing(notice, NOTHING)) == [Message("close", reason.encode(), None, code)]


def test_a_reason_too_long_is_cut_between_characters() -> None:
    assert close_frame(1000, "x" * 200) == b"\x88\x7d\x03\xe8" + b"x" * 123
    assert close_frame(1008, "ü" * 100) == b"\x88\x7c\x03\xf0" + "ü".encode() * 61
    assert close_frame(1000) == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_frame_has_the_shortest_length(size: int, head: bytes) -> None:
    data = b"x" * size
    assert frame(1, data) == head + data
    assert WS.messages("r", [Payload(1, data)]).data == head + data


def test_chunks() -> None:
    assert chunk(b"") == b"", "an empty chunk would end the body"
    assert chunk(b"x" * 16) == b"10\r\n" + b"x" * 16 + b"\r\n"
    assert lines([]) == b"" and lines(PAIR) == b'{"t":5}\n{"t":7}\n'


@pytest.mark.parametrize("framing", [SSEFraming(), NDJSONFraming(), WS])
def test_no_payloads_are_no_bytes(framing: Framing) -> None:
    assert framing.messages("r", []).data == b""


def test_no_room_on_sse_is_an_event_with_a_long_retry() -> None:
    stream = EventStream()
    assert stream.feed(refusal(Overloaded())) == [
        Message(
            "overloaded", b'{"notice":"overloaded","error":"overloaded","message":"%s"}' % str(Overloaded()).encode()
        )
    ]
    assert stream.retry == 30_000


def test_framings_are_equal_within_one_class_alone() -> None:
    assert SSEFraming(event="a") == SSEFraming(event="a") and hash(SSEFraming(event="a")) == hash(SSEFraming(event="a"))
    framings: list[object] = [SSEFraming(), SSEFraming(event="a"), SSEFraming(False), NDJSONFraming(), NDJSON, WS, BARE]
    assert len(set(framings)) == len(framings)


def test_an_event_cut_off_before_its_end_gives_its_position_to_nobody() -> None:
    wire = SSE.messages("r", [Payload(5, b'{"t":5}')]).data
    assert wire.index(b"data:") < wire.index(b"id:"), "some clients adopt the id when they read its line"
    whole = len(wire) - 1
    for cut in range(whole):
        if b"id:" in wire[:cut]:
            assert b'data: {"t":5}\n' in wire[:cut]
    assert EventStream().feed(wire[:whole]) == []


# ---- read back ----


class Decoder(Protocol):
    def feed(self, data: bytes) -> list[Message]: ...


DECODERS: list[tuple[Framing, Callable[[], Decoder]]] = [
    (SSEFraming(False), EventStream),
    (SSEFraming(True, None, "tick"), EventStream),
    (NDJSONFraming(False), Lines),
    (NDJSONFraming(True), Lines),
    (WebSocketFraming(), WebSocketMessages),
]


def read(framing: Framing, decoder: Decoder, pieces: Sequence[bytes]) -> list[Message]:
    """What a client makes of the bytes, in whatever pieces they come."""
    body = ChunkedDecoder(strict=True) if getattr(framing, "chunked", False) else None
    found: list[Message] = []
    for piece in pieces:
        found += decoder.feed(b"".join(body.feed(piece)) if body else piece)
    return [message for message in found if message.name != "ping"]


def cut(wire: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(wire) + 1) for place in places), len(wire)]
    return [wire[begin:end] for begin, end in pairwise(marks)]


contents = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=200)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(contents, min_size=1, max_size=4), st.sampled_from([row[0] for row in NOTICES]), st.lists(st.integers())
)
@example(["x" * 65536, "x" * 126], Hello(None, None, None), [])
def test_any_content_is_read_back_whatever_the_pieces(texts: list[str], notice: Notice, places: list[int]) -> None:
    payloads = [
        Payload(t, json.dumps({"t": t, "x": text}, ensure_ascii=False).encode()) for t, text in enumerate(texts)
    ]
    for framing, make in DECODERS:
        parts = [framing.opening, framing.messages("r", payloads), framing.heartbeat, framing.notice(notice)]
        wire = joined([*parts, framing.heartbeat]).data
        messages = read(framing, make(), [wire])
        assert [message.data for message in messages[:-1]] == [payload.data for payload in payloads]
        assert json.loads(messages[-1].data) == notice.as_dict()
        if isinstance(framing, SSEFraming):
            assert [message.id for message in messages[:-1]] == [f"r:{t}" for t in range(len(texts))]
            assert {message.name for message in messages[:-1]} == {framing.event or "message"}
            assert (messages[-1].name, messages[-1].id) == (notice.name, notice.event_id)
        assert read(framing, make(), cut(wire, places)) == messages
        if len(wire) < 2000:
            assert read(framing, make(), [bytes([byte]) for byte in wire]) == messages


@pytest.mark.parametrize(("framing", "make"), DECODERS)
def test_what_ends_a_stream_ends_its_body(framing: Framing, make: Callable[[], Decoder]) -> None:
    end = End("limit", HERE)
    piece = joined([framing.opening, framing.messages("r", PAIR), framing.notice(end)])
    messages = read(framing, make(), [piece.data + framing.closing(end, piece.content)])
    assert json.loads(messages[2].data) == end.as_dict()
    assert [message.name for message in messages[3:]] == (["close"] if isinstance(framing, WebSocketFraming) else [])

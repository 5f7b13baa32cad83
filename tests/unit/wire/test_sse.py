"""Server-Sent Events: what no client may take for an empty event, and where a position stands."""

from __future__ import annotations

import json

import pytest

from tests.support.decoders import EventStream
from tick_gateway.errors import Overloaded, TooManyViews
from tick_gateway.model.notices import End, Gap
from tick_gateway.model.tick import Position
from tick_gateway.model.view import Payload
from tick_gateway.wire.sse import RETRY_MS, SSEFraming, refusal

PLAIN, NAMED = SSEFraming(False), SSEFraming(False, None, "tick")


@pytest.mark.parametrize("framing", [PLAIN, NAMED])
def test_what_says_nothing_is_no_event(framing: SSEFraming) -> None:
    """Several clients turn a blank line into an empty event."""
    for data in (framing.opening.data, framing.heartbeat.data):
        assert data.endswith(b"\n") and b"\n\n" not in data and not data.startswith(b"\n")
    stream = EventStream()
    assert stream.feed(framing.opening.data + framing.heartbeat.data * 3) == [] and stream.retry == RETRY_MS


@pytest.mark.parametrize(("framing", "event"), [(PLAIN, b""), (NAMED, b"event: tick\n")])
def test_the_position_stands_behind_the_data(framing: SSEFraming, event: bytes) -> None:
    """Some clients adopt it when they read it, and would pass over a tick that was cut off behind it."""
    data = framing.messages("r.1", [Payload(5, b'{"t":5}'), Payload(9, b"[1]")]).data
    assert data == event + b'data: {"t":5}\nid: r.1:5\n\n' + event + b"data: [1]\nid: r.1:9\n\n"


def test_a_notice_is_an_event_of_its_name() -> None:
    assert PLAIN.notice(Gap("r", 5, 9)).data.startswith(b"event: gap\ndata: {")
    assert PLAIN.notice(End("failed", None)).data.endswith(b"}\n\n"), "it has no position"
    assert PLAIN.notice(End("run", Position("r", 5))).data.endswith(b"\nid: end\n\n"), "whoever comes back has ended"


@pytest.mark.parametrize("error", [Overloaded(), TooManyViews(3)])
def test_no_room_is_an_event_that_is_retried_much_later(error: Overloaded) -> None:
    stream = EventStream()
    (message,) = stream.feed(refusal(error))
    assert (message.name, message.id) == ("overloaded", None)
    assert json.loads(message.data) == {"notice": "overloaded"} | error.as_dict()
    assert stream.retry is not None and stream.retry >= 10 * RETRY_MS

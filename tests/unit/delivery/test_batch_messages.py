"""What a flush tells readers of batch messages, for each kind of them."""

from __future__ import annotations

import json

from tick_gateway.delivery.batch_messages import BatchMessages, Message
from tick_gateway.model.notices import End, Gap
from tick_gateway.model.view import Payload
from tick_gateway.wire.ndjson import NDJSONFraming


def payloads(*numbers: int) -> list[Payload]:
    return [Payload(t, b'{"t":%d}' % t) for t in numbers]


def lines(data: bytes) -> list[object]:
    """The numbers of each message, and notices as they are."""
    found: list[object] = []
    for line in data.splitlines():
        body = json.loads(line)
        found.append([one["t"] for one in body] if isinstance(body, list) else body["notice"])
    return found


def told() -> BatchMessages:
    messages = BatchMessages(NDJSONFraming(False))
    messages.parts = [Message("a", payloads(1, 2, 3)), Gap("a", 3, 5), Message("a", payloads(5))]
    return messages


def test_messages_and_notices_come_in_order() -> None:
    assert lines(told().data()) == [[1, 2, 3], "gap", [5]]


def test_who_joined_in_the_middle_of_the_first_message_gets_the_rest_of_it() -> None:
    assert lines(told().piece(2).data) == [[3], "gap", [5]]
    assert lines(told().piece(3).data) == ["gap", [5]], "nothing of it is left"


def test_nothing_is_told_of_nothing() -> None:
    assert BatchMessages(NDJSONFraming(False)).data() == b""


def test_an_end_is_a_notice_among_them() -> None:
    messages = told()
    messages.end = End("run", None)
    messages.parts.append(messages.end)
    assert lines(messages.data())[-1] == "end"

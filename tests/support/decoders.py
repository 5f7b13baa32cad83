"""What the content of an answer means to a client: messages, whatever the transport.

What is below, from chunks to WebSocket's frames, is decoded by ``tick_gateway.bench.decoders``, in its strict form.
These are fed bytes as they come, in pieces of any size, and are strict, too: what a browser would pass over in silence
fails here.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tests.support.frames import CLOSE, PING, PONG, TEXT
from tick_gateway.bench.decoders import WebSocketDecoder, WholeLines


class Message(NamedTuple):
    """One message as a client meets it.

    Attributes:
        name: SSE's event name; ``message`` where the format has none; ``close`` and ``ping`` on WebSocket.
        data: the content.
        id: SSE's last event id; None where this message set none, and on other transports.
        code: of a close frame.
    """

    name: str
    data: bytes
    id: str | None = None
    code: int | None = None


class EventStream:
    """Server-Sent Events (WHATWG HTML, section 9.2.6)."""

    def __init__(self) -> None:
        self.retry: int | None = None
        self.comments = 0
        self._rest = b""
        self._clear()

    def _clear(self) -> None:
        self._event, self._id = "", None
        self._data: list[bytes] = []

    _id: str | None

    def feed(self, data: bytes) -> list[Message]:
        self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        found: list[Message] = []
        for line in lines:
            assert b"\r" not in line
            if line:
                self._field(line)
                continue
            assert self._data, "a blank line without data: several clients make an empty event of it"
            found.append(Message(self._event or "message", b"\n".join(self._data), self._id))
            self._clear()
        return found

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"":
                self.comments += 1
            case b"data":
                self._data.append(value)
            case b"event":
                self._event = value.decode()
            case b"id":
                assert b"\0" not in value
                self._id = value.decode()
            case b"retry":
                self.retry = int(value)
            case _:
                raise AssertionError(f"a field that EventSource does not know: {line!r}")


class Lines:
    """NDJSON; blank lines are heartbeats."""

    def __init__(self) -> None:
        self.blank = 0
        self._lines = WholeLines()

    def feed(self, data: bytes) -> list[Message]:
        lines = self._lines.feed(data).split(b"\n")[:-1]
        self.blank += lines.count(b"")
        return [Message("message", line) for line in lines if line]


class WebSocketMessages:
    """WebSocket: text, and control frames by their names.

    Args:
        coding: ``deflate``: text may be compressed (RFC 7692); ``alone``: without ``server_context_takeover``.
    """

    def __init__(self, coding: str = "") -> None:
        self._decoder = WebSocketDecoder(bool(coding), coding != "alone", strict=True)

    @property
    def closed(self) -> bool:
        return self._decoder.closed

    @property
    def compressed(self) -> int:
        """How many messages were."""
        return self._decoder.compressed

    def feed(self, data: bytes) -> list[Message]:
        return [_message(opcode, payload) for opcode, payload in self._decoder.feed(data)]


def _message(opcode: int, payload: bytes) -> Message:
    if opcode == CLOSE:
        (code,) = struct.unpack("!H", payload[:2])
        payload[2:].decode()
        return Message("close", payload[2:], None, code)
    return Message({TEXT: "message", PING: "ping", PONG: "pong"}[opcode], payload)

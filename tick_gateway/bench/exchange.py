"""A request for ticks and its answer, on any transport: sends it, finds the ticks in the answer, and counts them.

Pure: it makes bytes and takes bytes and times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from .cases import ENCODINGS, EXTENSION
from .decoders import AnswerError, AnswerHead, BodyDecoder, WebSocketDecoder, WholeLines, parse_head
from .stats import Histogram

TICK: Final = re.compile(rb'\{"t":(\d+),"ts":(\d+)')
"""How each tick of the bench begins: its number, and when it was published, in nanoseconds since the epoch."""

_HANDSHAKE: Final = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA  # opcodes


@dataclass(frozen=True, slots=True)
class RequestBuilder:
    """The requests of one case.

    Attributes:
        host: for the header of that name, with the port.
        path: of the transport, with the gateway's mount path.
        pull: one answer per request, instead of one that does not end.
        encoding: what is asked for.
        media_type: the answer's.
        websocket: a request is a WebSocket's opening handshake.
        query: every parameter but the position.
    """

    host: str
    path: str
    pull: bool
    encoding: str
    media_type: str
    websocket: bool = False
    query: tuple[tuple[str, str], ...] = ()

    @property
    def possible(self) -> bool:
        """Whether this transport can ask for the encoding at all."""
        return not self.websocket or ENCODINGS[self.encoding] is not None

    def request(self, position: str) -> bytes:
        """The request for ticks after a position, ``RUN:T``."""
        query = urlencode([("from_t", position), *self.query], safe=":,")
        if self.websocket:
            own = _HANDSHAKE + (ENCODINGS[self.encoding] or "")
        else:
            own = f"Accept: {self.media_type}\r\nAccept-Encoding: {self.encoding}\r\n"
        return f"GET {self.path}?{query} HTTP/1.1\r\nHost: {self.host}\r\n{own}\r\n".encode()


class TickCounter:
    """Counts ticks by their number.

    Attributes:
        next: the number of the next tick.
        ticks: number received, each once. lost, repeated: those that were missing, and that came again.
        latency: of all but the run's first tick, which was published before the reader connected.
    """

    __slots__ = ("every", "latency", "lost", "next", "repeated", "ticks")

    def __init__(self, after: int, every: int) -> None:
        self.every = every
        self.next = (after // every + 1) * every
        self.ticks = self.lost = self.repeated = 0
        self.latency = Histogram()

    def feed(self, text: bytes, now: int) -> None:
        """Take in whole messages, read at ``now``, nanoseconds since the epoch."""
        for match in TICK.finditer(text):
            t = int(match[1])
            if t < self.next:
                self.repeated += 1
                continue
            self.lost += (t - self.next) // self.every
            self.next = t + self.every
            self.ticks += 1
            if t:
                self.latency.add(now - int(match[2]))


class Answer:
    """One answer: of a stream, or of a pull.

    Attributes:
        head: as soon as it came.
        coding: the content coding; empty until it is known.
        position: after the complete answer of a pull: what to send next; else empty.
    """

    def __init__(self, requests: RequestBuilder, counter: TickCounter) -> None:
        self.head: AnswerHead | None = None
        self.coding = ""
        self.position = ""
        self._requests, self._counter = requests, counter
        self._begin = b""
        self._body: BodyDecoder | None = None
        self._frames: WebSocketDecoder | None = None
        self._lines = WholeLines()
        self._parts: list[bytes] = []
        self._pings: list[bytes] = []  # still to be answered

    def feed(self, data: bytes, now: int) -> None:
        """Handle what was read at ``now``.

        Raises:
            AnswerError: the answer is invalid, an error, or the last one.
        """
        if self.head is None:
            self._begin += data
            found = parse_head(self._begin)
            if found is None:
                return
            self.head, data = found
            self._open(self.head)
        if self._frames is not None:
            for opcode, payload in self._frames.feed(data):
                if opcode == _PING:
                    self._pings.append(payload)
                elif opcode == _CLOSE:
                    code = int.from_bytes(payload[:2], "big")
                    raise AnswerError(f"the gateway closed the connection with code {code}")
                elif opcode != _PONG:
                    self._counter.feed(payload, now)
            return
        assert self._body is not None, "an answer has frames or a body"
        text = self._body.feed(data)
        if not self._requests.pull:
            self._counter.feed(self._lines.feed(text), now)
            if self._body.ended:
                raise AnswerError("the gateway ended the answer")
            return
        self._parts.append(text)
        if self._body.ended:
            self._counter.feed(b"".join(self._parts), now)
            self.position = self.head.headers.get("tick-next", "")
            if not self.position:
                raise AnswerError("an answer without Tick-Next: there is no telling where to go on")

    def replies(self) -> Iterator[bytes]:
        """Pongs for the pings received."""
        while self._pings:
            content = self._pings.pop(0)
            yield bytes((0x80 | _PONG, 0x80 | len(content), 0, 0, 0, 0)) + content  # a mask of zeros changes nothing

    def _open(self, head: AnswerHead) -> None:
        if self._requests.websocket:
            if head.status != 101:
                raise AnswerError(f"the handshake was answered {head.status}")
            extensions = head.headers.get("sec-websocket-extensions", "").lower()
            deflate = EXTENSION in extensions
            self._frames = WebSocketDecoder(deflate, "server_no_context_takeover" not in extensions)
            self.coding = "deflate" if deflate else "identity"
            return
        if head.status != 200:
            raise AnswerError(f"the request was answered {head.status}")
        self._body = BodyDecoder(head)
        self.coding = self._body.coding

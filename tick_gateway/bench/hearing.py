"""One reader's ear: finds ticks in an answer, and keeps count of them. Pure: bytes and times are handed in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from .decode import Body, Broken, Frames, Head, Lines, parse_head
from .speech import EXTENSION, Speech
from .stats import Histogram

TICK: Final = re.compile(rb'\{"t":(\d+),"ts":(\d+)')
"""How each tick of the bench begins: its number, and when it was published, in nanoseconds since the epoch."""

_PONG: Final = 0x8A


class Watch:
    """Counts ticks by their number.

    Attributes:
        next: the number that comes next.
        ticks: those that came, each once. lost, repeated: those that did not come in their turn, and that came again.
        latency: of all but the run's first, which was there before the reader was.
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
    """One answer: an endless one, or that of a pull.

    Attributes:
        head: as soon as it came.
        coding: how the content is encoded; empty as long as that is not known.
        position: for a pull that was answered as a whole: what to send next; else empty.
    """

    def __init__(self, speech: Speech, watch: Watch) -> None:
        self.head: Head | None = None
        self.coding = ""
        self.position = ""
        self._speech, self._watch = speech, watch
        self._begin = b""
        self._body: Body | None = None
        self._frames: Frames | None = None
        self._lines = Lines()
        self._parts: list[bytes] = []

    def feed(self, data: bytes, now: int) -> None:
        """Take in what was read at ``now``.

        Raises:
            Broken: it is no answer that can be read, or one of an error, or the last one.
        """
        if self.head is None:
            self._begin += data
            found = parse_head(self._begin)
            if found is None:
                return
            self.head, data = found
            self._open(self.head)
        if self._frames is not None:
            for message in self._frames.feed(data):
                self._watch.feed(message, now)
            if self._frames.closed is not None:
                raise Broken(f"the gateway closed the connection with code {self._frames.closed}")
            return
        assert self._body is not None, "an answer has frames or a body"
        text = self._body.feed(data)
        if not self._speech.pull:
            self._watch.feed(self._lines.feed(text), now)
            if self._body.ended:
                raise Broken("the gateway ended the answer")
            return
        self._parts.append(text)
        if self._body.ended:
            self._watch.feed(b"".join(self._parts), now)
            self.position = self.head.headers.get("tick-next", "")
            if not self.position:
                raise Broken("an answer without Tick-Next: there is no telling where to go on")

    def replies(self) -> Iterator[bytes]:
        """Pongs for the pings that came."""
        while self._frames is not None and self._frames.answers:
            content = self._frames.answers.pop(0)
            yield bytes((_PONG, 0x80 | len(content), 0, 0, 0, 0)) + content  # a mask of zeros changes nothing

    def _open(self, head: Head) -> None:
        if self._speech.handshake:
            if head.status != 101:
                raise Broken(f"the handshake was answered {head.status}")
            extensions = head.headers.get("sec-websocket-extensions", "").lower()
            deflate = EXTENSION in extensions
            self._frames = Frames(deflate, "server_no_context_takeover" not in extensions)
            self.coding = "deflate" if deflate else "identity"
            return
        if head.status != 200:
            raise Broken(f"the request was answered {head.status}")
        self._body = Body(head)
        self.coding = self._body.coding

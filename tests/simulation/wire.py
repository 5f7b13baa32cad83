"""A connection whose client reads when a test says so, with the write buffer of a real transport."""

from __future__ import annotations

import asyncio
from typing import Any

from .loop import SteppedLoop


class Wire(asyncio.Transport):
    """A connection to a client that reads when it is told to.

    Attributes:
        sent: what reached the client and was not taken yet.
        buffer: what is still with the server.
        stalled: the client does not read; else it reads all at once, or (``lazy``) at the end of the loop's turn.
        lost: the server was told that the connection is gone.
        most: bytes that ever lay in the buffer.
    """

    def __init__(self, loop: SteppedLoop, protocol: asyncio.Protocol, *, lazy: bool = False) -> None:
        super().__init__()
        self.loop = loop
        self.protocol = protocol
        self.lazy = lazy
        self.sent = bytearray()
        self.buffer = bytearray()
        self.stalled = self.paused = self.lost = False
        self.high, self.low = 1 << 16, 1 << 14
        self.most = 0
        self._closing = self._ended = self._scheduled = False
        self._reading = True
        self._unread: list[bytes] = []

    # ---- what the server calls ----

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self.high, self.low = high, high // 4 if low is None else low

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self._closing and not self.lost, "a write after close, which raises on uvloop"
        if not data:
            return
        self.buffer += data
        if not self.stalled and not self.lazy:
            self.take(len(self.buffer))
        elif len(self.buffer) > self.high and not self.paused:
            self.paused = True
            self.protocol.pause_writing()
        if self.lazy and not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn_ends)
        self.most = max(self.most, len(self.buffer))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        if not self.buffer:
            self.loop.call_soon(self.lose)

    def abort(self) -> None:
        self._closing = True
        self.buffer.clear()
        self.loop.call_soon(self.lose)

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        assert not self._closing
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        unread, self._unread = self._unread, []
        for data in unread:
            self.loop.call_soon(self.deliver, data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """The client hangs up once it has read everything."""
        self._ended = True
        if not self.buffer:
            self.loop.call_soon(self.lose)

    # ---- what the client does ----

    def take(self, count: int) -> None:
        """Read so many bytes."""
        self.sent += self.buffer[:count]
        del self.buffer[:count]
        if self.paused and len(self.buffer) <= self.low:
            self.paused = False
            if not self.lost:
                self.protocol.resume_writing()
        if (self._closing or self._ended) and not self.buffer:
            self.loop.call_soon(self.lose)

    def read_on(self) -> None:
        """Stop stalling."""
        self.stalled = False
        self.take(len(self.buffer))

    def deliver(self, data: bytes) -> None:
        """Send bytes to the server."""
        if self._closing or self.lost:
            return
        if self._reading:
            self.protocol.data_received(data)
        else:
            self._unread.append(data)

    def lose(self) -> None:
        """The connection is gone."""
        if not self.lost:
            self._closing = self.lost = True
            self.protocol.connection_lost(None)

    def cut(self) -> None:
        """The server is no more: what it had not sent yet is gone with it, and nobody is told."""
        self._closing = self.lost = True
        self.buffer.clear()

    def _turn_ends(self) -> None:
        self._scheduled = False
        if not self.stalled and not self.lost:
            self.take(len(self.buffer))

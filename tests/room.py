"""Bus, feed, fan-out and real sessions on a loop that a test turns by hand, each client with its witness."""

import asyncio
import json
import logging
from typing import Any

import pytest

from tick_gateway.bus import TickBus
from tick_gateway.commands import CommandSession
from tick_gateway.errors import InboxFull
from tick_gateway.fanout import FanOut
from tick_gateway.feed import Feed
from tick_gateway.params import Query, parse_query
from tick_gateway.session import Session
from tick_gateway.variant import Variant
from tick_gateway.wire import Framing
from tick_gateway.wire.ndjson import NDJSONFraming
from tick_gateway.wire.sse import SSEFraming
from tick_gateway.wire.websocket import PONG, WebSocketFraming

from .decoders import Chunked, EventStream, Frames, Lines, Message, masked
from .stepped import Clock, SteppedLoop, Wire
from .truth import Told, Truth
from .witness import Witness

HIGH_WATER = 2000
FLUSH_BYTES = 3000
LARGEST_TICK = 700
ENCODED_BYTES = 4000

SMALL: dict[str, object] = {
    "tick_gateway.fanout._FLUSH_BYTES": FLUSH_BYTES,
    "tick_gateway.session.HIGH_WATER": HIGH_WATER,
    "tick_gateway.bus.BATCH_TICKS": 4,
    "tick_gateway.bus.BATCH_BYTES": 1000,
    "tick_gateway.view.BATCH_MESSAGE_BYTES": 800,
    "tick_gateway.commands.BATCH_MESSAGE_BYTES": 800,
    "tick_gateway.commands._HISTORY_TICKS": 3,
}
"""Bounds so small that a few ticks reach them."""

SLICED: dict[str, object] = {
    "tick_gateway.fanout._SLICE_BYTES": 1,
    "tick_gateway.fanout._SLICE_SESSIONS": 1,
    "tick_gateway.fanout._PUMP_SECONDS": 0.0,
}
"""A turn of the loop after every write."""


class Log(logging.Handler):
    """What the gateway logs as an error is a failure."""

    def __init__(self, failures: list[dict[str, Any]]) -> None:
        super().__init__(logging.ERROR)
        self.failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        self.failures.append({"message": record.getMessage(), "exception": record.exc_info})


class Room:
    """Everything below HTTP, wired as the hub does it."""

    def __init__(self, *, sliced: bool = True, **limits: int) -> None:
        self.patches = pytest.MonkeyPatch()
        self.clock = Clock()
        for module in ("bus", "fanout", "session", "commands"):
            self.patches.setattr(f"tick_gateway.{module}.time", self.clock)
        for name, value in (SMALL | SLICED if sliced else SMALL).items():
            self.patches.setattr(name, value)
        self.patches.setattr(Feed.read, "__defaults__", (600,))
        self.patches.setattr("tick_gateway.bus.new_run_id", self._new_run_id)
        self.loop = SteppedLoop(self.clock)
        self.bus = TickBus(**limits)
        self.feed = Feed(self.bus)
        self.fanout = FanOut(self.bus, self.feed, encoded_bytes=ENCODED_BYTES)
        self.loop.call_soon(self.fanout.start)
        self.loop.turn()
        # Publishing from this thread is to meet a full inbox, as from any other.
        self.bus._collector = -1
        self.truth = Truth(self.bus)
        self.clients: list[Client] = []
        self.serial = self.named = 0
        self.failures: list[dict[str, Any]] = []  # what callbacks of the loop raised
        self.broken = False  # an assertion failed already
        self.log = Log(self.failures)
        logging.getLogger("tick_gateway").addHandler(self.log)
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))

    def close(self) -> None:
        self.patches.undo()
        logging.getLogger("tick_gateway").removeHandler(self.log)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.settle()
        self.loop.close()

    def _new_run_id(self) -> str:
        self.named += 1
        return f"auto-{self.named}"

    # ---- publishing ----

    def publish(self, t: int, size: int = 0, *, run: str | None = None, resends: bool = False) -> Told | None:
        """One tick; None where the inbox was full."""
        self.serial += 1
        pad = "x" * size
        data = b'{"t":%d,"u":%d,"a":[{"x":%d,"pad":"%s"}]}' % (t, self.serial, t % 7, pad.encode())
        home = self.bus.current
        try:
            assert self.bus.offer(t, data, run, resends=resends)
        except InboxFull:
            joins = home is not None and not home.ended and t > home.tip and run in (None, home.id)
            if joins and home is not None:
                self.truth.lives[home.id].drop(t)
            else:
                self.truth.strays.append(t)
            return None
        assert self.bus.current is not None
        told = Told(self.bus.current.id, t, self.serial, data, self.clock.time_ns() // 1_000_000)
        self.truth.take(told)
        return told

    # ---- time ----

    def look(self) -> None:
        """Let every client read what reached it."""
        self.broken = True
        assert not self.failures, self.failures
        for client in self.clients:
            client.look()
        self.broken = False

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.loop.turn()
            self.look()

    def advance(self, seconds: float) -> None:
        """Let time pass in small steps, so that what clients answer is in time."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.loop.advance(min(1.0, end - self.clock.now))
            self.settle()

    def settle(self) -> None:
        while True:
            self.loop.settle()
            self.look()
            if not self.loop.busy:
                return

    def drain(self, seconds: float = 5.0) -> None:
        """Shut down, as the server does."""
        self.truth.draining = True
        done: list[asyncio.Task[None]] = []
        self.loop.call_soon(lambda: done.append(self.loop.create_task(self.fanout.drain(seconds))))
        self.loop.turn()
        while not done[0].done():
            self.loop.turn()
            self.look()
            if not self.loop.busy:
                self.advance(0.5)
        done[0].result()
        self.advance(10.0)


class Client:
    """One reader, over as many connections as it makes."""

    def __init__(self, room: Room, kind: str, pairs: list[tuple[str, str]], *, lazy: bool = False) -> None:
        self.room = room
        self.kind = kind
        self.lazy = lazy
        self.commands = 0
        room.clients.append(self)
        query = parse_query(pairs)
        self.witness = Witness(room.truth, query.view, query, kind)
        self._open(query)

    def _open(self, query: Query) -> None:
        self.query = query
        framings: dict[str, Framing] = {
            "sse": SSEFraming(query.event, True),
            "ndjson": NDJSONFraming(True),
            "ws": WebSocketFraming(False),
            "bare": WebSocketFraming(True),
        }
        variant = Variant(framings[self.kind], query.view, query.run, query.heartbeat)
        make = CommandSession if self.kind in ("ws", "bare") else Session
        self.session: Session = make(self.room.fanout, variant, query)
        assert self.session.cursor is not None
        self.room.feed.place(self.session.cursor, self.room.clock.monotonic())
        run = self.room.feed.run_of(self.session.cursor)  # the head's Tick-Run
        self.witness.connect(query, run.id if run else None)
        if self.session.position is not None and not self.session.cursor.notices:
            self.witness.placed(self.session.position)
        self.chunked = Chunked()
        self.raw = bytearray()
        self.decoder: EventStream | Lines | Frames = (
            EventStream() if self.kind == "sse" else Lines() if self.kind == "ndjson" else Frames()
        )
        self.messages: list[Message] = []
        self.wire = Wire(self.room.loop, self.session, lazy=self.lazy)
        self.session.connection_made(self.wire)

    @property
    def commanding(self) -> bool:
        """Whether it can send commands now."""
        return self.kind == "ws" and self.connected

    @property
    def connected(self) -> bool:
        return not self.wire.is_closing()

    def look(self) -> None:
        """Read what reached it, as a client would: pings are answered, a close frame too."""
        data = bytes(self.wire.sent)
        self.wire.sent.clear()
        if self.kind in ("sse", "ndjson"):
            data = self.chunked.feed(data)
        self.raw += data
        for message in self.decoder.feed(data):
            self.messages.append(message)
            self.witness.see(message)
            if message.name == "ping":
                self.wire.deliver(masked(PONG, message.data))
            elif message.name == "close":
                self.wire.lose()

    def command(self, op: str, **members: Any) -> int:
        """Send a command; its ``id``."""
        self.commands += 1
        payload = {"op": op, "id": self.commands, **members}
        self.wire.deliver(masked(1, json.dumps(payload).encode()))
        return self.commands

    def leave(self) -> None:
        """Hang up. What was sent and not read is lost with the connection."""
        self.look()
        self.wire.lose()

    def come_back(self, pairs: list[tuple[str, str]]) -> None:
        """Connect again with the position that it knows, and parameters beside it."""
        if not self.wire.lost:
            self.leave()
        position = self.witness.position
        if position is not None:
            pairs = [("Last-Event-ID" if self.kind == "sse" else "from_t", str(position)), *pairs]
        query = parse_query(pairs)
        self.witness.view = query.view
        self.kind = self.witness.kind = "ws" if self.kind == "bare" else self.kind
        self._open(query)
